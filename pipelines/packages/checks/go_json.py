"""JSON as Go's encoder writes it: sizes of objects that Kubernetes keeps depend on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def dumps(value: Any, *, sort: bool = False) -> str:
    """Text without spaces, ``<``, ``>`` and ``&`` escaped, whole numbers without a fraction.

    Args:
        value: Mappings, lists, texts, numbers.
        sort: Keys in order, as Go does for maps; structs keep theirs.
    """
    text = json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, sort_keys=sort)
    for character, escaped in ESCAPES.items():
        text = text.replace(character, escaped)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
