"""Names of segments, and reading what one holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from components.core.store import Item, MissingKeyError, Store
from components.teacher.responses.index import SUFFIX, Entries, decode_index, entries_of, spending_by_day
from components.teacher.responses.lines import scan
from components.teacher.sharing.spending import Spending

FOLDER = "replies/"
PRUNED = "packed."
"""Begins the name of the writer of what pruning packs."""
_NAME = re.compile(r"replies/(?P<run>[A-Za-z0-9._-]+)/(?P<writer>[A-Za-z0-9.-]+)-(?P<number>\d+)\.jsonl")


@dataclass
class Segment:
    """A segment and how much of it is known.

    Attributes:
        name: Its key in the store.
        run: Name of the run that wrote it.
        writer: Who wrote it.
        number: Its number among the writer's.
        known: Bytes whose lines are known.
        days: What its replies have cost, by day.
        scanned: Its entries come from its own bytes, not from an index.
    """

    name: str
    run: str
    writer: str
    number: int
    known: int = 0
    days: dict[int, Spending] = field(default_factory=dict)
    scanned: bool = False

    def count(self, entries: Entries) -> None:
        """Add what further entries have cost."""
        for day, spending in spending_by_day(entries).items():
            self.days[day] = self.days.get(day, Spending()).plus(spending)


@dataclass(frozen=True)
class Part:
    """What was read of a segment.

    Attributes:
        segment: The segment.
        entries: Lines in this part.
        damaged: Offsets of damaged lines.
        replaces: Segments that it replaces, and how much of each.
        data: The part's bytes, when they were read.
        start: Their offset.
        end: Offset after the last complete line.
    """

    segment: Segment
    entries: Entries
    damaged: list[int]
    replaces: dict[str, int]
    data: bytes
    start: int
    end: int


def safe_run(run: str) -> str:
    """A run's name as a part of keys."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run).strip(".") or "none"


def segment_name(run: str, writer: str, number: int) -> str:
    """The key of a segment."""
    return f"{FOLDER}{run}/{writer}-{number:05d}.jsonl"


def parse_name(name: str) -> Segment | None:
    """The segment of this name; None when it is none."""
    match = _NAME.fullmatch(name)
    return Segment(name, match["run"], match["writer"], int(match["number"])) if match else None


def segments_among(items: Iterable[Item]) -> tuple[dict[str, Item], set[str]]:
    """Of a listing, the segments by name, and the names of those with an index."""
    listed = {item.key: item for item in items}
    found = {name: item for name, item in listed.items() if parse_name(name)}
    return found, {name for name in found if name + SUFFIX in listed}


def read_part(store: Store, segment: Segment, size: int, start: int = 0, indexed: bool = False) -> Part | None:
    """What a segment holds, from its index when there is one that fits, else from its bytes.

    Args:
        store: Where it lies.
        segment: Which.
        size: Its size as listed.
        start: Skip so much.
        indexed: Whether an index is listed.

    Returns:
        What was read; None when the segment is gone.

    Raises:
        StoreError: It cannot be read.
    """
    if indexed and not start:
        try:
            index = decode_index(store.read(segment.name + SUFFIX), segment.name)
        except MissingKeyError:
            index = None
        if index is not None and index.length == size:
            return Part(segment, index.entries, [], index.replaces, b"", 0, size)
    try:
        data = store.read_range(segment.name, start)
    except MissingKeyError:
        return None
    segment.scanned = True
    found = scan(data, start)
    return Part(segment, entries_of(found.entries), found.damaged, found.replaces, data, start, found.end)
