"""Rows of a run's stages, found through the records of its tasks: those that a stage handed on, and those that it dropped."""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from components.core.errors import InputError, ParameterError
from components.core.ledger.dropped_rows import DroppedRow, read_dropped
from components.core.ledger.task_records import read_notes
from components.core.records import StageRecord, read_records
from components.core.store import fetched, is_remote, open_store
from pipelines.runs import record as run_record

T = TypeVar("T")

LATEST = "latest"
ARTIFACTS = "/shared/artifacts/"
"""Outputs of tasks below the home of a run on a laptop."""
SHOWN = 20
"""Runs and tasks that an error names."""


def tasks_of(home: str, run: str) -> list[StageRecord]:
    """Records of a run's tasks: those of its ledger, and what the tasks themselves have noted.

    Args:
        home: URI of the home of all runs.
        run: Name of the run; ``latest`` for the newest.

    Raises:
        InputError: There is no such run, or none of its tasks has recorded anything; lists what there is.
        StoreError: The home cannot be read.
    """
    name = max(_runs(home), default="") if run == LATEST else run
    if not name or not open_store(home).exists(f"{name}/{run_record.FILE}"):
        known = ", ".join(sorted(_runs(home))[-SHOWN:]) or "none"
        raise InputError(f"there is no run {run!r}", home, hint=f"give one of these, or another --home: {known}")
    folder = f"{home.rstrip('/')}/{name}"
    found = {(record.stage, record.task, record.shard): record for record in read_notes(folder)}
    if open_store(folder).exists("ledger.jsonl"):
        with fetched(f"{folder}/ledger.jsonl") as path:
            found |= {(record.stage, record.task, record.shard): record for record in read_records(path, StageRecord)}
    if not found:
        raise InputError("no task of this run has recorded anything", folder, hint="see its log, and the error in its run.json")
    return list(found.values())


def of_stage(records: Sequence[StageRecord], stage: str) -> list[StageRecord]:
    """The tasks of a stage, all shards.

    Args:
        records: Records of a run.
        stage: Name of a stage (``solving``) or of one of its tasks (``sampling M1``).

    Raises:
        ParameterError: There is none; lists what there is.
    """
    found = [record for record in records if stage in (record.stage, record.task)]
    if not found:
        known = dict.fromkeys(name for record in records for name in (record.stage, record.task))
        raise ParameterError("STAGE", stage, f"a stage or task of this run: {', '.join(known)}")
    return found


def dropped_rows(home: str, records: Sequence[StageRecord]) -> Iterator[DroppedRow]:
    """Rows that tasks dropped, as far as they have kept them.

    Args:
        home: URI of the home of all runs.
        records: Records of the tasks.

    Raises:
        InputError: Their file is gone or damaged.
        StoreError: The home cannot be read.
    """
    for record in records:
        if record.dropped_rows:
            yield from read_dropped(home, record.dropped_rows)


def handed_on(home: str, records: Sequence[StageRecord]) -> Iterator[str]:
    """Rows that tasks handed on, as JSON.

    Args:
        home: URI of the home of all runs.
        records: Records of the tasks.

    Raises:
        InputError: The output of a task is gone, or holds no rows.
        StoreError: The store cannot be read.
    """
    for record in records:
        uri = _located(home, record)
        with fetched(uri) as path:
            if not path.is_file():
                raise InputError(f"the output of {record.task} holds no rows", uri, hint="a model, or a stage that has failed")
            with path.open(encoding="utf-8") as lines:
                yield from (line.rstrip("\n") for line in lines if line.strip())


def show(home: str, run: str, stage: str, *, dropped: bool, reason: str = "", limit: int = 0) -> None:
    """Print rows as JSON Lines, and on the standard error stream how many there are.

    Args:
        home: URI of the home of all runs.
        run: Name of the run; ``latest`` for the newest.
        stage: Name of a stage or of one of its tasks.
        dropped: Whether to show what was dropped rather than what was handed on.
        reason: Only rows dropped for it; empty for all.
        limit: Most rows; 0 for all.

    Raises:
        InputError: There is no such run; lists what there is.
        ParameterError: There is no such stage or reason; lists what there is.
        StoreError: The home cannot be read.
    """
    records = of_stage(tasks_of(home, run), stage)
    counted = reasons(records)
    if reason and reason not in counted:
        raise ParameterError("--reason", reason, f"a reason of {stage}: {', '.join(counted) or 'it dropped no row'}")
    if not dropped:
        for line in _first(handed_on(home, records), limit):
            click.echo(line)
        click.echo(f"{stage}: {sum(record.rows_kept for record in records):,} rows handed on", err=True)
        return
    found = [row for row in dropped_rows(home, records) if reason in ("", row.reason)]
    for row in _first(found, limit):
        click.echo(msgspec.json.encode(row))
    kept = Counter(row.reason for row in found)
    for name, count in counted.most_common():
        if reason in ("", name):
            click.echo(f"{stage}: {count:,} dropped as {name}, {kept[name]:,} of them kept to look at", err=True)
    if not counted:
        click.echo(f"{stage}: no row was dropped", err=True)


def _first(rows: Iterable[T], limit: int) -> Iterator[T]:
    return itertools.islice(rows, limit or None)


def reasons(records: Sequence[StageRecord]) -> Counter[str]:
    """Rows that tasks dropped, by reason."""
    return sum((Counter(record.dropped) for record in records), Counter())


def _located(home: str, record: StageRecord) -> str:
    """Where the output of a task is for whoever looks now: a home in S3 was worked on in a folder of another machine."""
    if not record.output:
        raise InputError(f"the output of {record.task} has no address", record.task, hint="the task has failed, or an older version ran it")
    output = record.output.replace("minio://", "s3://", 1)
    if is_remote(output) or Path(output).exists() or ARTIFACTS not in output:
        return output
    return f"{home.rstrip('/')}{ARTIFACTS}{output.partition(ARTIFACTS)[2]}"


def _runs(home: str) -> set[str]:
    """Names of the runs in a home."""
    if not is_remote(home):
        return {path.parent.name for path in Path(home).glob(f"*/{run_record.FILE}") if path.parent.name != LATEST}
    # Names of runs begin with a date or are a UUID; what else lies in a home may be very many files.
    keys = (key for first in string.hexdigits[:16] for key in open_store(home).list(first))
    return {name for name, _, file in (key.partition("/") for key in keys) if file == run_record.FILE}
