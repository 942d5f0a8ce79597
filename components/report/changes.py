"""What a run does differently from its profile, as the run's first task has noted it in ``run.json``."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from components.core.store import MissingKeyError, open_store

FILE = "run.json"


def changes(records: str) -> dict[str, Any]:
    """The changes of the run that this task belongs to, by dotted name of the option; none where the run has no record.

    Args:
        records: URI of the home of all runs.

    Raises:
        StoreError: The store cannot be read.
    """
    try:
        text = open_store(f"{records.rstrip('/')}/{os.environ.get('TUTORLOOP_RUN', 'none')}").read(FILE)
    except MissingKeyError:
        return {}
    return msgspec.json.decode(text, type=Noted).changed


class Noted(msgspec.Struct):
    """What is read of ``run.json``."""

    changed: dict[str, Any] = {}
