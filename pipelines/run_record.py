"""``run.json``: what a run was asked to do, what it did and what came out."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from components.core.records import Record, Score, StageRecord, Usage


class ModelScores(Record, frozen=True, kw_only=True):
    """The scores of one model, by benchmark."""

    name: str
    benchmarks: dict[str, Score] = {}


class StageSummary(Record, frozen=True, kw_only=True):
    """Rows and time of one task."""

    stage: str
    task: str
    shard: str
    seconds: float
    cached: bool
    """Served from KFP's cache: the figures are those of the run that did the work."""
    rows_in: int
    rows_kept: int
    dropped: dict[str, int]
    counts: dict[str, float]


class RunRecord(Record, frozen=True, kw_only=True):
    """The content of ``run.json``."""

    schema_version: int = 1
    id: str
    profile: str
    status: str
    """``running``, ``succeeded`` or ``failed``."""
    started_at: str
    seconds: float = 0.0
    error: str = ""
    failed_stage: str = ""
    parameters: dict[str, Any] = {}
    pipeline_digest: str = ""
    models: list[ModelScores] = []
    usage: Usage = Usage()
    """Asked of the teacher by this run."""
    usage_with_cached: Usage = Usage()
    """Asked of the teacher by this run and by the earlier runs whose results it took over."""
    stages: list[StageSummary] = []
    seconds_by_stage: dict[str, float] = {}
    promotion: dict[str, Any] = {}
    outputs: dict[str, Any] = {}


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write(record: RunRecord, folder: Path) -> None:
    """Write ``run.json`` to a temporary name, then rename."""
    partial = folder / f".run.json.{os.getpid()}.part"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    partial.replace(folder / "run.json")


def read(folder: Path) -> RunRecord:
    """Read the ``run.json`` of a run's folder."""
    return msgspec.json.decode((folder / "run.json").read_bytes(), type=RunRecord)


def from_ledger(record: RunRecord, ledger: Sequence[StageRecord]) -> RunRecord:
    """Fill in models, usage, rows and times from the ledger of the run."""
    models: dict[str, dict[str, Score]] = {}
    spent, total = Usage(), Usage()
    stages, by_stage = [], dict[str, float]()
    for row in ledger:
        cached = row.started_at < record.started_at
        for score in row.scores:
            models.setdefault(score.model, {})[score.benchmark] = score
        if row.usage:
            total += row.usage
            spent += Usage() if cached else row.usage
        by_stage[row.stage] = round(by_stage.get(row.stage, 0.0) + row.seconds, 3)
        stages.append(
            StageSummary(
                stage=row.stage,
                task=row.task,
                shard=row.shard,
                seconds=row.seconds,
                cached=cached,
                rows_in=row.rows_in,
                rows_kept=row.rows_kept,
                dropped=row.dropped,
                counts=row.counts,
            )
        )
    return msgspec.structs.replace(
        record,
        models=[ModelScores(name=name, benchmarks=scores) for name, scores in models.items()],
        usage=spent,
        usage_with_cached=total,
        stages=stages,
        seconds_by_stage=by_stage,
    )
