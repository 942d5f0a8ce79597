"""What every task does around its work: time it, count rows, report progress, leave a StageRecord behind."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from components.core.errors import BudgetError, EmptyOutputError, StoreError, TutorLoopError, disk_is_full, reason_of
from components.core.ledger.dropped_rows import DroppedRows
from components.core.ledger.last_words import last_words
from components.core.ledger.task_records import keep_record, noted
from components.core.ledger.unfinished import keep
from components.core.metrics import telemetry
from components.core.metrics.progress import ProgressLines
from components.core.records import ModelEntry, Score, StageRecord, Usage
from components.core.redaction import redact


class OutputArtifact(Protocol):
    """The part of a KFP artifact that is needed here; a plain object serves in tests."""

    metadata: dict[str, Any]


def _address(artifact: OutputArtifact | None) -> str:
    """URI of an artifact; empty where it has none."""
    return str(getattr(artifact, "uri", "") or "")


class StageRun:
    """Counters of one task, handed to the stage's function.

    Attributes:
        task: Name of the task within the run.
        shard: ``"index/count"``.
        round: Practice round that the task belongs to, 1-based; 0 for none.
        left_out: Why the task leaves out what it is for and hands on what it was given; empty where it does its work.
        latest: Newest figures of the work in progress, for the metrics: ``loss``, ``learning_rate``, ``tokens_per_second``.
        progress_ratio: Share of the work that is done, 0 to 1.
        advanced_at: When the task last got further, in seconds since 1970; its start until it first does.
        asking: Gives the usage so far of the teacher's client that is at work; the notes of a task at work need it.
        output: URI of the task's main output.
        dropped_rows: File with the dropped rows, below the home of all runs; empty before it was kept.
        reference: Address of the task's StageRecord; empty before it was kept.
    """

    def __init__(self, stage: str, task: str = "", shard: str = "0/1", round_number: int = 0) -> None:
        self.stage = stage
        self.task = task or stage
        self.shard = shard
        self.round = round_number
        self.rows_in = 0
        self.rows_kept = 0
        self.dropped: dict[str, int] = {}
        self.left_out = ""
        self.counts: dict[str, float] = {}
        self.usage: Usage | None = None
        self.options: dict[str, Any] = {}
        self.prompts: dict[str, str] = {}
        self.curves: list[dict[str, float]] = []
        self.models: list[ModelEntry] = []
        self.scores: list[Score] = []
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self.lineage: dict[str, Any] = {}
        self.latest: dict[str, float] = {}
        self.progress_ratio = 0.0
        self.reference = ""
        self.asking: Callable[[], Usage] | None = None
        self.advanced_at = self._started = time.time()
        self.output = ""
        self.dropped_rows = ""
        self._dropped_rows = DroppedRows()
        self._done = 0
        self._lines = ProgressLines(self.task, shard)

    @property
    def seconds(self) -> float:
        """Wall time since the task began."""
        return time.time() - self._started

    def drop(self, reason: str, rows: int = 1, *, row: Any = None) -> None:
        """Count rows that the stage does not hand on, under a short reason (``duplicate``, ``answer_too_long``).

        Args:
            reason: Why.
            rows: How many.
            row: The row itself, or what there was of it, for people who want to see what is dropped; None to count it only.
        """
        self.dropped[reason] = self.dropped.get(reason, 0) + rows
        if row is not None:
            self._dropped_rows.add(reason, row)

    def keep_dropped(self, records: str) -> None:
        """Write the dropped rows, as far as they were given.

        Args:
            records: URI of the home of all runs; nothing is written where it is empty.

        Raises:
            StoreError: They cannot be written.
        """
        self.dropped_rows = self._dropped_rows.keep(records) if records else ""

    def example(self, kind: str, row: msgspec.Struct | dict[str, Any], limit: int = 5) -> None:
        """Keep a row for the report, at most ``limit`` of each kind."""
        kept = self.examples.setdefault(kind, [])
        if len(kept) < limit:
            kept.append(row if isinstance(row, dict) else msgspec.to_builtins(row))

    def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
        """Note how far the work is, and say so now and then with rate and time left."""
        if done != self._done:
            self._done, self.advanced_at = done, time.time()
        self.progress_ratio = done / total if total else 1.0
        self._lines.show(done, total, unit, force)

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
            round=self.round,
            started_at=started.isoformat(timespec="seconds"),
            seconds=round(self.seconds, 3),
            rows_in=self.rows_in,
            rows_kept=self.rows_kept,
            dropped=self.dropped,
            left_out=self.left_out,
            counts=self.counts,
            usage=self.usage if self.usage is not None or self.asking is None else self.asking(),
            options=self.options,
            prompts=self.prompts,
            curves=self.curves,
            models=self.models,
            scores=self.scores,
            examples=self.examples,
            lineage=self.lineage,
            output=self.output,
            dropped_rows=self.dropped_rows,
        )


@contextlib.contextmanager
def readable_errors(task: str = "") -> Iterator[None]:
    """Print an error that a person can act on without a traceback and end the process with status 1; others keep their traceback.

    A traceback that would show a secret (libraries put whole replies into their errors) is printed here, without it.

    Args:
        task: Name of the task, to say where it happened; empty outside of tasks.
    """
    try:
        yield
    except (TutorLoopError, OSError) as error:
        if isinstance(error, OSError):
            if not disk_is_full(error):
                raise
            where = f" ({error.filename})" if error.filename else ""
            told = TutorLoopError(f"{reason_of(error)}{where}", "free space or give the volume more, then run again; finished work is kept")
        else:
            told = error
        print(redact(f"error in {task}: {told}" if task else f"error: {told}"), file=sys.stderr, flush=True)
        raise SystemExit(1) from error
    except Exception as error:
        trace = traceback.format_exc()
        if (clean := redact(trace)) == trace:
            raise
        print(clean, file=sys.stderr, flush=True)
        raise SystemExit(1) from error


@contextlib.contextmanager
def stage_run(
    stage: str,
    artifact: OutputArtifact | None = None,
    *,
    task: str = "",
    shard: str = "0/1",
    round_number: int = 0,
    options: dict[str, Any] | None = None,
    outputs: Mapping[str, str] | None = None,
    records: str = "",
) -> Iterator[StageRun]:
    """Run a stage's work: a StageRecord is kept when it ends well; errors are those of ``readable_errors``.

    A stage that a spent budget stops has written what was paid for: that and its record are kept beside the run's.

    Args:
        stage: Name of the stage folder.
        artifact: The task's main output: headline numbers become its metadata, which Kubeflow shows beside it.
            None for a task whose work is not part of the ledger.
        task: Name within the run; the stage's name when empty.
        shard: ``"index/count"``.
        round_number: Practice round that the task belongs to; 0 for none.
        options: The stage's options as given, for the lineage.
        outputs: Name to path of the files that the stage writes, even when the budget stops it.
        records: URI of the home of all runs: for the record, for notes of it in the folder of the run, and for the error of a task
            that fails; none of these is kept where it is empty.
    """
    run = StageRun(stage, task, shard, round_number)
    run.options = dict(options or {})
    notes = records if artifact is not None else ""
    with readable_errors(run.task), telemetry.watched(run), last_words(stage, run.task, shard, records), noted(run.record, notes):
        run.output = _address(artifact)
        try:
            with _dropped_rows_kept(run, notes):
                yield run
        except BudgetError as error:
            done = sum(result is not None for result in error.results)
            run.counts |= {"items_done": done, "items_left": len(error.results) - done}
            raise keep(error, run.record(), outputs or {}, records) from error
        if artifact is not None:
            record = run.record()
            artifact.metadata.update(headline(record))
            run.reference = keep_record(record, records) if records else ""


@contextlib.contextmanager
def _dropped_rows_kept(run: StageRun, records: str) -> Iterator[None]:
    """Keep the dropped rows at the end of the block, above all when it fails for want of others: what was dropped then says why."""
    try:
        yield
    except StoreError:
        # What could not be reached just now would be waited for once more.
        raise
    except BaseException:
        with contextlib.suppress(StoreError, OSError):
            run.keep_dropped(records)
        raise
    run.keep_dropped(records)


def headline(record: StageRecord) -> dict[str, float]:
    """The numbers of a record that a person looks for first, by name."""
    found: dict[str, float] = {"seconds": record.seconds, "rows_in": record.rows_in, "rows_kept": record.rows_kept}
    found.update({f"dropped_{reason}": count for reason, count in record.dropped.items()})
    found.update(record.counts)
    if record.usage:
        found.update(
            {"teacher_requests": record.usage.requests, "teacher_cache_hits": record.usage.cache_hits, "teacher_usd": record.usage.usd}
        )
    found.update({f"{score.benchmark}_pass_at_1": score.pass_at_1 for score in record.scores})
    return found
