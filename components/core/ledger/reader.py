"""The one reader of what tasks record: models with their scores, tasks, rows and usage.

Report, lineage card, run record and promotion read a ledger through it, so that a sum is made in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from components.core.records import ModelEntry, Record, Score, StageRecord, Usage

SUCCEEDED, FAILED, RUNNING, STOPPED = "succeeded", "failed", "running", "stopped"
"""States of a task; ``stopped`` is one that was still at work when its run had ended."""

OTHER = "other"
"""Role of a model that has scores and no entry: nothing is known of it."""
APART = frozenset({"control", "champion", "verifier", "generator", "judge", OTHER})
"""Roles of models that are no step of the student."""

RATIO_WORDS = {"share", "precision", "recall", "rate", "ratio", "mean", "accuracy", "agrees"}
"""A count with one of these in its name is averaged over shards; every other count is added up."""

SAME_IN_ALL_SHARDS = ("_n", "_undecided")
"""Endings of counts that every shard measures on the same rows: averaged as well."""


class ModelSummary(Record, frozen=True, kw_only=True):
    """A model of the run with all its scores: its :class:`ModelEntry`, read together with the records around it."""

    name: str
    """``id`` of the entry."""
    role: str = OTHER
    parent: str = ""
    stage: str = ""
    round: int = 0
    arm: str = ""
    rows: int = 0
    parameters: int = 0
    control_of: str = ""
    same_as: str = ""
    left_out: str = ""
    """Why its training was left out, where it is the same as its parent."""
    benchmarks: dict[str, Score] = {}
    """Benchmark to score. Names of development sets end in ``-dev``."""

    @property
    def is_step(self) -> bool:
        """Whether the model is a step of the student, from the base model to the last one."""
        return self.role not in APART


class StageSummary(Record, frozen=True, kw_only=True):
    """Rows and time of one task, shard by shard."""

    stage: str
    task: str
    shard: str = "0/1"
    round: int = 0
    status: str = SUCCEEDED
    """``succeeded``, ``failed``, or ``stopped``: still at work when the run ended."""
    seconds: float
    cached: bool | None = None
    """Whether KFP's cache served it, so that the figures are those of the run that did the work; None where the reader cannot know."""
    rows_in: int = 0
    rows_kept: int = 0
    dropped: dict[str, int] = {}
    counts: dict[str, float] = {}
    left_out: str = ""
    """Why the task left out what it is for; empty where it did its work."""


@dataclass
class Task:
    """One task of the run with all its shards."""

    stage: str
    name: str
    shards: int = 0
    round: int = 0
    status: str = SUCCEEDED
    """That of the shard that fared worst."""
    seconds: float = 0.0
    """Wall time of all shards added up."""
    rows_in: int = 0
    rows_kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    usage: Usage | None = None
    left_out: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    curves: list[dict[str, float]] = field(default_factory=list)
    models: list[ModelEntry] = field(default_factory=list)
    lineage: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """What the tasks of a run recorded.

    Of a task that was tried several times the last attempt counts; what the failed ones cost counts as well, since it was paid.

    Args:
        records: One a task, shard and attempt, in the order in which the tasks belong.

    Attributes:
        records: One a task and shard.
    """

    def __init__(self, records: Iterable[StageRecord]) -> None:
        self.records: list[StageRecord] = []
        self._attempts: list[StageRecord] = []
        place: dict[tuple[str, str, str], int] = {}
        for record in records:
            key = (record.stage, record.task, record.shard)
            before = place.get(key)
            if before is None or self.records[before].status == SUCCEEDED == record.status:
                place[key] = len(self.records)
                self.records.append(record)
            elif record.status == SUCCEEDED or (
                self.records[before].status != SUCCEEDED and record.started_at >= self.records[before].started_at
            ):
                self._attempts.append(self.records[before])
                self.records[before] = record
            else:
                self._attempts.append(record)

    @cached_property
    def models(self) -> list[ModelSummary]:
        """All models, in the order in which the ledger enters them; then those that only scores tell of."""
        entries: dict[str, ModelEntry] = {entry.id: entry for record in self.records for entry in record.models}
        scores: dict[str, dict[str, Score]] = {}
        for record in self.records:
            for score in record.scores:
                scores.setdefault(score.model, {})[score.benchmark] = score
        entries |= {name: ModelEntry(id=name, role=OTHER) for name in scores if name not in entries}
        return [self._summary(entry, scores.get(entry.id, {})) for entry in entries.values()]

    def _summary(self, entry: ModelEntry, scores: dict[str, Score]) -> ModelSummary:
        fields = {name: getattr(entry, name) for name in entry.__struct_fields__ if name != "id"}
        why = [record.left_out for record in self.records if entry.same_as and entry.round and record.round == entry.round]
        return ModelSummary(name=entry.id, left_out="; ".join(dict.fromkeys(filter(None, why))), benchmarks=scores, **fields)

    @cached_property
    def tasks(self) -> list[Task]:
        """The tasks with their shards put together, in the order in which they first appear."""
        tasks: dict[tuple[str, str], Task] = {}
        weights: dict[tuple[str, str, str], float] = {}
        for record in self.records:
            key = (record.stage, record.task)
            task = tasks.setdefault(key, Task(stage=record.stage, name=record.task, round=record.round))
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
            task.status = _worse(task.status, _ended(record))
            task.left_out = task.left_out or record.left_out
            task.options = task.options or record.options
            task.prompts.update(record.prompts)
            task.curves.extend(record.curves)
            task.models.extend(record.models)
            task.lineage.update(record.lineage)
        for record in (*self.records, *self._attempts):
            if record.usage is not None:
                task = tasks[record.stage, record.task]
                task.usage = record.usage if task.usage is None else task.usage + record.usage
        return list(tasks.values())

    def usage(self, since: str = "") -> Usage:
        """What was asked of the teacher, all tasks and attempts together.

        Args:
            since: Only tasks that began then or later (ISO 8601), without those that a run took over from earlier ones; empty for all.
        """
        everything = (*self.records, *self._attempts)
        return sum((record.usage for record in everything if record.usage is not None and record.started_at >= since), Usage())

    @property
    def seconds(self) -> float:
        """Wall time of all tasks added up."""
        return sum(record.seconds for record in self.records)

    @cached_property
    def seconds_by_stage(self) -> dict[str, float]:
        """Wall time by stage."""
        found: dict[str, float] = {}
        for record in self.records:
            found[record.stage] = round(found.get(record.stage, 0.0) + record.seconds, 3)
        return found

    def stages(self, since: str = "") -> list[StageSummary]:
        """Rows and time of each task and shard.

        Args:
            since: When the run began (ISO 8601): what a task did before came from the cache. Empty where that is not known.
        """
        return [
            StageSummary(
                stage=record.stage,
                task=record.task,
                shard=record.shard,
                round=record.round,
                status=_ended(record),
                seconds=record.seconds,
                cached=record.started_at < since if since else None,
                rows_in=record.rows_in,
                rows_kept=record.rows_kept,
                dropped=record.dropped,
                counts=record.counts,
                left_out=record.left_out,
            )
            for record in self.records
        ]

    def of_stage(self, stage: str) -> list[Task]:
        """The tasks of one stage."""
        return [task for task in self.tasks if task.stage == stage]

    def examples(self, kind: str, limit: int, *, stage: str = "", model: str = "") -> list[dict[str, Any]]:
        """Rows of one kind that tasks kept for people to read, taken from the tasks in turn, at most ``limit``, each once.

        Args:
            kind: Kind of the rows.
            limit: Most rows.
            stage: Only of this stage; empty for all.
            model: Only of tasks that measured this model; empty for all.
        """
        records = [
            record
            for record in self.records
            if (not stage or record.stage == stage) and (not model or any(score.model == model for score in record.scores))
        ]
        pools = [list(record.examples.get(kind, [])) for record in records]
        chosen: list[dict[str, Any]] = []
        while len(chosen) < limit and any(pools):
            for pool in pools:
                if pool and len(chosen) < limit:
                    row = pool.pop(0)
                    if row not in chosen:
                        chosen.append(row)
        return chosen


def is_dev(benchmark: str) -> bool:
    """Whether a benchmark holds the development problems of its set: evaluation gives these names that end in ``-dev``."""
    return benchmark.endswith("-dev")


def steps(models: Sequence[ModelSummary]) -> list[ModelSummary]:
    """The student from the base model to its last step, without controls and helpers."""
    return [model for model in models if model.is_step]


def _is_ratio(name: str) -> bool:
    return not RATIO_WORDS.isdisjoint(name.split("_")) or name.endswith(SAME_IN_ALL_SHARDS)


def _ended(record: StageRecord) -> str:
    """State of a task as it is read after its run."""
    return STOPPED if record.status == RUNNING else record.status


def _worse(one: str, other: str) -> str:
    order = (SUCCEEDED, STOPPED, FAILED)
    return max(one, other, key=lambda status: order.index(status) if status in order else len(order))
