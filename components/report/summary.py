"""The report's figures as one JSON document, for programs; the page shows the same figures to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.ledger.reader import Ledger, ModelSummary, StageSummary, is_dev, steps
from components.core.records import Record, Usage
from components.stats.differences import Difference, difference

SCHEMA = "tutorloop.report/1"


class Verdict(Record, frozen=True, kw_only=True):
    """What the run shows, in words."""

    headline: str
    tone: str
    """``good``, ``neutral`` or ``bad``."""
    sentences: list[str]


class Summary(Record, frozen=True, kw_only=True):
    """Everything that the report says in figures."""

    schema: str = SCHEMA
    verdict: Verdict
    main_benchmark: str | None
    """The benchmark that the verdict speaks of: the largest test set."""
    models: list[ModelSummary]
    growth: list[Difference]
    """Last step of the student against the first (the base model), on every benchmark that two of its steps were measured on."""
    controls: list[Difference]
    """Each model against its control, every round and benchmark."""
    usage: Usage
    """Of the teacher, all stages together."""
    stages: list[StageSummary]
    contamination: dict[str, float]
    """Counts of the contamination stage: rows in and kept, dropped rows by reason and the stage's own counts."""
    promotion: dict[str, Any] | None
    """The promotion decision; None when there is none."""
    figures: dict[str, float] = {}
    """What a person compares between runs, by name (``components.report.figures``)."""
    changed: dict[str, Any] = {}
    """What the run does differently from its profile, by dotted name of the option."""


def main_benchmark(models: Sequence[ModelSummary]) -> str | None:
    """The benchmark to speak of first: measured for the most steps of the student, a test set before a dev set, then the largest."""
    ranks: dict[str, tuple[int, bool, int]] = {}
    for model in steps(models) or models:
        for key, score in model.benchmarks.items():
            ranks[key] = (ranks.get(key, (0, False, 0))[0] + 1, not is_dev(key), score.n)
    return max(ranks, key=lambda key: (ranks[key][1], ranks[key][0], ranks[key][2])) if ranks else None


def growth(models: Sequence[ModelSummary]) -> list[Difference]:
    """The last step of the student against the first one, on every benchmark that two of its steps were measured on."""
    student = steps(models)
    found: list[Difference] = []
    for key in dict.fromkeys(key for model in reversed(student) for key in model.benchmarks):
        measured = [model for model in student if key in model.benchmarks]
        if len(measured) > 1:
            found.append(difference(measured[-1].benchmarks[key], measured[0].benchmarks[key]))
    return found


def control_differences(models: Sequence[ModelSummary]) -> list[Difference]:
    """Every model against its control, on every benchmark that both were measured on.

    Those of a round that was left out are one model, and say nothing.
    """
    controls = {model.control_of: model for model in models if model.control_of}
    found: list[Difference] = []
    for model in models:
        control = controls.get(model.name)
        if model.same_as or control is None:
            continue
        found += [difference(model.benchmarks[key], control.benchmarks[key]) for key in model.benchmarks if key in control.benchmarks]
    return found


def contamination_counts(ledger: Ledger) -> dict[str, float]:
    """What the contamination stage counted; empty when it did not run."""
    figures: dict[str, float] = {}
    for task in ledger.of_stage("contamination"):
        figures.update({"rows_in": task.rows_in, "rows_kept": task.rows_kept, **task.counts})
        figures.update({f"dropped_{reason}": count for reason, count in task.dropped.items()})
    return figures


def summarise(ledger: Ledger, decision: Mapping[str, Any] | None, verdict: Verdict) -> Summary:
    """Put the summary together.

    Args:
        ledger: Ledger of the run.
        decision: The promotion decision as JSON; None when there is none.
        verdict: What the run shows, in words.
    """
    return Summary(
        verdict=verdict,
        main_benchmark=main_benchmark(ledger.models),
        models=ledger.models,
        growth=growth(ledger.models),
        controls=control_differences(ledger.models),
        usage=ledger.usage(),
        stages=ledger.stages(),
        contamination=contamination_counts(ledger),
        promotion=dict(decision) if decision else None,
    )
