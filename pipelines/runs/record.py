"""``run.json``: what a run was asked to do, what it did and what came out.

A run's record is a folder of its own in the home of all runs, on this machine or in an object store: ``run.json`` with report, figures,
ledger and card beside it. The run's own tasks open, fill and close it; whoever watches the run adds what only they can know, above all
that and why it failed.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import InputError
from components.core.ledger.reader import Ledger, ModelSummary, StageSummary
from components.core.ledger.task_records import read_notes
from components.core.metrics import telemetry
from components.core.records import Record, StageRecord, Usage
from components.core.store import MissingKeyError, open_store

FILE = "run.json"
RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"


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
    changed: dict[str, Any] = {}
    """What differs from the profile, by dotted names."""
    pipeline_digest: str = ""
    models: list[ModelSummary] = []
    usage: Usage = Usage()
    """Asked of the teacher by this run."""
    usage_with_cached: Usage = Usage()
    """Asked of the teacher by this run and by the earlier runs whose results it took over."""
    stages: list[StageSummary] = []
    seconds_by_stage: dict[str, float] = {}
    promotion: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    links: dict[str, str] = {}
    """Where else the run is shown: ``kubeflow`` is its page there."""


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def run_name() -> str:
    """Name of the run that this task belongs to, as in its metrics."""
    return os.environ.get("TUTORLOOP_RUN", "none")


def folder_of(records: str) -> str:
    """URI of the record of the run that this task belongs to.

    Args:
        records: URI of the home of all runs.
    """
    return f"{records.rstrip('/')}/{run_name()}"


def page_of(host: str, run: str) -> str:
    """Address of a run's page in Kubeflow's UI.

    Args:
        host: Address of the UI, which also answers for the API.
        run: Id of the run.
    """
    return f"{host.rstrip('/')}/#/runs/details/{run}"


def links_of(run: str) -> dict[str, str]:
    """Where else a run is shown, as far as the environment (``TUTORLOOP_KUBEFLOW_URL``) says where that is.

    Args:
        run: Id of the run.
    """
    host = os.environ.get("TUTORLOOP_KUBEFLOW_URL", "")
    return {"kubeflow": page_of(host, run)} if host else {}


def _encoded(record: RunRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2)


def begin(record: RunRecord, folder: str | Path) -> None:
    """Write ``run.json`` if there is none yet.

    Raises:
        StoreError: The folder cannot be written.
    """
    open_store(str(folder)).create(FILE, _encoded(record))


def write(record: RunRecord, folder: str | Path) -> None:
    """Write ``run.json``, whole or not at all.

    Raises:
        StoreError: The folder cannot be written.
    """
    open_store(str(folder)).write(FILE, _encoded(record))


def read(folder: str | Path) -> RunRecord:
    """Read the ``run.json`` of a run's folder.

    Raises:
        InputError: There is none.
        StoreError: The folder cannot be read.
    """
    try:
        return msgspec.json.decode(open_store(str(folder)).read(FILE), type=RunRecord)
    except MissingKeyError as error:
        raise InputError("there is no record of a run", f"{folder}/{FILE}", hint="it is written when a run starts") from error


def has_results(folder: str | Path) -> bool:
    """Whether a run has kept its results, which it does last."""
    try:
        return bool(read(folder).outputs)
    except InputError:
        return False


def finish(
    folder: str | Path,
    *,
    succeeded: bool,
    error: str = "",
    failed_stage: str = "",
    metrics: Path | None = None,
    run: str = "",
    pipeline: str = "",
) -> RunRecord:
    """Note how a run ended. Said twice, it is published once, and what the second knows better counts.

    A run that failed never came to its ledger: models, usage, rows and times are then those that its own tasks have noted. What it took
    over from earlier runs is not among them, and cost it nothing.

    Args:
        folder: The run's record.
        succeeded: Whether it came to its results.
        error: What went wrong.
        failed_stage: Name of the task that failed.
        metrics: Folder for the text file with the run's metrics; that of the environment when None.
        run: Id of the run, for one that has no record yet; that of the environment when empty.
        pipeline: Name of its pipeline in the metrics; that of the environment when empty.

    Raises:
        StoreError: The folder cannot be read or written.
    """
    try:
        before = read(folder)
    except InputError:
        # Its first task never came to work.
        before = RunRecord(id=run or run_name(), profile="", status=RUNNING, started_at=now())
    status = SUCCEEDED if succeeded else FAILED
    started = datetime.datetime.fromisoformat(before.started_at)
    known = before.seconds if before.status == status else 0.0
    record = msgspec.structs.replace(
        before,
        status=status,
        seconds=known or round((datetime.datetime.now(datetime.UTC) - started).total_seconds(), 1),
        error="" if succeeded else error or before.error,
        failed_stage="" if succeeded else failed_stage or before.failed_stage,
        links=before.links or links_of(before.id),
    )
    if not succeeded and (notes := read_notes(str(folder))):
        record = from_ledger(record, notes)
    if before.status != status:
        # First, so that who is killed in between and tried again tells it twice rather than never.
        telemetry.run_end(record.id, failed=not succeeded, seconds=record.seconds, folder=metrics, pipeline=pipeline)
    write(record, folder)
    return record


def from_ledger(record: RunRecord, records: Iterable[StageRecord]) -> RunRecord:
    """Fill in models, usage, rows and times from what the tasks of the run recorded.

    Args:
        record: Record of the run.
        records: One a task, shard and attempt.
    """
    ledger = Ledger(records)
    return msgspec.structs.replace(
        record,
        models=ledger.models,
        usage=ledger.usage(record.started_at),
        usage_with_cached=ledger.usage(),
        stages=ledger.stages(record.started_at),
        seconds_by_stage=ledger.seconds_by_stage,
    )
