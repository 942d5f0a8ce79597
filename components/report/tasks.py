"""The ledger as a reader thinks of it: shards of a task put together, models in their order."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from components.core.records import Score, StageRecord, Usage

RATIO_WORDS = {"share", "precision", "recall", "rate", "ratio", "mean", "accuracy", "agrees"}
"""A count with one of these in its name is averaged over shards; every other count is added up."""

SAME_IN_ALL_SHARDS = ("_n", "_undecided")
"""Endings of counts that every shard measures on the same rows: averaged as well."""


@dataclass
class Task:
    """One task of the run with all its shards."""

    stage: str
    name: str
    shards: int = 0
    seconds: float = 0.0
    """Wall time of all shards added up."""
    rows_in: int = 0
    rows_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    options: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    curves: list[dict[str, float]] = field(default_factory=list)
    lineage: dict[str, Any] = field(default_factory=dict)


def _is_ratio(name: str) -> bool:
    return not RATIO_WORDS.isdisjoint(name.split("_")) or name.endswith(SAME_IN_ALL_SHARDS)


def group_tasks(records: Iterable[StageRecord]) -> list[Task]:
    """Put the shards of each task together, in the order in which tasks first appear in the ledger."""
    tasks: dict[tuple[str, str], Task] = {}
    weights: dict[tuple[str, str, str], float] = {}
    for record in records:
        key = (record.stage, record.task)
        task = tasks.setdefault(key, Task(stage=record.stage, name=record.task))
        task.shards += 1
        task.seconds += record.seconds
        task.rows_in += record.rows_in
        task.rows_kept += record.rows_kept
        for reason, count in record.dropped.items():
            task.dropped[reason] = task.dropped.get(reason, 0) + count
        for name, value in record.counts.items():
            if _is_ratio(name):
                weight = float(record.rows_in or 1)
                before = weights.get((*key, name), 0.0)
                task.counts[name] = (task.counts.get(name, 0.0) * before + value * weight) / (before + weight)
                weights[(*key, name)] = before + weight
            else:
                task.counts[name] = task.counts.get(name, 0.0) + value
        if record.usage is not None:
            task.usage = record.usage if task.usage is None else task.usage + record.usage
        task.options = task.options or record.options
        task.prompts.update(record.prompts)
        task.curves.extend(record.curves)
        task.lineage.update(record.lineage)
    return list(tasks.values())


def examples(records: Iterable[StageRecord], kind: str, limit: int) -> list[dict[str, Any]]:
    """Rows of one kind that tasks kept for people to read, taken from the tasks in turn, at most ``limit``, each once."""
    pools = [list(record.examples.get(kind, [])) for record in records]
    chosen: list[dict[str, Any]] = []
    while len(chosen) < limit and any(pools):
        for pool in pools:
            if pool and len(chosen) < limit:
                row = pool.pop(0)
                if row not in chosen:
                    chosen.append(row)
    return chosen


def latest_scores(records: Iterable[StageRecord]) -> list[Score]:
    """Scores of the ledger; of several for the same model and benchmark the last one counts."""
    scores: dict[tuple[str, str], Score] = {}
    for record in records:
        for score in record.scores:
            scores[(score.model, score.benchmark)] = score
    return list(scores.values())


def model_round(name: str) -> int | None:
    """Number in the name of a model of the loop: 2 for ``M2`` and ``M2-control``, None for other names."""
    match = re.fullmatch(r"M(\d+)(-control)?", name)
    return int(match.group(1)) if match else None


def model_role(name: str) -> str:
    """What a model is in the loop: ``base``, ``sft``, ``preference``, ``control`` or ``other``."""
    number = model_round(name)
    if number is None:
        return "other"
    if name.endswith("-control"):
        return "control"
    return {0: "base", 1: "sft"}.get(number, "preference")


def model_order(name: str) -> tuple[int, int, str]:
    """Sort key: M0, M1, M2, M2-control, M3, ..., then other names."""
    number = model_round(name)
    return (number if number is not None else 10_000, int(name.endswith("-control")), name)
