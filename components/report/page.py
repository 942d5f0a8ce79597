"""The report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from components.core.ledger.reader import Ledger, steps
from components.report.model_views import accuracy, benchmark_keys, controls_table, sampling, slices, test_keys, unmeasured
from components.report.rounds import rounds_left_out
from components.report.run_views import (
    counts,
    facts,
    flatten,
    flow,
    lineage_groups,
    option_groups,
    pair_texts,
    teacher,
    timing,
    training,
)
from components.report.summary import Summary
from components.report.wording import gain_interval, integer, number, percent, points

CARDS = (
    *("changed", "accuracy", "models", "control", "left-out", "sampling"),
    *("slices", "rows", "contamination", "problems", "practice", "pairs"),
    *("training", "answers", "teacher", "time", "promotion", "details"),
)
"""All cards, in the order of a report that shows every one that has something to say."""

EXAMPLES = 4
"""Rows shown of each kind of example."""

MATCHES = 12
"""Contamination matches shown."""

MAX_TEXT = 1600
"""Characters shown of a text; the page stays light and the rows themselves are in the run's artifacts."""


def _clip(text: Any) -> str:
    whole = "" if text is None else str(text)
    return whole if len(whole) <= MAX_TEXT else whole[:MAX_TEXT].rstrip() + " […]"


def _template(name: str) -> str:
    return (files("components.report") / "templates" / name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Jinja with autoescape on for everything: texts come from models and data sets that nobody vouches for."""
    jinja = Environment(loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters.update(clip=_clip, points=points, percent=percent, number=number)
    return jinja


def render(ledger: Ledger, summary: Summary, decision: Mapping[str, Any] | None, cards: Sequence[str] = CARDS) -> str:
    """Write the page.

    Args:
        ledger: Ledger of the run.
        summary: The figures made from it.
        decision: The promotion decision as JSON; None when there is none.
        cards: Names of the cards, in their order; one that has nothing to say is left out.

    Returns:
        HTML that loads nothing, runs no script and is the same for the same input.
    """
    tasks, models = ledger.tasks, ledger.models
    keys = benchmark_keys(models, summary.main_benchmark)
    tests = test_keys(models, summary.main_benchmark)
    tuned = [task for task in tasks if task.stage == "preference_tuning"]
    method = next((str(task.lineage["method"]) for task in tuned if "method" in task.lineage), "")
    final = _final(summary)
    shown = {
        kind: ledger.examples(kind, EXAMPLES, **({"stage": "evaluation", "model": final} if kind.startswith("result_") else {}))
        for kind in EXAMPLE_KINDS
    }
    context = {
        "cards": cards,
        "css": Markup(_template("report.css")),
        "verdict": summary.verdict,
        "facts": facts(ledger),
        "tiles": tiles(summary, decision),
        "benchmarks": [accuracy(models, key, method) for key in keys],
        "duels": controls_table([change for change in summary.controls if change.benchmark == summary.main_benchmark]),
        "controls": controls_table([change for change in summary.controls if change.benchmark != summary.main_benchmark]),
        "rounds_left_out": rounds_left_out(models),
        "unmeasured": unmeasured(models, summary.main_benchmark, method),
        "sampling": [card for key in tests if (card := sampling(models, key))],
        "slices": [card for key in tests if (card := slices(models, key))],
        "training": training(ledger),
        "flow": flow(tasks),
        "preferences": counts(tasks, "preferences"),
        "judging": counts(tasks, "judging"),
        "contamination": counts(tasks, "contamination", lambda name: "_tests_" not in name),
        "tuned": counts(tasks, "preference_tuning"),
        "checked": any(task.stage == "contamination" for task in tasks),
        "matches": ledger.examples("match", MATCHES, stage="contamination"),
        "examples": shown,
        "pairs": [{**pair, **pair_texts(_clip(pair["chosen"]), _clip(pair["rejected"]))} for pair in shown["pair"]],
        "teacher": teacher(tasks, summary.usage),
        "timing": timing(tasks),
        "decision": decision,
        "comparisons": comparisons(decision),
        "lineage": lineage_groups(tasks),
        "options": option_groups(tasks),
        "changed": flatten(summary.changed),
    }
    return environment().get_template("report.html").render(context)


def _final(summary: Summary) -> str:
    measured = [model for model in steps(summary.models) if model.benchmarks]
    return measured[-1].name if measured else "none"


EXAMPLE_KINDS = ("seed", "problem", "suggestion", "demonstration", "right", "wrong", "pair", "result_right", "result_wrong")


def tiles(summary: Summary, decision: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """The three or four figures that a reader wants first."""
    cards = []
    student = [model for model in steps(summary.models) if summary.main_benchmark in model.benchmarks]
    if student and summary.main_benchmark:
        last = student[-1].benchmarks[summary.main_benchmark]
        before = (
            f"{student[0].name}: {percent(student[0].benchmarks[summary.main_benchmark].pass_at_1)}"
            if len(student) > 1
            else f"n = {last.n}"
        )
        cards.append({"label": f"{last.model} on {summary.main_benchmark}", "value": percent(last.pass_at_1), "note": before, "tone": ""})
    main = [change for change in summary.growth if change.benchmark == summary.main_benchmark]
    if main:
        tone = "good" if main[0].low > 0 else "bad" if main[0].high < 0 else "neutral"
        note = f"points, 95 % interval {gain_interval(main[0].low, main[0].high)}"
        cards.append({"label": f"gain over {main[0].second}", "value": points(main[0].gain), "note": note, "tone": tone})
    pairs = [change for change in summary.controls if change.benchmark == summary.main_benchmark]
    if pairs:
        last_pair = pairs[-1]
        tone = "good" if last_pair.low > 0 else "bad" if last_pair.high < 0 else "neutral"
        note = f"points, 95 % interval {gain_interval(last_pair.low, last_pair.high)}"
        cards.append({"label": f"{last_pair.first} over its SFT control", "value": points(last_pair.gain), "note": note, "tone": tone})
    if decision is not None:
        promoted = bool(decision.get("promoted"))
        note = "the champion pointer moves" if promoted else "the champion stays as it was"
        cards.append({"label": "promotion", "value": "yes" if promoted else "no", "note": note, "tone": "good" if promoted else "neutral"})
    return cards


def comparisons(decision: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The paired comparisons behind the promotion decision."""
    return [
        {
            "opponent": item["opponent"],
            "n": integer(item["n"]),
            "candidate": percent(item["candidate_accuracy"]),
            "accuracy": percent(item["opponent_accuracy"]),
            "gain": points(item["gain"]),
            "interval": gain_interval(item["low"], item["high"]),
            "p": f"{item['p_value']:.2g}",
            "won": integer(item["only_candidate"]),
            "lost": integer(item["only_opponent"]),
        }
        for item in (decision or {}).get("comparisons", [])
    ]
