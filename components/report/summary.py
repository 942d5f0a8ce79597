"""The report's figures as one JSON document, for programs; the page shows the same figures to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.records import Record, Score, StageRecord, Usage
from components.report.rounds import rounds_left_out
from components.report.statistics import Difference, difference, is_dev
from components.report.tasks import group_tasks, latest_scores, model_order, model_role, model_round

SCHEMA = "tutorloop.report/1"


class ModelSummary(Record, frozen=True, kw_only=True):
    """All scores of one model."""

    name: str
    role: str
    """``base``, ``sft``, ``preference``, ``control`` or ``other``."""
    benchmarks: dict[str, Score]
    """Benchmark to score: ``pass_at_1``, ``n``, ``low``, ``high``, ``pass_at_n``, ``pass_ratio_at_n``, ``majority_at_n``, ...

    Names of development sets end in ``-dev``.
    """
    same_as: str = ""
    """The model that this one is, unchanged, where its practice round was left out."""
    left_out: str = ""
    """Why it was."""


class StageSummary(Record, frozen=True, kw_only=True):
    """What one task did, shard by shard."""

    task: str
    stage: str
    shard: str
    status: str
    seconds: float
    rows_in: int
    rows_kept: int
    dropped: dict[str, int]
    left_out: str = ""


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
    """Final model against the base model, on every benchmark that both were measured on."""
    controls: list[Difference]
    """Preference arm against its matched control, every round and benchmark."""
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


def summarise_models(records: Sequence[StageRecord]) -> list[ModelSummary]:
    """Scores by model, models in the order of the loop."""
    by_model: dict[str, dict[str, Score]] = {}
    for score in latest_scores(records):
        by_model.setdefault(score.model, {})[score.benchmark] = score
    same = {name: round_ for round_ in rounds_left_out(records) for name in round_.models}
    return [
        ModelSummary(
            name=name,
            role=model_role(name),
            benchmarks=by_model[name],
            same_as=same[name].kept if name in same else "",
            left_out=same[name].reason if name in same else "",
        )
        for name in sorted(by_model, key=model_order)
    ]


def main_benchmark(models: Sequence[ModelSummary]) -> str | None:
    """The benchmark to speak of first: measured for the most models, a test set before a dev set, then the largest."""
    ranks: dict[str, tuple[int, bool, int]] = {}
    for model in models:
        for key, score in model.benchmarks.items():
            ranks[key] = (ranks.get(key, (0, False, 0))[0] + 1, not is_dev(key), score.n)
    return max(ranks, key=lambda key: (ranks[key][1], ranks[key][0], ranks[key][2])) if ranks else None


def arm(models: Sequence[ModelSummary]) -> list[ModelSummary]:
    """The models of the loop itself (M0, M1, ...) without controls and others."""
    return [model for model in models if model.role in ("base", "sft", "preference")]


def growth(models: Sequence[ModelSummary]) -> list[Difference]:
    """The loop's last model against its first, on every benchmark that both were measured on."""
    loop = arm(models)
    if len(loop) < 2:
        return []
    first, last = loop[0], loop[-1]
    return [difference(last.benchmarks[key], first.benchmarks[key]) for key in last.benchmarks if key in first.benchmarks]


def control_differences(models: Sequence[ModelSummary]) -> list[Difference]:
    """Every preference model against the control of its round, on every benchmark that both were measured on.

    Those of a round that was left out are one model, and say nothing.
    """
    controls = {model_round(model.name): model for model in models if model.role == "control"}
    found: list[Difference] = []
    for model in models:
        control = controls.get(model_round(model.name))
        if model.role != "preference" or model.same_as or control is None:
            continue
        found += [difference(model.benchmarks[key], control.benchmarks[key]) for key in model.benchmarks if key in control.benchmarks]
    return found


def total_usage(records: Sequence[StageRecord]) -> Usage:
    """Teacher usage of all tasks together."""
    return sum((record.usage for record in records if record.usage is not None), Usage())


def contamination_counts(records: Sequence[StageRecord]) -> dict[str, float]:
    """What the contamination stage counted; empty when it did not run."""
    figures: dict[str, float] = {}
    for task in group_tasks(record for record in records if record.stage == "contamination"):
        figures.update({"rows_in": task.rows_in, "rows_kept": task.rows_kept, **task.counts})
        figures.update({f"dropped_{reason}": count for reason, count in task.dropped.items()})
    return figures


def summarise(records: Sequence[StageRecord], decision: Mapping[str, Any] | None, verdict: Verdict) -> Summary:
    """Put the summary together.

    Args:
        records: The ledger.
        decision: The promotion decision as JSON; None when there is none.
        verdict: What the run shows, in words.
    """
    models = summarise_models(records)
    return Summary(
        verdict=verdict,
        main_benchmark=main_benchmark(models),
        models=models,
        growth=growth(models),
        controls=control_differences(models),
        usage=total_usage(records),
        stages=[
            StageSummary(
                task=record.task,
                stage=record.stage,
                shard=record.shard,
                status=record.status,
                seconds=record.seconds,
                rows_in=record.rows_in,
                rows_kept=record.rows_kept,
                dropped=record.dropped,
                left_out=record.left_out,
            )
            for record in records
        ],
        contamination=contamination_counts(records),
        promotion=dict(decision) if decision else None,
    )
