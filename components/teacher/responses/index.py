"""The index of a segment: which replies it holds and where, so that a million of them load without reading the segments."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from components.teacher.responses.lines import Entry
from components.teacher.sharing.spending import DAY_S, Spending

SUFFIX = ".idx"

ENTRY = np.dtype(
    [
        ("key", "V16"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("at", "<u4"),
        ("prompt_tokens", "<f8"),
        ("completion_tokens", "<f8"),
        ("usd", "<f8"),
    ]
)
Entries = npt.NDArray[np.void]

_HEADER = struct.Struct("<4sIQQI")
_MAGIC = b"TLRI"
_VERSION = 1


class _About(msgspec.Struct):
    segment: str
    replaces: dict[str, int]


@dataclass(frozen=True)
class Index:
    """Attributes: the entries, the bytes of the segment that they describe, and the segments that it replaces."""

    entries: Entries
    length: int
    replaces: dict[str, int]


def entries_of(found: Iterable[Entry]) -> Entries:
    """Entries as one array."""
    return np.array(list(found), dtype=ENTRY)


def encode_index(segment: str, length: int, entries: Entries, replaces: Mapping[str, int]) -> bytes:
    """The file that holds an index.

    Args:
        segment: Name of the segment.
        length: Bytes of the segment that are described; it ends there.
        entries: One for each line.
        replaces: Segments that were packed into this one, and how much of each.
    """
    about = msgspec.json.encode(_About(segment, dict(replaces)))
    body = _HEADER.pack(_MAGIC, _VERSION, length, len(entries), len(about)) + about + entries.tobytes()
    return body + struct.pack("<I", zlib.crc32(body))


def decode_index(raw: bytes, segment: str) -> Index | None:
    """The index in a file; None when it is damaged, or of another segment or version."""
    if len(raw) < _HEADER.size + 4 or zlib.crc32(memoryview(raw)[:-4]) != struct.unpack("<I", raw[-4:])[0]:
        return None
    magic, version, length, count, about_length = _HEADER.unpack_from(raw)
    start = _HEADER.size + about_length
    if (magic, version) != (_MAGIC, _VERSION) or len(raw) != start + count * ENTRY.itemsize + 4:
        return None
    try:
        about = msgspec.json.decode(raw[_HEADER.size : start], type=_About)
    except msgspec.DecodeError:
        return None
    if about.segment != segment:
        return None
    return Index(np.frombuffer(raw, ENTRY, count, start), length, about.replaces)


def spending_by_day(entries: Entries) -> dict[int, Spending]:
    """What the replies have cost, by day since 1970 (UTC)."""
    if not len(entries):
        return {}
    days = entries["at"] // DAY_S
    return {
        int(day): Spending(*(float(entries[name][days == day].sum()) for name in ("prompt_tokens", "completion_tokens", "usd")))
        for day in np.unique(days)
    }
