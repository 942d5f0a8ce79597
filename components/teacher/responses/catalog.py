"""Where every known reply lies, in little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from components.teacher.responses.index import Entries
from components.teacher.responses.lines import KEY_BYTES, NO_KEY
from components.teacher.responses.segments import Segment

_PLACE = np.dtype([("segment", "<u4"), ("length", "<u4"), ("offset", "<u8")])
Place = tuple[int, int, int]
"""Number of the segment, offset, length."""


class Catalog:
    """An index in memory: sorted arrays for what was there at first, a dictionary for what has come since.

    A reply may have several places, since two processes may have asked the same at once.

    Attributes:
        segments: All segments; a place names its segment by the position here.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self._high: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._low: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._places: npt.NDArray[np.void] = np.empty(0, _PLACE)
        self._recent: dict[bytes, Place] = {}
        self._gone: set[int] = set()
        self._bad: set[tuple[int, int]] = set()
        self._distinct: int | None = 0

    def __len__(self) -> int:
        if self._distinct is None:
            self._distinct = self._count()
        return self._distinct

    def add_segment(self, segment: Segment) -> int:
        """Give a segment a number."""
        self.segments.append(segment)
        return len(self.segments) - 1

    def build(self, parts: Sequence[tuple[int, Entries]]) -> None:
        """Take in everything that was there at first.

        Args:
            parts: Segments' numbers with their entries.
        """
        total = sum(len(entries) for _, entries in parts)
        keys, places = np.empty((total, 2), ">u8"), np.empty(total, _PLACE)
        at = 0
        for number, entries in parts:
            end = at + len(entries)
            keys[at:end] = np.ascontiguousarray(entries["key"]).view(">u8").reshape(-1, 2)
            places["segment"][at:end] = number
            places["length"][at:end], places["offset"][at:end] = entries["length"], entries["offset"]
            at = end
        high, low = keys[:, 0].astype(np.uint64), keys[:, 1].astype(np.uint64)
        order = np.lexsort((low, high))
        # Lines without a key sort first, and are never looked up.
        order = order[np.searchsorted(high, 0, "right", sorter=order) :]
        self._high, self._low, self._places = high[order], low[order], places[order]
        self._distinct = None

    def add(self, number: int, entries: Entries) -> None:
        """Take in what has come since."""
        for key, offset, length in zip(entries["key"].tolist(), entries["offset"].tolist(), entries["length"].tolist(), strict=True):
            self.put(bytes(key), (number, offset, length))

    def put(self, key: bytes, place: Place) -> None:
        """Take in one reply."""
        if key == NO_KEY:
            return
        if self._distinct is not None and not self.knows(key):
            self._distinct += 1
        self._recent[key] = place

    def knows(self, key: bytes) -> bool:
        """Whether a reply lies anywhere."""
        return next(self.places(key), None) is not None

    def places(self, key: bytes) -> Iterator[Place]:
        """Where a reply lies, the newest first."""
        place = self._recent.get(key)
        if place is not None and self.is_usable(place):
            yield place
        high, low = np.uint64(int.from_bytes(key[:8], "big")), int.from_bytes(key[8:KEY_BYTES], "big")
        at = int(self._high.searchsorted(high))
        while at < len(self._high) and self._high[at] == high:
            if int(self._low[at]) == low:
                number, length, offset = self._places[at].item()
                if self.is_usable((number, offset, length)):
                    yield number, offset, length
            at += 1

    def forget(self, place: Place) -> None:
        """There is nothing usable at a place."""
        self._bad.add(place[:2])
        self._distinct = None

    def retire(self, number: int) -> None:
        """A segment is gone, or known under another number."""
        self._gone.add(number)
        self.segments[number].days = {}
        self._distinct = None

    def is_current(self, number: int) -> bool:
        """Whether a segment is not retired."""
        return number not in self._gone

    def is_usable(self, place: Place) -> bool:
        """Whether a place's segment is not retired, nor the place forgotten."""
        return place[0] not in self._gone and place[:2] not in self._bad

    def current(self) -> dict[str, int]:
        """Numbers of the segments that are not retired, by name."""
        return {segment.name: number for number, segment in enumerate(self.segments) if number not in self._gone}

    def _count(self) -> int:
        usable = np.ones(len(self._high), bool)
        if self._gone:
            usable &= ~np.isin(self._places["segment"], list(self._gone))
        for number, offset in self._bad:
            usable &= ~((self._places["segment"] == number) & (self._places["offset"] == offset))
        high, low = self._high[usable], self._low[usable]
        first = np.ones(len(high), bool)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        count = int(first.sum())
        recent, self._recent = self._recent, {}
        try:
            return count + sum(1 for key, place in recent.items() if self.is_usable(place) and not self.knows(key))
        finally:
            self._recent = recent
