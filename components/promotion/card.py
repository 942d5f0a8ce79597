"""The lineage card of a model: everything that a person needs to trace it to its seed rows, and nothing secret."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, StrictUndefined

from components.core.errors import InputError
from components.core.ledger.reader import Ledger
from components.core.records import Record, Score, StageRecord, Usage
from components.core.redaction import redact
from components.promotion.records import Decision

MODEL_INFO = "tutorloop.json"
"""What a model folder says about itself."""


class Rows(Record, frozen=True, kw_only=True):
    """Row counts of one task, all shards together."""

    rows_in: int = 0
    rows_kept: int = 0
    dropped: dict[str, int] = msgspec.field(default_factory=dict)


class Card(Record, frozen=True, kw_only=True):
    """The lineage card."""

    schema: str = "tutorloop.card/1"
    name: str
    """Id of the model within its run, for example ``M3``."""
    role: str = ""
    """What it is for: ``preference``, ``sft``, ``verifier``, ..."""
    model: dict[str, Any]
    """What the model folder says about itself: parent, base model, digests, training."""
    finished_at: str
    """When the run's last recorded task began; UTC, ISO 8601."""
    pipeline_digest: str
    seeds: list[dict[str, Any]]
    """Sources of seed problems: files with digests, licences, rows."""
    benchmarks: list[dict[str, Any]]
    licences: list[str]
    """Of all seed rows."""
    prompts: dict[str, str]
    """Prompt name to version."""
    teacher: list[str]
    """Names of the teacher models."""
    usage: Usage
    """Of the teacher, whole run."""
    seconds: float
    """Wall time of all tasks added up."""
    rows: dict[str, Rows]
    """Task to row counts."""
    contamination: dict[str, float]
    scores: list[Score]
    decision: Decision
    options: dict[str, dict[str, Any]]
    """Task to the options it was given."""
    left_out: dict[str, str] = {}
    """Task to why it left its work out: a model that came through such a round is the one before it, unchanged."""
    lineage: dict[str, dict[str, Any]]
    """Task to what else it noted down."""


def build_card(model: Path, records: Sequence[StageRecord], decision: Decision, pipeline_digest: str) -> Card:
    """Make the card from the ledger.

    Args:
        model: The model folder.
        records: The ledger.
        decision: The promotion decision.
        pipeline_digest: Digest of the compiled pipeline; may be empty.

    Raises:
        InputError: The model folder's description is malformed.
    """
    ledger = Ledger(records)
    models = {model.name: model for model in ledger.models}
    seeds = _sources(records, "seeds")
    card = Card(
        name=decision.candidate,
        role=models[decision.candidate].role if decision.candidate in models else "",
        model=_model_info(model),
        finished_at=max((record.started_at for record in records), default=""),
        pipeline_digest=pipeline_digest,
        seeds=seeds,
        benchmarks=_sources(records, "benchmarks"),
        licences=sorted({licence for source in seeds for licence in source.get("licences", [])}),
        prompts={name: version for record in records for name, version in sorted(record.prompts.items())},
        teacher=sorted({str(record.lineage["teacher"]) for record in records if "teacher" in record.lineage}),
        usage=ledger.usage(),
        seconds=round(ledger.seconds, 1),
        rows={task.name: Rows(rows_in=task.rows_in, rows_kept=task.rows_kept, dropped=task.dropped) for task in ledger.tasks},
        contamination={name: value for task in ledger.of_stage("contamination") for name, value in task.counts.items()},
        scores=[score for model in ledger.models for score in model.benchmarks.values()],
        decision=decision,
        options={task.name: task.options for task in ledger.tasks if task.options},
        left_out={task.name: task.left_out for task in ledger.tasks if task.left_out},
        lineage={task.name: task.lineage for task in ledger.tasks if task.lineage and task.stage != "seeds"},
    )
    return msgspec.convert(redact(msgspec.to_builtins(card)), Card)


def _sources(records: Sequence[StageRecord], task: str) -> list[dict[str, Any]]:
    return [
        dict(source)
        for record in records
        if record.stage == "seeds" and record.task == task
        for source in record.lineage.get("sources", [])
    ]


def _model_info(model: Path) -> dict[str, Any]:
    path = model / MODEL_INFO
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any]) if path.exists() else {}
    except msgspec.DecodeError as error:
        raise InputError(f"not a model description: {error}", path, hint="train the model again") from error


def card_text(card: Card) -> str:
    """The card as Markdown, for people."""
    template = (files("components.promotion") / "templates" / "card.md").read_text(encoding="utf-8")
    # Markdown is no HTML: escaping would only garble it, and the texts here are names, numbers and licences.
    jinja = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    jinja.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    return jinja.from_string(template).render(card=card, compact=lambda value: msgspec.json.encode(value).decode())
