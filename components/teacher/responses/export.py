"""Taking replies out of a response store, to read them or to use them elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from components.core.store import Store
from components.teacher.http.completions import decode_completion
from components.teacher.responses.lines import Line
from components.teacher.responses.survey import Progress, contents, survey


class _Request(msgspec.Struct):
    model: str = ""
    messages: list[Any] = []
    parameters: dict[str, Any] = {}
    sample: int = 0


class Exported(msgspec.Struct):
    """A row of an export."""

    key: str
    run: str
    time: str
    model: str
    messages: list[Any]
    parameters: dict[str, Any]
    sample: int
    reply: str
    prompt_tokens: float
    completion_tokens: float
    usd: float


def exported(
    store: Store,
    on_damage: Callable[[str, int], None],
    *,
    run: str = "",
    model: str = "",
    since: float = 0.0,
    progress: Progress | None = None,
) -> Iterator[Exported]:
    """The replies of a store, each request's once.

    Args:
        store: The store.
        on_damage: Is told segment and offset of each line that is skipped.
        run: Only what this run asked.
        model: Only replies of this model.
        since: Stored at this time or later, in Unix seconds.
        progress: Is told how far it has come.

    Raises:
        StoreError: The store cannot be read.
    """
    seen: set[bytes] = set()
    for content in contents(store, survey(store), progress):
        if run and content.segment.run != run:
            continue
        for offset, _, line in content.lines():
            row = _row(line, content.segment.run) if line is not None and line.key else None
            if line is None or (line.key and row is None):
                on_damage(content.segment.name, offset)
            if line is None or row is None or line.at < since or model not in ("", row.model):
                continue
            key = bytes.fromhex(line.key)
            if key not in seen:
                seen.add(key)
                yield row


def _row(line: Line, run: str) -> Exported | None:
    try:
        request = msgspec.json.decode(line.request, type=_Request)
        text = decode_completion(line.reply).text
    except msgspec.DecodeError:
        return None
    at = datetime.datetime.fromtimestamp(line.at, datetime.UTC).isoformat(timespec="seconds")
    return Exported(line.key, run, at, request.model, request.messages, request.parameters, request.sample, text, *line.spending)
