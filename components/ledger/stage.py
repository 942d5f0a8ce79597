"""Gathers the StageRecords of a run into one file, the ledger, from which report, run.json and lineage card are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from components.core.ledger.task_records import read_record
from components.core.records import StageRecord, read_records, write_records


def run(ledgers: Iterable[Path], references: Iterable[str], out: Path) -> int:
    """Write the rows of earlier ledgers followed by the records of tasks, in the order given.

    Args:
        ledgers: Ledgers of the tasks before these.
        references: Addresses of StageRecords, one a task.
        out: JSON Lines file of StageRecord rows.

    Returns:
        Number of rows written.

    Raises:
        InputError: A ledger or record is missing or malformed.
        StoreError: A record cannot be read.
    """

    def rows() -> Iterator[StageRecord]:
        for ledger in ledgers:
            yield from read_records(ledger, StageRecord)
        for reference in references:
            yield read_record(reference)

    return write_records(out, rows())
