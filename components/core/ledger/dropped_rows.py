"""Rows that a stage drops, kept with their reasons for people to look at: a bounded sample, not an archive.

The file lies beside the record of the task (``shared/tasks`` in the home of all runs) and is named there. KFP stores nothing but a task's
own outputs, so a file beside an output would be lost with the pod; and a task that came from a cache still leads to its record.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from components.core.errors import InputError
from components.core.records import Record
from components.core.redaction import redact
from components.core.store import MissingKeyError, open_store

FOLDER = "shared/tasks"
"""Below the home of all runs."""
MOST_ROWS = 1000
"""Rows kept for a reason; the first that are dropped."""
MOST_BYTES = 16 * 2**20
"""Rows of a task together, before compression: they wait in memory for the task's end."""


class DroppedRow(Record, frozen=True, kw_only=True):
    """A row that a stage did not hand on."""

    reason: str
    row: Any
    """The row itself, or what there was of it: a reply that could not be read is a text."""


class DroppedRows:
    """Rows that a task has dropped so far, as far as there is room for them."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._rows: dict[str, int] = {}
        self._bytes = 0

    def add(self, reason: str, row: Any) -> None:
        """Keep a row, unless its reason has enough of them or the task has no room left. Secrets in it are left out."""
        if self._rows.get(reason, 0) >= MOST_ROWS:
            return
        line = msgspec.json.encode(DroppedRow(reason=reason, row=redact(msgspec.to_builtins(row))))
        if self._bytes + len(line) > MOST_BYTES:
            return
        self._rows[reason] = self._rows.get(reason, 0) + 1
        self._bytes += len(line)
        self._lines.append(line)

    def keep(self, records: str) -> str:
        """Write the rows.

        Args:
            records: URI of the home of all runs.

        Returns:
            Where they are, below the home; empty where there are none.

        Raises:
            StoreError: They cannot be written.
        """
        if not self._lines:
            return ""
        # Without a time in it the same rows give the same file.
        data = gzip.compress(b"\n".join(self._lines) + b"\n", mtime=0)
        name = f"{hashlib.sha256(data).hexdigest()[:32]}.jsonl.gz"
        open_store(f"{records.rstrip('/')}/{FOLDER}").write(name, data)
        return f"{FOLDER}/{name}"


def read_dropped(records: str, name: str) -> Iterator[DroppedRow]:
    """The rows that a task has kept.

    Args:
        records: URI of the home of all runs.
        name: ``dropped_rows`` of the task's record.

    Raises:
        InputError: They are gone, or damaged.
        StoreError: The store cannot be read.
    """
    try:
        text = gzip.decompress(open_store(records).read(name))
        for line in text.splitlines():
            yield msgspec.json.decode(line, type=DroppedRow)
    except (MissingKeyError, OSError, EOFError, msgspec.MsgspecError) as error:
        raise InputError(f"not the dropped rows of a task: {error}", f"{records.rstrip('/')}/{name}") from error
