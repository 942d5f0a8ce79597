"""The last task of a run: bring its results into its record, and close it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from components.core.ledger.reader import SUCCEEDED
from components.core.ledger.task_records import read_notes, read_record
from components.core.records import StageRecord, read_records
from components.core.store import open_store
from pipelines.runs import record as run_record

FILES = {"html": "report.html", "summary": "report.json", "ledger": "ledger.jsonl", "decision": "decision.json", "card": "card.json"}
"""Results of a run, and their names in its record."""


class Located(Protocol):
    """What is needed of a KFP artifact."""

    path: str
    uri: str
    metadata: dict[str, Any]


def keep(records: str, results: Mapping[str, Located], references: Sequence[str] = ()) -> dict[str, Any]:
    """Copy the results of a run into its record, what they say into ``run.json``, and note that the run succeeded.

    That this was reached is the proof: the state that Kubeflow tells of a run may still be that of an attempt which was made good.

    Args:
        records: Store URI of the records of runs.
        results: Artifacts by their names in :data:`FILES`; decision and card where the method has them.
        references: Addresses of the records of tasks that came after the ledger.

    Returns:
        What a person compares between runs, by name: the report's figures and headline, what differs from the profile, and where the
        record is.

    Raises:
        InputError: The ledger or a record is missing or malformed.
        StoreError: The store cannot be read or written.
    """
    folder = run_record.folder_of(records)
    store = open_store(folder)
    for name, result in results.items():
        store.upload(Path(result.path), FILES[name])
    rows = [*read_records(results["ledger"].path, StageRecord), *map(read_record, references)]
    # An attempt that failed is in no ledger, and was paid for.
    failed = [row for row in read_notes(folder) if row.status != SUCCEEDED]
    record = run_record.from_ledger(run_record.read(folder), [*rows, *failed])
    decision, card = results.get("decision"), results.get("card")
    promotion = msgspec.json.decode(Path(decision.path).read_bytes()) if decision else {}
    summary = msgspec.json.decode(Path(results["summary"].path).read_bytes())
    figures: dict[str, Any] = summary["figures"]
    told = {"headline": summary["verdict"]["headline"], "record": folder}
    outputs = {name: result.uri for name, result in results.items()} | ({"model": str(card.metadata.get("model", ""))} if card else {})
    run_record.write(msgspec.structs.replace(record, promotion=promotion, outputs=outputs), folder)
    # Last of all: once this is said, nobody says that the run failed.
    run_record.finish(folder, succeeded=True)
    return figures | told | {f"set {name}": _shown(value) for name, value in record.changed.items()}


def _shown(value: Any) -> Any:
    """As Kubeflow takes it: a number or a text; of yes and no it would make 1 and 0."""
    return value if isinstance(value, str | float | int) and not isinstance(value, bool) else msgspec.json.encode(value).decode()
