"""What the page shows of the models: accuracy, controls, sampling, slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from components.core.ledger.reader import OTHER, ModelSummary, is_dev, steps
from components.core.records import Score
from components.report.charts import Mark, Series, interval_bars, lines
from components.report.verdict import control_reading
from components.report.wording import NBSP, gain_interval, integer, interval, percent, points, words
from components.stats.differences import Difference, difference

RAMP = 4
"""Shades of the student's steps in the style sheet: the base model has the first, the fifth step and later ones the last."""


@dataclass(frozen=True)
class Figure:
    """A chart with its caption and its legend (class and name)."""

    svg: Markup
    title: str
    legend: Sequence[tuple[str, str]]
    note: str = ""


def styles(models: Sequence[ModelSummary]) -> dict[str, str]:
    """Name of each model to the CSS class that colours it wherever it appears."""
    student = {model.name: f"m{min(place, RAMP)}" for place, model in enumerate(steps(models))}
    return {model.name: "control" if model.role == "control" else student.get(model.name, "other") for model in models}


def what_it_is(model: ModelSummary, method: str) -> str:
    """A model in a few words.

    Args:
        model: The model.
        method: Loss of preference tuning, ``dpo`` for example; empty when unknown.
    """
    if model.same_as:
        return f"{model.same_as} unchanged: practice round {model.round} was left out"
    tuned = f"{method.upper()} on" if method else "preference tuning on"
    known = {
        "base": "base model, before any training here",
        "sft": "after supervised tuning on the teacher's solutions",
        "preference": f"after practice round {model.round}: {tuned} right and wrong answers of {model.parent}",
        "control": f"matched control of {model.control_of}: same start, same right answers, as many steps, no preference term",
        "champion": "champion of an earlier run",
        OTHER: "compared for reference",
    }
    rows = f" on {integer(model.rows)} rows" if model.rows else ""
    origin = f", trained from {model.parent}{rows}" if model.parent else f", trained{rows}" if rows else ""
    return known.get(model.role, f"{words(model.role)}{origin}")


def unmeasured(models: Sequence[ModelSummary], key: str | None, method: str) -> list[dict[str, str]]:
    """Models that the table of the main benchmark does not show: a verifier for example, or one whose evaluation is missing.

    Args:
        models: Models of the run.
        key: The main benchmark; None when there is none.
        method: Loss of preference tuning.
    """
    return [
        {"name": model.name, "style": styles(models)[model.name], "what": what_it_is(model, method)}
        for model in models
        if key not in model.benchmarks
    ]


def test_keys(models: Sequence[ModelSummary], main: str | None) -> list[str]:
    """The test sets, the main one first; all benchmarks when there is no test set."""
    keys = benchmark_keys(models, main)
    return [key for key in keys if not is_dev(key)] or keys


def benchmark_keys(models: Sequence[ModelSummary], main: str | None) -> list[str]:
    """All benchmarks: the main one first, then other test sets, then development sets."""
    keys = dict.fromkeys(key for model in models for key in model.benchmarks)
    return sorted(keys, key=lambda key: (key != main, is_dev(key)))


def accuracy(models: Sequence[ModelSummary], key: str, method: str) -> dict[str, Any]:
    """Card of one benchmark: chart, and a table of models with intervals and changes."""
    shown = [model for model in models if key in model.benchmarks]
    scores = {model.name: model.benchmarks[key] for model in shown}
    colours = styles(models)
    controls = {model.control_of: model.name for model in shown if model.control_of in scores}
    groups = [model for model in shown if model.control_of not in scores]
    series = [Series("Loop", "m3", marks=[_mark(scores[model.name], colours) for model in groups])]
    if controls:
        paired = [controls.get(model.name) for model in groups]
        series.append(Series("Matched control", "control", marks=[_mark(scores[name], colours) if name else Mark(None) for name in paired]))
    rows = []
    for model in shown:
        score = scores[model.name]
        change = difference(score, scores[model.parent]) if model.parent in scores and not model.same_as else None
        rows.append(
            {
                "name": model.name,
                "style": colours[model.name],
                "what": what_it_is(model, method),
                "accuracy": percent(score.pass_at_1),
                "interval": interval(score.low, score.high),
                "change": points(change.gain) if change else "",
                "since": model.parent if change else "",
                "clear": change.clear if change else False,
                "tokens": score.mean_tokens,
            }
        )
    first = next(iter(scores.values()))
    legend = [("m3", "the loop"), ("control", "matched SFT control")] if controls else []
    return {
        "name": key,
        "dev": is_dev(key),
        "n": integer(first.n),
        "figure": Figure(interval_bars(f"Accuracy on {key}", [model.name for model in groups], series), "Greedy accuracy, %", legend),
        "rows": rows,
    }


def _mark(score: Score, colours: Mapping[str, str]) -> Mark:
    text = f"{score.model}: {percent(score.pass_at_1)}, 95{NBSP}% interval {interval(score.low, score.high)}, {score.n} problems"
    return Mark(score.pass_at_1, score.low, score.high, text, colours[score.model])


def controls_table(differences: Sequence[Difference]) -> list[dict[str, Any]]:
    """Rows that set each preference arm beside its control."""
    return [
        {
            "benchmark": change.benchmark,
            "first": change.first,
            "second": change.second,
            "first_accuracy": percent(change.first_accuracy),
            "second_accuracy": percent(change.second_accuracy),
            "first_plain": _cell(change.first_accuracy),
            "second_plain": _cell(change.second_accuracy),
            "gain": points(change.gain),
            "interval": gain_interval(change.low, change.high),
            "reading": control_reading(change),
            "tone": "good" if change.low > 0 else "bad" if change.high < 0 else "neutral",
        }
        for change in differences
    ]


def _curve_models(models: Sequence[ModelSummary], key: str) -> list[ModelSummary]:
    """The loop's models and the last control: more lines than that cannot be told apart."""
    shown = [model for model in models if key in model.benchmarks]
    controls = [model for model in shown if model.role == "control"]
    return [model for model in shown if model.role != "control"] + controls[-1:]


def _curves(models: Sequence[ModelSummary], key: str, points_of: Callable[[Score], dict[str, float]]) -> list[Series]:
    found, colours = [], styles(models)
    for model in _curve_models(models, key):
        values = sorted((int(n), value) for n, value in points_of(model.benchmarks[key]).items())
        if len(values) > 1:
            found.append(Series(model.name, colours[model.name], points=[(float(n), value) for n, value in values]))
    return found


def sampling(models: Sequence[ModelSummary], key: str) -> dict[str, Any] | None:
    """Card of one benchmark's sample pool: Pass@N, majority@N, PassRatio@N; None when only greedy answers were taken."""
    pools = [model for model in models if key in model.benchmarks and model.benchmarks[key].samples]
    if not pools:
        return None
    figures = []
    for title, note, points_of in (
        ("Pass@N, %", "share of problems with at least one right answer among N samples", lambda score: score.pass_at_n),
        ("Majority@N, %", "share of problems where the most frequent of N answers is right", lambda score: score.majority_at_n),
    ):
        series = _curves(models, key, points_of)
        if series:
            labels = sorted({x for one in series for x, _ in one.points})
            labels = labels if len(labels) <= 6 else [x for x in labels if x in (1, 2) or x % 4 == 0][:9]
            svg = lines(
                f"{title.split(',')[0]} on {key}",
                series,
                percent=True,
                dots=True,
                x_labels=labels,
                x_title="N, samples per problem",
                tooltip=lambda one, x, y: f"{one.name}: {percent(y)} with {x:.0f} sample{'s' if x > 1 else ''}",
            )
            figures.append(Figure(svg, title, [(one.style, one.name) for one in series], note))
    table = []
    for model in pools:
        score = model.benchmarks[key]
        table.append(
            {
                "name": model.name,
                "style": styles(models)[model.name],
                "greedy": _cell(score.pass_at_1),
                "ratio": _cell(score.pass_ratio_at_n),
                "pass": _cell(score.pass_at_n.get(str(score.samples))),
                "majority": _cell(score.majority_at_n.get(str(score.samples))),
            }
        )
    return {"key": key, "samples": pools[-1].benchmarks[key].samples, "figures": figures, "rows": table}


def _cell(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f}"


def slices(models: Sequence[ModelSummary], key: str) -> dict[str, Any] | None:
    """Card of one benchmark cut by number of steps and by source; None when it cannot be cut in at least two."""
    shown, colours = _curve_models(models, key), styles(models)
    by_steps = _slice_names(shown, key, lambda score: score.by_steps)
    sources = _slice_names(shown, key, lambda score: score.by_source)
    by_steps.sort(key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0))
    numbers = [name for name in by_steps if name.isdigit()]
    figure = None
    if len(numbers) > 1:
        series = [
            Series(
                model.name,
                colours[model.name],
                points=[
                    (float(name), found["pass_at_1"]) for name in numbers if (found := model.benchmarks[key].by_steps.get(name)) is not None
                ],
            )
            for model in shown
            if model.benchmarks[key].by_steps
        ]
        svg = lines(
            f"Accuracy on {key} by number of reasoning steps",
            series,
            percent=True,
            dots=True,
            x_labels=[float(name) for name in numbers],
            x_title="reasoning steps of the problem",
            tooltip=lambda one, x, y: f"{one.name}: {percent(y)} of the problems with {x:.0f} step{'s' if x > 1 else ''}",
        )
        figure = Figure(svg, "Greedy accuracy by steps, %", [(one.style, one.name) for one in series])
    tables = []
    for title, names, part in (("steps", by_steps, "by_steps"), ("source", sources, "by_source")):
        if len(names) > 1:
            tables.append(
                {
                    "title": title,
                    "models": [(model.name, colours[model.name]) for model in shown],
                    "rows": [_slice_row(shown, key, part, name) for name in names],
                }
            )
    return {"key": key, "figure": figure, "tables": tables} if tables else None


def _slice_names(models: Sequence[ModelSummary], key: str, part: Callable[[Score], dict[str, dict[str, float]]]) -> list[str]:
    return list(dict.fromkeys(name for model in models for name in part(model.benchmarks[key])))


def _slice_row(models: Sequence[ModelSummary], key: str, part: str, name: str) -> dict[str, Any]:
    cells = [getattr(model.benchmarks[key], part).get(name) for model in models]
    return {
        "name": name,
        "n": integer(max((cell["n"] for cell in cells if cell), default=0)),
        "cells": [_cell(cell["pass_at_1"]) if cell else "" for cell in cells],
    }
