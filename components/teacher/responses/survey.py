"""Reading a whole response store: statistics, and the check of every byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from components.core.store import Item, MissingKeyError, Store
from components.teacher.responses.index import SUFFIX, decode_index, entries_of
from components.teacher.responses.keys import key_of
from components.teacher.responses.lines import KEY_BYTES, Line, decode_pack_head, lines_in, may_be_pack, scan
from components.teacher.responses.segments import FOLDER, Segment, parse_name, segments_among
from components.teacher.sharing.spending import Spending, day_of

HEAD_BYTES = 1 << 16
LOOSE_BYTES = 16 << 20
"""Smaller segments are worth packing."""

Progress = Callable[[int, int], None]
"""Is told bytes read and bytes altogether."""


class Model(msgspec.Struct):
    """The part of a canonical request that says who was asked."""

    model: str = ""


_decode_model = msgspec.json.Decoder(Model | None).decode


def model_of(line: Line) -> str:
    """Name of the model that was asked; empty for what holds no request."""
    found = _decode_model(line.request)
    return found.model if found else ""


@dataclass
class Listing:
    """The segments of a store, as they lie there.

    Attributes:
        items: All listed segments by name.
        indexed: Names of those with an index.
        orphans: Indexes whose segment is not there.
        replaces: What each pack replaces, and how much of it.
    """

    items: dict[str, Item]
    indexed: set[str]
    orphans: dict[str, Item]
    replaces: dict[str, dict[str, int]]

    @property
    def held(self) -> dict[str, int]:
        """How much of segments lies in packs too."""
        lengths: dict[str, int] = {}
        for names in self.replaces.values():
            for name, length in names.items():
                lengths[name] = max(lengths.get(name, 0), length)
        return lengths

    @property
    def counting(self) -> list[str]:
        """Names of the segments that do not lie whole in a pack."""
        held = self.held
        return [name for name in sorted(self.items) if held.get(name, -1) < self.items[name].size]


def replaced_by(store: Store, name: str) -> dict[str, int]:
    """What a segment replaces, and how much of each; nothing when it is no pack, or gone.

    Raises:
        StoreError: The store cannot be read.
    """
    try:
        head = store.read_range(name, 0, HEAD_BYTES)
        return decode_pack_head(store.read_range(name, 0) if len(head) == HEAD_BYTES and may_be_pack(head) else head)[0]
    except MissingKeyError:
        return {}


def survey(store: Store) -> Listing:
    """List a store's segments and what the packs among them replace.

    Raises:
        StoreError: The store cannot be read.
    """
    listed = list(store.items(FOLDER))
    items, indexed = segments_among(listed)
    orphans = {item.key: item for item in listed if item.key.endswith(SUFFIX) and parse_name(item.key[: -len(SUFFIX)])}
    orphans = {key: item for key, item in orphans.items() if key[: -len(SUFFIX)] not in items}

    with ThreadPoolExecutor(16) as pool:
        replaces = dict(zip(items, pool.map(lambda name: replaced_by(store, name), items), strict=True))
    return Listing(items, indexed, orphans, {name: names for name, names in replaces.items() if names})


@dataclass
class Content:
    """A segment with its bytes.

    Attributes:
        segment: The segment.
        data: All its bytes.
        start: Where what counts begins: after a pack's first line, or after what lies in a pack too.
    """

    segment: Segment
    data: bytes
    start: int

    def lines(self) -> Iterator[tuple[int, int, Line | None]]:
        """As :func:`lines_in`."""
        return lines_in(self.data, self.start)


def contents(store: Store, listing: Listing, progress: Progress | None = None) -> Iterator[Content]:
    """Every segment of a listing that counts, one after the other; those that have gone meanwhile are left out.

    Raises:
        StoreError: The store cannot be read.
    """
    held, names = listing.held, listing.counting
    total, read = sum(listing.items[name].size for name in names), 0
    for name in names:
        try:
            data = store.read_range(name, 0)
        except MissingKeyError:
            continue
        segment = parse_name(name)
        assert segment is not None
        yield Content(segment, data, held.get(name, decode_pack_head(data)[1]))
        read += listing.items[name].size
        if progress:
            progress(read, total)


@dataclass
class Share:
    """Some of the replies."""

    replies: int = 0
    tokens: float = 0.0
    usd: float = 0.0

    def add(self, spending: Spending) -> None:
        """Count one."""
        self.replies += 1
        self.tokens += spending.tokens
        self.usd += spending.usd


@dataclass
class Statistics:
    """What ``tutorloop store stats`` tells.

    Attributes:
        replies: Replies that can be served.
        distinct: Requests that they answer.
        duplicates: Replies beyond the first to the same request: paid for twice.
        unusable: Replies that were charged but hold no usable text.
        damaged: Lines that are not as they were written.
        bytes: Size of everything, indexes and what lies twice included.
        segments: Files or objects with replies.
        loose: Small segments that packing would bring together.
        without_index: Segments that have to be scanned at every start.
        total: All together.
        by_run: By run.
        by_model: By model.
        by_day: By UTC day.
    """

    replies: int = 0
    distinct: int = 0
    duplicates: int = 0
    unusable: int = 0
    damaged: int = 0
    bytes: int = 0
    segments: int = 0
    loose: int = 0
    without_index: int = 0
    total: Share = field(default_factory=Share)
    by_run: dict[str, Share] = field(default_factory=dict)
    by_model: dict[str, Share] = field(default_factory=dict)
    by_day: dict[str, Share] = field(default_factory=dict)


def statistics(store: Store, progress: Progress | None = None) -> Statistics:
    """Count everything in a store.

    Raises:
        StoreError: The store cannot be read.
    """
    listing, found, keys = survey(store), Statistics(), set[bytes]()
    found.bytes = sum(item.size for item in store.items(FOLDER))
    found.segments = len(listing.items)
    found.loose = sum(item.size < LOOSE_BYTES for item in listing.items.values())
    found.without_index = len(listing.items.keys() - listing.indexed)
    for content in contents(store, listing, progress):
        for _, _, line in content.lines():
            if line is None:
                found.damaged += 1
                continue
            if line.key:
                found.replies += 1
                keys.add(bytes.fromhex(line.key)[:KEY_BYTES])
            else:
                found.unusable += 1
            day = day_of(line.at)
            for shares, name in ((found.by_run, content.segment.run), (found.by_model, model_of(line)), (found.by_day, day)):
                shares.setdefault(name, Share()).add(line.spending)
            found.total.add(line.spending)
    found.distinct = len(keys)
    found.duplicates = found.replies - found.distinct
    return found


@dataclass
class Verdict:
    """What ``tutorloop store verify`` found.

    Attributes:
        replies: Intact lines.
        segments: Segments that were read.
        damaged: Offsets of damaged lines by segment.
        foreign: Offsets of intact lines whose key is not that of their request, by segment.
        cut: Bytes that segments lack at their ends.
        torn: Segments whose last line has no end: a writer was killed, or is writing.
        wrong_indexes: Indexes that are damaged or do not tell what their segment holds.
    """

    replies: int = 0
    segments: int = 0
    damaged: dict[str, list[int]] = field(default_factory=dict)
    foreign: dict[str, list[int]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    wrong_indexes: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether everything is as it was written."""
        return not (self.damaged or self.foreign or self.cut or self.wrong_indexes)


def verify(store: Store, progress: Progress | None = None) -> Verdict:
    """Check every line's checksum and key, and every index.

    Raises:
        StoreError: The store cannot be read.
    """
    listing, found = survey(store), Verdict()
    for content in contents(store, listing, progress):
        name = content.segment.name
        found.segments += 1
        for offset, _, line in content.lines():
            if line is None:
                found.damaged.setdefault(name, []).append(offset)
            elif line.key and line.key != key_of(bytes(line.request)):
                found.foreign.setdefault(name, []).append(offset)
            else:
                found.replies += 1
        if not content.data.endswith(b"\n") and content.data:
            found.torn.append(name)
        if name in listing.indexed:
            _check_index(store, name, content.data, found)
    return found


def _check_index(store: Store, name: str, data: bytes, found: Verdict) -> None:
    try:
        index = decode_index(store.read(name + SUFFIX), name)
    except MissingKeyError:
        return
    if index is not None and index.length > len(data):
        found.cut[name] = index.length - len(data)
        return
    whole = scan(data)
    # An index that describes less is passed over; lines that were damaged later are told by themselves.
    if index is not None and (index.length < len(data) or whole.damaged):
        return
    if index is None or index.entries.tobytes() != entries_of(whole.entries).tobytes():
        found.wrong_indexes.append(name + SUFFIX)
