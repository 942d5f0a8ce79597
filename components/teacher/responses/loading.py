"""Taking in what is stored: at first everything, later what has come since."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from components.core.store import Store
from components.teacher.responses.catalog import Catalog
from components.teacher.responses.segments import Part, Segment, parse_name, read_part, segments_among

READERS = 16
"""Segments that are read at once."""
TURNS = 5
"""Segments may be packed while they are listed and read: so often is listed anew."""


class _Job(NamedTuple):
    segment: Segment
    size: int
    start: int
    indexed: bool


class Loader:
    """Reads segments and puts what they hold into a catalog.

    Args:
        store: Where they lie.
        catalog: What is known.
        own: The writer whose segments the catalog learns of as they are written.
    """

    def __init__(self, store: Store, catalog: Catalog, own: str) -> None:
        self._store = store
        self._catalog = catalog
        self._own = own

    def read(self, prefix: str, writers: Collection[str] | None = None) -> list[Part]:
        """What there is below a prefix and is not known yet. Changes nothing, so that it may run in a thread.

        Args:
            prefix: Prefix of the names.
            writers: Only what these have written.

        Raises:
            StoreError: The store cannot be read.
        """
        known = {name: self._catalog.segments[number].known for name, number in self._catalog.current().items()}
        parts: dict[str, Part] = {}
        gone: set[str] = set()
        for _ in range(TURNS):
            vanished = self._read_listed(prefix, writers, known, parts)
            # What has vanished before it was read lies in a pack that is listed by now.
            if vanished <= gone:
                break
            gone |= vanished
        return list(parts.values())

    def _read_listed(self, prefix: str, writers: Collection[str] | None, known: dict[str, int], parts: dict[str, Part]) -> set[str]:
        items, indexed = segments_among(self._store.items(prefix))
        starts = dict(known)
        for part in parts.values():
            _raise(starts, part.replaces)
        vanished: set[str] = set()
        # Those with an index may replace others, which then need not be read.
        for names in (indexed, items.keys() - indexed):
            jobs = []
            for name in sorted(names - parts.keys()):
                segment, start = parse_name(name), starts.get(name, 0)
                if segment is None or segment.writer == self._own or items[name].size <= start:
                    continue
                if writers is None or segment.writer in writers:
                    jobs.append(_Job(segment, items[name].size, start, name in indexed))
            for job, found in zip(jobs, self._read_all(jobs), strict=True):
                if found is None:
                    vanished.add(job.segment.name)
                else:
                    parts[job.segment.name] = found
                    _raise(starts, found.replaces)
        return vanished

    def _read_all(self, jobs: list[_Job]) -> list[Part | None]:
        if len(jobs) < 2:
            return [read_part(self._store, *job) for job in jobs]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda job: read_part(self._store, *job), jobs))

    def absorb(self, parts: list[Part], take: Callable[[Part], None], first: bool = False) -> None:
        """Put what was read into the catalog.

        Args:
            parts: As :meth:`read` gives them.
            take: Is given each part that counts.
            first: The catalog is empty.
        """
        replaced: dict[str, int] = {}
        for part in parts:
            _raise(replaced, part.replaces)
        current = self._catalog.current()
        entries = []
        for part in parts:
            name, held = part.segment.name, replaced.get(part.segment.name, 0)
            if held >= part.end:
                continue
            number = current[name] if name in current else self._catalog.add_segment(part.segment)
            segment = self._catalog.segments[number]
            fresh = part.entries if held <= part.start else part.entries[part.entries["offset"] >= held]
            segment.count(fresh)
            segment.known = part.end
            entries.append((number, fresh))
            take(part)
        if first:
            self._catalog.build(entries)
        else:
            for number, fresh in entries:
                self._catalog.add(number, fresh)
        for name, length in replaced.items():
            if name in current and self._catalog.segments[current[name]].known <= length:
                self._catalog.retire(current[name])


def _raise(lengths: dict[str, int], other: dict[str, int]) -> None:
    for name, length in other.items():
        lengths[name] = max(lengths.get(name, 0), length)
