"""Where the StageRecord of a task lies: beside the records of runs, under its own hash.

A task hands its record on as an address and not as an artifact: a graph then shows the data of a run and not its book-keeping, no task
downloads what it only passes on, and a task that came from a cache still leads to the record of the work.
"""

from __future__ import annotations

import hashlib

import msgspec

from components.core.errors import InputError
from components.core.records import StageRecord
from components.core.store import MissingKeyError, open_store

FOLDER = "shared/tasks"
"""Below the home of all runs; kept as long as the records of runs, so that a cached task never outlives its record."""


def keep_record(record: StageRecord, records: str) -> str:
    """Write a record.

    Args:
        record: Of a task that ended well.
        records: URI of the home of all runs.

    Returns:
        Its address.

    Raises:
        StoreError: It cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(record), indent=1)
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
