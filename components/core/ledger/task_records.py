"""Where the StageRecord of a task lies: beside the records of runs, under its own hash; and in the folder of the run that did the work.

A task hands its record on as an address and not as an artifact: a graph then shows the data of a run and not its book-keeping, no task
downloads what it only passes on, and a task that came from a cache still leads to the record of the work.

A run that fails never comes to its ledger. So every task also notes its record in the folder of its run, while it asks the teacher and
when it ends, well or not: the run's end adds up what is there. A task from a cache notes nothing, since this run paid nothing for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from components.core.errors import InputError, StoreError
from components.core.ledger.reader import FAILED, RUNNING, SUCCEEDED
from components.core.records import StageRecord, Usage
from components.core.store import MissingKeyError, open_store

FOLDER = "shared/tasks"
"""Below the home of all runs; kept as long as the records of runs, so that a cached task never outlives its record."""
NOTES = "tasks"
"""Below the folder of a run: one file a task, shard and attempt."""
NOTE_S = 15.0
"""Between two notes of a task at work: a task that is killed has paid for no more than this without a note of it."""


def keep_record(record: StageRecord, records: str) -> str:
    """Write a record.

    Args:
        record: Record of a task that ended well.
        records: URI of the home of all runs.

    Returns:
        Its address.

    Raises:
        StoreError: It cannot be written.
    """
    text = _encoded(record)
    home, name = records.rstrip("/"), f"{hashlib.sha256(text).hexdigest()[:32]}.json"
    open_store(f"{home}/{FOLDER}").write(name, text)
    return f"{home}/{FOLDER}/{name}"


def read_record(address: str) -> StageRecord:
    """Read the record at an address.

    Raises:
        InputError: There is none, or it is no StageRecord.
        StoreError: The store cannot be read.
    """
    folder, _, name = address.rpartition("/")
    try:
        return msgspec.json.decode(open_store(folder).read(name), type=StageRecord)
    except (MissingKeyError, msgspec.DecodeError) as error:
        hint = "run with an empty cache: the task that left it is then done again"
        raise InputError(f"not the record of a task: {error}", address, hint=hint) from error


@contextlib.contextmanager
def noted(record: Callable[[], StageRecord], records: str) -> Iterator[None]:
    """Note in the folder of the run what a task does, while the block works and when it ends; failures to do so are ignored.

    Args:
        record: Gives the task's record as of now.
        records: URI of the home of all runs; nothing is noted where it is empty, or outside of a run.
    """
    run = os.environ.get("TUTORLOOP_RUN", "")
    if not (run and records):
        yield
        return
    note = _Note(record, f"{records.rstrip('/')}/{run}/{NOTES}")
    note.start()
    try:
        yield
    except StoreError:
        # What could not be reached just now would be waited for once more; the last note stands.
        note.end()
        raise
    except BaseException:
        note.end(FAILED)
        raise
    note.end(SUCCEEDED)


class _Note(threading.Thread):
    """Writes the record of a task at work whenever its cost has changed. A thread, so that no store can slow the task."""

    def __init__(self, record: Callable[[], StageRecord], folder: str) -> None:
        super().__init__(name="notes", daemon=True)
        self._record = record
        self._folder = folder
        self._ended = threading.Event()
        first = record()
        slug = re.sub(r"[^A-Za-z0-9]+", "-", f"{first.task}-{first.shard}").strip("-")
        # Attempts of a task have files of their own: what a failed one paid is not in the record of the next. Names sort by time.
        self._name = f"{time.time_ns() // 1_000_000:015d}-{slug}-{os.getpid()}.json"
        self._told: Usage | None = None

    def run(self) -> None:
        while not self._ended.wait(NOTE_S):
            # The task goes on meanwhile: a dict that grows while it is written is written the next time.
            with contextlib.suppress(RuntimeError):
                record = self._record()
                if record.usage is not None and record.usage != self._told:
                    self._write(record, RUNNING)
                    self._told = record.usage

    def end(self, status: str = "") -> None:
        """Stop, and note how the task ended; the last note stands where the status is empty."""
        self._ended.set()
        self.join()
        if status:
            self._write(self._record(), status)

    def _write(self, record: StageRecord, status: str) -> None:
        # How the task ends matters more than that it could be noted.
        with contextlib.suppress(StoreError, OSError):
            open_store(self._folder).write(self._name, _encoded(msgspec.structs.replace(record, status=status)))


def read_notes(folder: str) -> list[StageRecord]:
    """What the tasks of a run have noted, each attempt, in the order in which they began; a file that is damaged is passed over.

    Args:
        folder: URI of the run's folder.

    Raises:
        StoreError: The store cannot be read.
    """
    store = open_store(f"{folder.rstrip('/')}/{NOTES}")
    found = []
    for key in sorted(store.list()):
        with contextlib.suppress(msgspec.MsgspecError, MissingKeyError):
            found.append(msgspec.json.decode(store.read(key), type=StageRecord))
    return found


def _encoded(record: StageRecord) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1)
