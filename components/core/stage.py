"""What every task does around its work: time it, count rows, report progress, leave a StageRecord behind."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from components.core import telemetry
from components.core.errors import EmptyOutputError, TutorLoopError
from components.core.records import Score, StageRecord, Usage

PROGRESS_PREFIX = "::progress "
"""Marks the lines that the command line turns into a live display."""


class RecordArtifact(Protocol):
    """The part of ``kfp.dsl.Metrics`` that a stage needs; a plain object serves in tests."""

    path: str
    metadata: dict[str, Any]


class StageRun:
    """Counters of one task, handed to the stage's function.

    Attributes:
        task: Name of the task within the run.
        shard: ``"index/count"``.
        latest: Newest figures of the work in progress, for the metrics: ``loss``, ``learning_rate``, ``tokens_per_second``.
        progress_ratio: Share of the work that is done, 0 to 1.
        advanced_at: When the task last got further, in seconds since 1970; its start until it first does.
    """

    def __init__(self, stage: str, task: str = "", shard: str = "0/1") -> None:
        self.stage = stage
        self.task = task or stage
        self.shard = shard
        self.rows_in = 0
        self.rows_kept = 0
        self.dropped: dict[str, int] = {}
        self.counts: dict[str, float] = {}
        self.usage: Usage | None = None
        self.options: dict[str, Any] = {}
        self.prompts: dict[str, str] = {}
        self.curves: list[dict[str, float]] = []
        self.scores: list[Score] = []
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self.lineage: dict[str, Any] = {}
        self.latest: dict[str, float] = {}
        self.progress_ratio = 0.0
        self.advanced_at = self._started = time.time()
        self._done = 0
        self._last_progress = 0.0

    @property
    def seconds(self) -> float:
        """Wall time since the task began."""
        return time.time() - self._started

    def drop(self, reason: str, rows: int = 1) -> None:
        """Count rows that the stage does not hand on, under a short reason (``duplicate``, ``answer_too_long``)."""
        self.dropped[reason] = self.dropped.get(reason, 0) + rows

    def example(self, kind: str, row: msgspec.Struct | dict[str, Any], limit: int = 5) -> None:
        """Keep a row for the report, at most ``limit`` of each kind."""
        kept = self.examples.setdefault(kind, [])
        if len(kept) < limit:
            kept.append(row if isinstance(row, dict) else msgspec.to_builtins(row))

    def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
        """Print a progress line, at most one a second; the command line shows rate and time left."""
        now = time.time()
        if done != self._done:
            self._done, self.advanced_at = done, now
        self.progress_ratio = done / total if total else 1.0
        if not force and done < total and now - self._last_progress < 1.0:
            return
        self._last_progress = now
        line = {"task": self.task, "shard": self.shard, "done": done, "total": total, "unit": unit, "seconds": round(self.seconds, 1)}
        print(PROGRESS_PREFIX + msgspec.json.encode(line).decode(), flush=True)

    def require_rows(self, what: str) -> None:
        """Refuse to hand on nothing.

        Raises:
            EmptyOutputError: No row was kept; lists rows in and every drop reason.
        """
        if self.rows_kept == 0:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items())) or "none dropped"
            raise EmptyOutputError(
                f"{self.task}: no {what} left to hand on ({self.rows_in} rows in; dropped: {reasons})",
                "look at the rows and reasons above; loosen the filter or give the stage more input",
            )

    def record(self) -> StageRecord:
        """The StageRecord as of now."""
        started = datetime.datetime.fromtimestamp(self._started, datetime.UTC)
        return StageRecord(
            stage=self.stage,
            task=self.task,
            shard=self.shard,
            started_at=started.isoformat(timespec="seconds"),
            seconds=round(self.seconds, 3),
            rows_in=self.rows_in,
            rows_kept=self.rows_kept,
            dropped=self.dropped,
            counts=self.counts,
            usage=self.usage,
            options=self.options,
            prompts=self.prompts,
            curves=self.curves,
            scores=self.scores,
            examples=self.examples,
            lineage=self.lineage,
        )


@contextlib.contextmanager
def readable_errors(task: str = "") -> Iterator[None]:
    """Print an error that a person can act on without a traceback and end the process with status 1; others keep their traceback.

    Args:
        task: Name of the task, to say where it happened; empty outside of tasks.
    """
    try:
        yield
    except (TutorLoopError, OSError) as error:
        if isinstance(error, OSError):
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" ({error.filename})" if error.filename else ""
            told = TutorLoopError(f"the disk is full{where}", "free space or give the volume more, then run again; finished work is kept")
        else:
            told = error
        print(f"error in {task}: {told}" if task else f"error: {told}", file=sys.stderr, flush=True)
        raise SystemExit(1) from error


@contextlib.contextmanager
def stage_run(
    stage: str, artifact: RecordArtifact | None = None, *, task: str = "", shard: str = "0/1", options: dict[str, Any] | None = None
) -> Iterator[StageRun]:
    """Run a stage's work: a StageRecord is written to ``artifact`` when it ends well; errors are those of ``readable_errors``.

    Args:
        stage: Name of the stage folder.
        artifact: Where the record goes; headline numbers also become the artifact's metadata, which Kubeflow shows as metrics.
            None for a task whose work is not part of the ledger.
        task: Name within the run; the stage's name when empty.
        shard: ``"index/count"``.
        options: The stage's options as given, for the lineage.
    """
    run = StageRun(stage, task, shard)
    run.options = dict(options or {})
    with readable_errors(run.task), telemetry.watched(run):
        yield run
        if artifact is not None:
            write_record(artifact, run.record())


def write_record(artifact: RecordArtifact, record: StageRecord) -> None:
    """Write the record as JSON (atomically) and its headline numbers as metadata."""
    target = Path(artifact.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    partial.replace(target)
    headline: dict[str, float] = {"seconds": record.seconds, "rows_in": record.rows_in, "rows_kept": record.rows_kept}
    headline.update({f"dropped_{reason}": count for reason, count in record.dropped.items()})
    headline.update(record.counts)
    if record.usage:
        headline.update(
            {"teacher_requests": record.usage.requests, "teacher_cache_hits": record.usage.cache_hits, "teacher_usd": record.usage.usd}
        )
    headline.update({f"{score.benchmark}_pass_at_1": score.pass_at_1 for score in record.scores})
    artifact.metadata.update(headline)
