"""Makes the report of a run: one HTML page for people and one JSON summary for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import InputError, ParameterError
from components.core.ledger.reader import Ledger
from components.core.records import StageRecord, read_records
from components.core.redaction import redact
from components.core.store.whole_files import write_whole
from components.report.figures import headline_figures
from components.report.page import CARDS, render
from components.report.summary import Summary, summarise
from components.report.verdict import judge_run, of_unfinished


def run(
    ledger: Path,
    decision: Path | None,
    html: Path,
    summary: Path,
    changed: Mapping[str, Any] | None = None,
    unfinished: str = "",
    cards: Sequence[str] = CARDS,
) -> Summary:
    """Write page and summary.

    Args:
        ledger: JSON Lines of StageRecord rows.
        decision: JSON of the promotion decision; None or an empty file when there is none.
        html: Where the page goes.
        summary: Where the JSON summary goes.
        changed: What the run does differently from its profile (:func:`components.report.changes.changes`); None for nothing.
        unfinished: Why the run did not come to its end; empty for one that did.
        cards: Names of the cards of the page, in their order.

    Returns:
        The summary.

    Raises:
        InputError: Ledger or decision is missing or malformed.
        ParameterError: There is no card of a name.
    """
    for card in cards:
        if card not in CARDS:
            raise ParameterError("cards", card, "one of " + ", ".join(CARDS))
    read = Ledger(read_records(ledger, StageRecord))
    judged = _read_decision(decision) if decision is not None else None
    verdict = judge_run(read, judged)
    made = summarise(read, judged, of_unfinished(verdict, redact(unfinished)) if unfinished else verdict)
    made = msgspec.structs.replace(made, figures=headline_figures(read, made), changed=redact(dict(changed or {})))
    write_whole(summary, msgspec.json.format(msgspec.json.encode(made), indent=1))
    write_whole(html, render(read, made, judged, cards).encode())
    return made


def _read_decision(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_bytes()
        return msgspec.json.decode(text, type=dict[str, Any]) if text.strip() else None
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"not a promotion decision: {error}", path, hint="run the promotion stage again") from error
