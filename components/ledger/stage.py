"""Gathers the StageRecords of a run into one file, the ledger, from which report, run.json and lineage card are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from components.core.errors import InputError
from components.core.records import StageRecord, read_records, write_records


def read_record(path: Path) -> StageRecord:
    """Read the StageRecord that a task left behind.

    Raises:
        InputError: The file is missing or not a StageRecord.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=StageRecord)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"not a StageRecord: {error}", path, hint="run the stage again that should have written it") from error


def run(ledgers: Iterable[Path], records: Iterable[Path], out: Path) -> int:
    """Write the rows of earlier ledgers followed by ``records``, in the order given.

    Args:
        ledgers: Ledgers of the tasks before these.
        records: StageRecord files, one a task.
        out: JSON Lines file of StageRecord rows.

    Returns:
        Number of rows written.

    Raises:
        InputError: A file is missing or malformed.
    """

    def rows() -> Iterator[StageRecord]:
        for ledger in ledgers:
            yield from read_records(ledger, StageRecord)
        for path in records:
            yield read_record(path)

    return write_records(out, rows())
