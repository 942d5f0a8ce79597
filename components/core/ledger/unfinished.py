"""What a stage leaves behind when the teacher's budget is spent: its outputs and record so far, in the run's own folder."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from components.core.errors import BudgetError, StoreError
from components.core.records import StageRecord
from components.core.store import open_store

FOLDER = "unfinished"


def keep(error: BudgetError, record: StageRecord, outputs: Mapping[str, str], records: str) -> BudgetError:
    """Copy a stage's outputs beside the run's record: Kubeflow takes over no output of a task that fails, and the pod goes with its disk.

    Args:
        error: That the budget is spent.
        record: What the task did so far.
        outputs: Name to path of each file that the stage has written, rows in JSON Lines.
        records: URI of the home of all runs; nothing is copied when empty.

    Returns:
        The error, with where the outputs are.
    """
    written = {name: Path(path) for name, path in outputs.items() if Path(path).is_file()}
    run = os.environ.get("TUTORLOOP_RUN", "")
    if not (written and records and run):
        where = ", ".join(str(path) for path in written.values())
    else:
        where = "/".join((records.rstrip("/"), run, FOLDER, re.sub(r"[^A-Za-z0-9]+", "-", f"{record.task}-{record.shard}").strip("-")))
        try:
            store = open_store(where)
            for name, path in written.items():
                store.upload(path, f"{name}.jsonl")
            store.write("record.json", msgspec.json.format(msgspec.json.encode(record), indent=1))
        except StoreError as failure:
            return BudgetError(f"{error.message}; the outputs so far could not be kept ({failure.message})", error.hint, error.results)
    told = f"; the outputs so far are in {where}" if where else ""
    return BudgetError(f"{error.message}{told}", error.hint, error.results)
