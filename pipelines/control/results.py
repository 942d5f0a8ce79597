"""The last tasks of a run: bring its results into its record, and say how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from components.core import telemetry
from components.core.errors import StoreError
from components.core.records import StageRecord, read_records
from components.core.store import open_store
from pipelines import run_record

FILES = {"html": "report.html", "summary": "report.json", "ledger": "ledger.jsonl", "decision": "decision.json", "card": "card.json"}
"""Results of a run, and their names in its record."""


class Located(Protocol):
    """What is needed of a KFP artifact."""

    path: str
    uri: str
    metadata: dict[str, Any]


def keep(records: str, results: Mapping[str, Located]) -> None:
    """Copy the results of a run into its record, and what they say into ``run.json``.

    Args:
        records: Store URI of the records of runs.
        results: Artifacts by their names in :data:`FILES`.

    Raises:
        StoreError: The store cannot be written.
    """
    folder = run_record.folder_of(records)
    store = open_store(folder)
    for name, file in FILES.items():
        store.upload(Path(results[name].path), file)
    record = run_record.from_ledger(run_record.read(folder), list(read_records(results["ledger"].path, StageRecord)))
    promotion = msgspec.json.decode(Path(results["decision"].path).read_bytes())
    outputs = {name: result.uri for name, result in results.items()} | {"model": str(results["card"].metadata.get("model", ""))}
    run_record.write(msgspec.structs.replace(record, promotion=promotion, outputs=outputs), folder)


def end(records: str, *, state: str, error: str) -> None:
    """Note how the run ended, in its record and in the metrics.

    Args:
        records: Store URI of the records of runs.
        state: KFP's state of everything that ran before. It is ``RUNNING`` now and then on a cluster, so that only what a
            run leaves last proves that it succeeded.
        error: KFP's message; may be empty.

    Raises:
        StoreError: The store cannot be read or written.
    """
    folder = run_record.folder_of(records)
    try:
        succeeded = state != "FAILED" and run_record.has_results(folder)
        run_record.finish(folder, succeeded=succeeded, error="" if succeeded else error or f"the run ended with the state {state}")
    except StoreError:
        # Whoever waits for the alert must hear of it even when the record cannot be written.
        telemetry.run_end(run_record.run_name(), failed=True, seconds=0.0)
        raise
