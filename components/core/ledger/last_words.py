"""What a task says when it fails, left in the record of its run: its pod and its log may be gone before anybody looks."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterator

import msgspec

from components.core.errors import StoreError
from components.core.records import Record
from components.core.redaction import redact
from components.core.store import open_store

FOLDER = "failures"
"""Below the folder of the run; one file a task and shard."""
ATTEMPT_VARIABLE = "KFP_RETRY_INDEX"
"""KFP's, in tasks that are tried again: 0 for the first attempt."""


class LastWords(Record, frozen=True, kw_only=True):
    """A failed attempt of a task."""

    stage: str
    task: str
    shard: str = "0/1"
    error: str
    """Empty where a later attempt went well."""
    attempt: int = 0
    """0 for the first."""
    at: str
    """UTC, ISO 8601."""


@contextlib.contextmanager
def last_words(stage: str, task: str, shard: str, records: str) -> Iterator[None]:
    """Leave the error that ends the block in the record of the run; say that it is over when a later attempt ends well.

    Args:
        stage: Name of the stage folder.
        task: Name of the task within the run.
        shard: ``"index/count"``.
        records: URI of the home of all runs; nothing is left where it is empty, or outside of a run.
    """
    attempt = int(os.environ.get(ATTEMPT_VARIABLE) or 0)
    try:
        yield
    except StoreError:
        # What could not be reached just now would be waited for once more.
        raise
    except Exception as error:
        _leave(stage, task, shard, records, attempt, redact(str(error) or type(error).__name__))
        raise
    if attempt:
        _leave(stage, task, shard, records, attempt, "")


def _leave(stage: str, task: str, shard: str, records: str, attempt: int, error: str) -> None:
    run = os.environ.get("TUTORLOOP_RUN", "")
    if not (run and records):
        return
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    words = LastWords(stage=stage, task=task, shard=shard, error=error, attempt=attempt, at=at)
    name = re.sub(r"[^A-Za-z0-9]+", "-", f"{task}-{shard}").strip("-")
    # How the task ended matters more than that it could be noted.
    with contextlib.suppress(StoreError):
        open_store(f"{records.rstrip('/')}/{run}/{FOLDER}").write(f"{name}.json", msgspec.json.format(msgspec.json.encode(words), indent=1))
