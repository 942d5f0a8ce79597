"""What the page shows of the run: rows, training, teacher, time, contamination, judge, parameters, lineage."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from components.core.ledger.reader import SUCCEEDED, Ledger, Task
from components.core.records import Usage
from components.core.redaction import redact
from components.report.charts import Series, lines
from components.report.model_views import Figure, styles
from components.report.wording import dollars, duration, integer, listing, number, percent, words

SHARES = {"share", "precision", "recall", "rate", "ratio", "accuracy", "agrees"}
"""A count with one of these in its name is shown as per cent."""


def facts(ledger: Ledger) -> list[str]:
    """The line under the title: when, how much, how long, what it cost."""
    if not ledger.records:
        return []
    started = min(datetime.datetime.fromisoformat(record.started_at) for record in ledger.records)
    line = [f"{started.day} {started:%B %Y}", f"{len(ledger.records)} tasks", f"{duration(ledger.seconds)} of work"]
    usage = ledger.usage()
    if usage.requests or usage.cache_hits:
        line.append(f"{integer(usage.requests)} teacher requests for {dollars(usage.usd)}")
    return line


def flow(tasks: Iterable[Task]) -> dict[str, Any]:
    """Rows in, kept and dropped by task and reason; tasks that handed on what they got are only named."""
    table, unchanged = [], []
    for task in tasks:
        if not task.dropped and task.rows_kept == task.rows_in and task.status == SUCCEEDED:
            unchanged += [task.name] if task.rows_in else []
            continue
        dropped = sum(task.dropped.values())
        whole = task.rows_kept + dropped or 1
        table.append(
            {
                "task": task.name,
                "status": "" if task.status == SUCCEEDED else task.status,
                "shards": task.shards,
                "rows_in": integer(task.rows_in),
                "kept": integer(task.rows_kept),
                "dropped": integer(dropped),
                "kept_share": round(100 * task.rows_kept / whole, 2),
                "reasons": [(words(reason), integer(count)) for reason, count in sorted(task.dropped.items(), key=lambda item: -item[1])],
            }
        )
    return {"rows": table, "unchanged": listing(unchanged)}


def counts(tasks: Iterable[Task], stage: str, names: Callable[[str], bool] = lambda name: True) -> list[dict[str, Any]]:
    """A stage's own figures, task by task."""
    return [
        {"task": task.name, "figures": [(words(name), _count(name, value)) for name, value in task.counts.items() if names(name)]}
        for task in tasks
        if task.stage == stage and any(names(name) for name in task.counts)
    ]


def _count(name: str, value: float) -> str:
    return percent(value) if not SHARES.isdisjoint(name.split("_")) and 0 <= value <= 1 else number(value)


def teacher(tasks: Iterable[Task], total: Usage) -> dict[str, Any] | None:
    """Requests, cache hits, tokens and cost by task; None when no task asked the teacher."""
    asked = [task for task in tasks if task.usage and (task.usage.requests or task.usage.cache_hits or task.usage.failures)]
    if not asked:
        return None
    hits = total.cache_hits / max(total.cache_hits + total.requests, 1)
    return {
        "rows": [
            _usage_row(task.name if task.status == SUCCEEDED else f"{task.name} ({task.status})", task.usage)
            for task in asked
            if task.usage
        ],
        "total": _usage_row("together", total),
        "hits": percent(hits, 0),
        "retries": integer(total.retries),
        "failures": integer(total.failures),
    }


def _usage_row(name: str, usage: Usage) -> dict[str, str]:
    return {
        "task": name,
        "requests": integer(usage.requests),
        "hits": integer(usage.cache_hits),
        "prompt": integer(usage.prompt_tokens),
        "completion": integer(usage.completion_tokens),
        "usd": dollars(usage.usd),
    }


def timing(tasks: Sequence[Task]) -> dict[str, Any]:
    """Time by task, with bars relative to the longest."""
    longest = max((task.seconds for task in tasks), default=0.0) or 1.0
    return {
        "rows": [
            {"task": task.name, "shards": task.shards, "text": duration(task.seconds), "share": round(100 * task.seconds / longest, 2)}
            for task in tasks
        ],
        "total": duration(sum(task.seconds for task in tasks)),
    }


def training(ledger: Ledger) -> list[dict[str, Any]]:
    """Training curves: loss of the supervised stages; loss, rewards and response length of preference tuning and its control.

    Curves of other stages, such as a verifier's training, come after these, a group a stage.
    """
    trained, colours = [task for task in ledger.tasks if task.curves], styles(ledger.models)
    supervised = [
        figure
        for stage, name in (("base_model", "Base model: loss"), ("sft", "Supervised tuning: loss"))
        if (figure := _family([task for task in trained if task.stage == stage], name, "", FAMILIES[0][2], colours)) is not None
    ]
    tuned = [task for task in trained if task.stage == "preference_tuning"]
    preference = [figure for caption, note, wanted in FAMILIES if (figure := _family(tuned, caption, note, wanted, colours)) is not None]
    groups = [("Supervised training", supervised), ("Preference tuning and its matched control", preference)]
    further = dict.fromkeys(task.stage for task in trained if task.stage not in ("base_model", "sft", "preference_tuning"))
    for stage in further:
        curves = [task for task in trained if task.stage == stage]
        found = [_family(curves, caption, note, wanted, colours) for caption, note, wanted in FAMILIES]
        groups.append((f"Training: {words(stage)}", [figure for figure in found if figure is not None]))
    return [{"title": title, "figures": figures} for title, figures in groups if figures]


FAMILIES: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("Loss", "", lambda name: name in ("loss", "eval_loss")),
    ("Reward margin", "reward of the chosen answer minus reward of the rejected one", lambda name: name == "rewards/margins"),
    ("Chosen answer ranked above rejected, share", "", lambda name: name == "rewards/accuracies"),
    (
        "Response length, tokens",
        "drift here means that the model learns to talk more, or less, not better",
        lambda name: name.endswith(("length", "_tokens")) and name != "num_tokens",
    ),
)
"""Charts of the training log: caption, note and the keys of the log that belong to it."""


def _family(tasks: Sequence[Task], caption: str, note: str, wanted: Callable[[str], bool], colours: Mapping[str, str]) -> Figure | None:
    series = []
    for task in tasks:
        keys = sorted({key for row in task.curves for key in row if wanted(key)})
        for index, key in enumerate(keys):
            points = [(float(row.get("step", at)), row[key]) for at, row in enumerate(task.curves, start=1) if key in row]
            if len(points) > 1:
                # A task that failed has made no model.
                model = task.models[0].id if task.models else task.name
                name = model if len(keys) == 1 else f"{model}, {words(key)}"
                series.append(Series(name, f"{colours.get(model, 'other')} dash{index}", points=points, smooth=True))
    if not series:
        return None
    return Figure(lines(caption, series, x_title="step"), caption, [(one.style, one.name) for one in series], note)


def pair_texts(chosen: str, rejected: str) -> dict[str, str]:
    """Split two answers at the first word in which they differ."""
    same = sum(1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False)))
    shared = chosen[: max(chosen.rfind(" ", 0, same), chosen.rfind("\n", 0, same)) + 1]
    return {"shared": shared, "chosen": chosen[len(shared) :], "rejected": rejected[len(shared) :]}


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, text) rows; secrets are left out."""
    if isinstance(value, Mapping):
        return [row for key, item in value.items() for row in flatten(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return [row for index, item in enumerate(value, start=1) for row in flatten(item, f"{prefix}.{index}")]
    text = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
    return [(prefix, text if text else "—")]


def option_groups(tasks: Iterable[Task]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The options that every stage was given."""
    return [(task.name, flatten(redact(task.options))) for task in tasks if task.options]


def lineage_groups(tasks: Iterable[Task]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What each task worked from: seed files and licences, prompts, digests."""
    groups = []
    for task in tasks:
        rows = flatten(redact(task.lineage)) + [(f"prompt {name}", version) for name, version in task.prompts.items()]
        if rows:
            groups.append((task.name, rows))
    return groups
