"""The response store of one process: what it and all others have stored, and what it adds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace

from components.core.store import FolderStore, MissingKeyError, Store
from components.teacher.responses.catalog import Catalog, Place
from components.teacher.responses.lines import KEY_BYTES, NO_KEY, Entry, decode_line, encode_line
from components.teacher.responses.loading import Loader
from components.teacher.responses.object_writing import ObjectWriter
from components.teacher.responses.reading import FileReader, ObjectReader, Reader
from components.teacher.responses.segments import FOLDER, Part, read_part, safe_run
from components.teacher.responses.writing import FileWriter, Writer
from components.teacher.sharing.spending import DAY_S, Spending, day_of

SHOWN = 5
"""Most places of damage that an error names."""


class ResponseStore:
    """Replies of all runs, in one place.

    Args:
        store: Where they lie.
        run: Name of the run that new replies are noted under.
        writer: Who writes: letters, digits, dots, hyphens; no other process may ever have the same.

    Attributes:
        corrupt: Damaged lines found so far. They are told, and are not served.
    """

    def __init__(self, store: Store, run: str, writer: str) -> None:
        self.corrupt = 0
        self._store = store
        self._run = safe_run(run)
        self._name = writer
        self._catalog = Catalog()
        self._reader: Reader
        self._writer: Writer
        if isinstance(store, FolderStore):
            self._reader = FileReader(store)
            self._writer = FileWriter(store, self._run, writer, self._catalog)
        else:
            self._reader = reader = ObjectReader(store)
            self._writer = ObjectWriter(store, self._run, writer, self._catalog, reader)
        self._loader = Loader(store, self._catalog, writer)
        self._taking = asyncio.Lock()
        self._spent: dict[tuple[str | None, str | None, frozenset[str]], Spending] = {}

    def __len__(self) -> int:
        return len(self._catalog)

    def load(self) -> None:
        """Learn what is stored, from the indexes; segments without one are read.

        Raises:
            StoreError: The store cannot be read.
        """
        self._loader.absorb(self._loader.read(FOLDER), self._note, first=True)
        self._spent.clear()

    def known(self, key: str) -> bool:
        """Whether the reply to a request is stored, as far as is known without asking the store."""
        return self._catalog.knows(bytes.fromhex(key)[:KEY_BYTES])

    async def get(self, key: str) -> bytes | None:
        """The reply to a request, or None.

        A damaged one is told, and is None: it has to be asked again.

        Raises:
            StoreError: The store cannot be read.
        """
        wanted = bytes.fromhex(key)[:KEY_BYTES]
        while (place := next(self._catalog.places(wanted), None)) is not None:
            number, offset, length = place
            segment = self._catalog.segments[number]
            try:
                raw = self._reader.at_hand(segment.name, offset, length)
                if raw is None:
                    raw = await self._reader.read(segment.name, offset, length)
            except MissingKeyError:
                await self._vanished(number)
                continue
            line = decode_line(raw)
            if line is not None and line.key == key:
                return bytes(line.reply)
            await self._damaged(place)
        return None

    async def put(self, key: str, request: bytes, reply: bytes, spending: Spending) -> None:
        """Store the reply to a request; it is safe from a kill of this process once this returns.

        Args:
            key: ``request_key`` of the request.
            request: Its canonical form.
            reply: One JSON value.
            spending: What it has cost.

        Raises:
            StoreError: It could not be stored.
            msgspec.DecodeError: The reply is no JSON.
        """
        at = time.time()
        entry = Entry(bytes.fromhex(key)[:KEY_BYTES], 0, 0, int(at), *spending)
        await self._writer.put(encode_line(key, at, spending, request, reply), entry)

    async def put_spending(self, spending: Spending) -> None:
        """Store what a reply without usable text has cost: it counts in budgets, and is never served.

        Raises:
            StoreError: It could not be stored.
        """
        at = time.time()
        await self._writer.put(encode_line("", at, spending, b"null", b"null"), Entry(NO_KEY, 0, 0, int(at), *spending))

    async def refresh(self, writers: Collection[str] | None = None) -> None:
        """Take in what other writers have stored since this was last done.

        Args:
            writers: Those that may have stored something; None for all there are.

        Raises:
            StoreError: The store cannot be read.
        """
        wanted = None if writers is None else set(writers) - {self._name}
        if wanted == set():
            return
        async with self._taking:
            runs = {segment.writer: segment.run for segment in self._catalog.segments}
            prefixes = {FOLDER}
            if wanted is not None and wanted <= runs.keys():
                prefixes = {f"{FOLDER}{runs[name]}/" for name in wanted}
            for prefix in prefixes:
                await self._take(prefix, wanted)

    def spent(self, *, run: str | None = None, day: str | None = None, without: Collection[str] = ()) -> Spending:
        """What replies have cost that were taken in by :meth:`load` and :meth:`refresh`; not what this process has put.

        Args:
            run: Only what this run asked.
            day: Only this UTC day, for example ``2026-11-22``.
            without: Leave these writers out.
        """
        asked = (run, day, frozenset(without))
        if asked not in self._spent:
            self._spent[asked] = self._sum(None if run is None else safe_run(run), day, asked[2])
        return self._spent[asked]

    def close(self) -> None:
        """Finish what is being written."""
        self._writer.close()
        self._reader.close()

    def _sum(self, run: str | None, day: str | None, without: frozenset[str]) -> Spending:
        total = Spending()
        for segment in self._catalog.segments:
            if segment.writer not in without and run in (None, segment.run):
                for number, spending in segment.days.items():
                    if day is None or day == day_of(number * DAY_S):
                        total = total.plus(spending)
        return total

    async def _take(self, prefix: str, writers: Collection[str] | None = None) -> None:
        parts = await asyncio.to_thread(self._loader.read, prefix, writers)
        self._loader.absorb(parts, self._note)
        self._spent.clear()

    async def _vanished(self, number: int) -> None:
        """A segment has been packed, or pruned: learn what lies in its place."""
        async with self._taking:
            segment = self._catalog.segments[number]
            if not self._catalog.is_current(number):
                return
            await self._take(f"{FOLDER}{segment.run}/")
            self._catalog.retire(number)
            self._spent.clear()

    async def _damaged(self, place: Place) -> None:
        """Something else lies where a reply should be: believe the segment itself, not its index."""
        async with self._taking:
            number = place[0]
            segment = self._catalog.segments[number]
            # Others may have met the same place, and have told it.
            if not self._catalog.is_usable(place):
                return
            if segment.scanned:
                self._catalog.forget(place)
                self._tell(segment.name, [place[1]])
                return
            part = await asyncio.to_thread(read_part, self._store, replace(segment, days={}), 0)
            days = segment.days
            self._catalog.retire(number)
            if part is not None:
                # What was paid stays paid.
                part.segment.days, part.segment.known = days, part.end
                self._catalog.add(self._catalog.add_segment(part.segment), part.entries)
                self._note(part)
                if not part.damaged:
                    print(f"response store {self._store.uri}: the index of {segment.name} is wrong and is not used", flush=True)
            self._spent.clear()

    def _note(self, part: Part) -> None:
        if part.data:
            self._reader.keep(part.segment.name, part.start, part.data)
        if part.damaged:
            self._tell(part.segment.name, part.damaged)

    def _tell(self, name: str, damaged: list[int]) -> None:
        self.corrupt += len(damaged)
        places = ", ".join(map(str, damaged[:SHOWN])) + (" and others" if len(damaged) > SHOWN else "")
        print(
            f"response store {self._store.uri}: {name}: {len(damaged)} damaged replies are skipped and will be asked for again "
            f"(at byte {places})",
            flush=True,
        )
