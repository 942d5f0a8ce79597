"""The lines of a segment: JSON that a person can read, with a checksum over all of it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from components.teacher.sharing.spending import Spending

KEY_BYTES = 16
"""Bytes of a key that an index holds; the line itself holds the whole key."""
NO_KEY = bytes(KEY_BYTES)

_HEAD = re.compile(rb'\{"key":"([0-9a-f]{64}|)","crc":"([0-9a-f]{8})"')
_BEGIN = b'{"key":"'
_PACK = re.compile(rb'\{"crc":"([0-9a-f]{8})","replaces":(\{.*\})\}', re.DOTALL)
_PACK_BEGIN = b'{"crc":"'


class Line(msgspec.Struct):
    """A stored reply. One without a key was charged but holds no usable text: it counts, and is never served."""

    key: str
    at: float
    prompt_tokens: float
    completion_tokens: float
    usd: float
    request: msgspec.Raw
    reply: msgspec.Raw

    @property
    def spending(self) -> Spending:
        """What it has cost."""
        return Spending(self.prompt_tokens, self.completion_tokens, self.usd)


class Entry(NamedTuple):
    """What an index knows of a line."""

    key: bytes
    offset: int
    length: int
    at: int
    prompt_tokens: float
    completion_tokens: float
    usd: float


@dataclass
class Scan:
    """What a segment holds, from its own bytes.

    Attributes:
        entries: One for each intact line.
        damaged: Offsets of lines that are neither intact nor the torn last one.
        replaces: Segments that were packed into this one, and how much of each.
        end: Offset after the last complete line.
    """

    end: int
    entries: list[Entry] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    replaces: dict[str, int] = field(default_factory=dict)


_decode_line = msgspec.json.Decoder(Line).decode
_number = msgspec.json.Encoder().encode


def encode_line(key: str, at: float, spending: Spending, request: bytes, reply: bytes) -> bytes:
    """A line without its end.

    Args:
        key: Key of the request; empty for what is never served.
        at: Unix seconds.
        spending: What the reply has cost.
        request: Canonical request.
        reply: The reply, one JSON value.

    Raises:
        msgspec.DecodeError: The reply is no JSON.
    """
    prompt, completion, usd = map(_number, spending)
    rest = b',"at":%.3f,"prompt_tokens":%s,"completion_tokens":%s,"usd":%s,"request":%s,"reply":%s}' % (
        at,
        prompt,
        completion,
        usd,
        request,
        msgspec.json.format(reply, indent=-1),
    )
    name = key.encode()
    return b'{"key":"%s","crc":"%08x"%s' % (name, zlib.crc32(rest, zlib.crc32(name)), rest)


def decode_line(data: bytes | memoryview) -> Line | None:
    """A line from its bytes without its end; None when it is not as it was written."""
    head = _HEAD.match(data)
    if not head or zlib.crc32(data[head.end() :], zlib.crc32(head[1])) != int(head[2], 16):
        return None
    try:
        return _decode_line(data)
    except msgspec.DecodeError:
        return None


def entry_of(line: Line, offset: int, length: int) -> Entry:
    """The index entry of a line at a place."""
    key = bytes.fromhex(line.key)[:KEY_BYTES] if line.key else NO_KEY
    return Entry(key, offset, length, int(line.at), *line.spending)


def encode_pack_head(replaces: Mapping[str, int]) -> bytes:
    """The first line of a pack, with its end: a reader that still sees what was packed must not count it twice.

    Args:
        replaces: Names of the segments in it, and how many bytes of each.
    """
    names = msgspec.json.encode(dict(replaces))
    return b'{"crc":"%08x","replaces":%s}\n' % (zlib.crc32(names), names)


def may_be_pack(head: bytes) -> bool:
    """Whether a segment of this beginning may be a pack whose first line goes on after it."""
    return head.startswith(_PACK_BEGIN) and b"\n" not in head


def decode_pack_head(data: bytes) -> tuple[dict[str, int], int]:
    """What a segment replaces, and the bytes of its first line; nothing and 0 when it is no pack.

    Args:
        data: The segment's beginning.
    """
    end = data.find(b"\n") if data.startswith(_PACK_BEGIN) else -1
    pack = _PACK.fullmatch(data, 0, end) if end > 0 else None
    if not pack or zlib.crc32(pack[2]) != int(pack[1], 16):
        return {}, 0
    return msgspec.json.decode(pack[2], type=dict[str, int]), end + 1


def lines_in(data: bytes, begin: int = 0) -> Iterator[tuple[int, int, Line | None]]:
    """The complete lines of a segment, or of a part of it.

    A last line without its end is being written, or its writer was killed: not damage, and not a reply either.

    Args:
        data: The bytes.
        begin: Where the first line begins in them.

    Yields:
        Offset, length without the line's end, and the line; None where it is damaged.
    """
    view = memoryview(data)
    while (end := data.find(b"\n", begin)) >= 0:
        line = decode_line(view[begin:end])
        if line is not None:
            yield begin, end - begin, line
        else:
            # A line that lost its end swallows the beginning of the next one, which may be whole.
            place, whole = begin, None
            while whole is None and (place := data.find(_BEGIN, place + 1, end)) >= 0:
                whole = decode_line(view[place:end])
            yield begin, (place if whole else end) - begin, None
            if whole:
                yield place, end - place, whole
        begin = end + 1


def scan(data: bytes, start: int = 0) -> Scan:
    """Find the intact lines of a segment, or of a part that begins with a line.

    Args:
        data: The bytes.
        start: Their offset in the segment.
    """
    found = Scan(start)
    if not start:
        found.replaces, found.end = decode_pack_head(data)
    for offset, length, line in lines_in(data, found.end - start):
        if line is None:
            found.damaged.append(start + offset)
        else:
            found.entries.append(entry_of(line, start + offset, length))
    found.end = start + data.rfind(b"\n") + 1
    return found
