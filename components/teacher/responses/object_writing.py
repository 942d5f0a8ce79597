"""Writing into a remote store, where nothing can be appended."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import StoreError, reason_of
from components.core.store import KeysRefusedError, Store
from components.core.store.whole_files import append_whole
from components.teacher.responses.catalog import Catalog
from components.teacher.responses.index import SUFFIX, encode_index, entries_of
from components.teacher.responses.lines import Entry, encode_pack_head
from components.teacher.responses.reading import ObjectReader
from components.teacher.responses.segments import FOLDER, PRUNED, Segment, parse_name, segment_name
from components.teacher.responses.survey import replaced_by
from components.teacher.responses.writing import Writer

OBJECT_SEGMENT_BYTES = 256 << 10
"""What a small object may grow to: each put sends all of it."""
PACK_BYTES = 32 << 20
"""Bytes in small objects from which they are packed into a large one."""

LEAST_PACKED = 4
"""Fewer small objects are left as they are: a pack and its index are two objects as well."""


@dataclass
class _Small:
    """A small object: its bytes until it is complete, how many it has, how many the store has, and its name there."""

    data: bytearray = field(default_factory=bytearray)
    size: int = 0
    sent: int = 0
    name: str = ""


@dataclass
class _Batch:
    """What becomes one pack: its lines one after another in a local file, and the small objects that hold them so far."""

    path: Path
    place: int
    descriptor: int
    size: int = 0
    entries: list[Entry] = field(default_factory=list)
    objects: list[_Small] = field(default_factory=list)


class ObjectWriter(Writer):
    """Puts small objects anew as they grow, and packs them.

    All lines that came in during one put go with the next.

    Args:
        store: The remote store.
        run: The run's name, as a part of keys.
        writer: Who writes.
        catalog: Is told where each line lies.
        reader: Reads this process's own lines from a local file.
    """

    def __init__(self, store: Store, run: str, writer: str, catalog: Catalog, reader: ObjectReader) -> None:
        self._store = store
        self._run = run
        self._writer = writer
        self._catalog = catalog
        self._reader = reader
        self._numbers = itertools.count()
        self._may_delete = True
        self._batches: list[_Batch] = []
        self._appended = 0
        self._committed = 0
        self._commit: asyncio.Task[None] | None = None
        self._transfers = ThreadPoolExecutor(1, "responses-put")
        self._packing = ThreadPoolExecutor(1, "responses-pack")

    async def put(self, line: bytes, entry: Entry) -> None:
        self._append(line + b"\n", entry)
        ticket = self._appended
        while self._committed < ticket:
            if self._commit is None:
                self._commit = asyncio.create_task(self._send())
            await asyncio.shield(self._commit)

    def close(self) -> None:
        """Send what is left, pack, and tell when that fails: what was put before is safe in small objects."""
        batches, self._batches = self._batches, []
        try:
            self._transfers.submit(self._transmit, [small for batch in batches for small in batch.objects]).result()
            for batch in batches:
                self._packing.submit(self._pack, batch)
        except StoreError as error:
            print(f"response store {self._store.uri}: the last replies could not be stored: {error}", flush=True)
        finally:
            self._transfers.shutdown()
            self._packing.shutdown()

    def _append(self, data: bytes, entry: Entry) -> None:
        batch = self._batches[-1] if self._batches else self._begin()
        if batch.objects[-1].size >= OBJECT_SEGMENT_BYTES:
            if batch.size >= PACK_BYTES:
                batch = self._begin()
            else:
                batch.objects.append(_Small())
        offset = batch.size
        try:
            append_whole(batch.descriptor, data, offset)
        except OSError as error:
            raise StoreError(
                f"{batch.path}: a reply cannot be stored ({reason_of(error)})",
                "free space for temporary files, then run again; all earlier replies are kept",
            ) from error
        small = batch.objects[-1]
        small.data += data
        small.size += len(data)
        batch.size += len(data)
        batch.entries.append(entry._replace(offset=offset, length=len(data) - 1))
        self._catalog.put(entry.key, (batch.place, offset, len(data) - 1))
        self._appended += 1

    def _begin(self) -> _Batch:
        name = f"own-{len(self._catalog.segments)}"
        path = self._reader.scratch / name
        place = self._catalog.add_segment(Segment(name, self._run, self._writer, -1, scanned=True))
        batch = _Batch(path, place, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600), objects=[_Small()])
        self._reader.attach(name, path)
        self._batches.append(batch)
        return batch

    async def _send(self) -> None:
        ticket = self._appended
        pending = [small for batch in self._batches for small in batch.objects if small.sent < small.size]
        try:
            await asyncio.wrap_future(self._transfers.submit(self._transmit, pending))
            self._committed = ticket
            while len(self._batches) > 1 and all(small.sent == small.size for small in self._batches[0].objects):
                self._packing.submit(self._pack, self._batches.pop(0))
        finally:
            self._commit = None

    def _transmit(self, pending: list[_Small]) -> None:
        """Put objects, the oldest first."""
        for small in pending:
            data = bytes(small.data)
            if small.sent >= len(data):
                continue
            if small.name:
                self._store.write(small.name, data)
            else:
                small.name = self._create(data)
            small.sent = len(data)
            if small.sent >= OBJECT_SEGMENT_BYTES:
                small.data = bytearray()

    def _create(self, data: bytes) -> str:
        while True:
            name = segment_name(self._run, self._writer, next(self._numbers))
            if self._store.create(name, data):
                return name

    def _pack(self, batch: _Batch) -> None:
        """Put a batch as one object with its index; small ones go last, so that a reader finds each reply at any time."""
        os.close(batch.descriptor)
        if len(batch.objects) < LEAST_PACKED:
            return
        replaces = {small.name: small.size for small in batch.objects}
        try:
            self._pack_objects(batch, replaces)
        except (OSError, StoreError) as error:
            print(f"response store {self._store.uri}: small objects are left for `tutorloop store prune` to pack: {error}", flush=True)

    def _pack_objects(self, batch: _Batch, replaces: dict[str, int]) -> None:
        if self._packed_by_others(replaces):
            return
        head = encode_pack_head(replaces)
        data = head + batch.path.read_bytes()
        entries = entries_of(entry._replace(offset=entry.offset + len(head)) for entry in batch.entries)
        name = segment_name(self._run, self._writer, next(self._numbers))
        if self._store.create(name + SUFFIX, encode_index(name, len(data), entries, replaces)) and self._store.create(name, data):
            self._delete(replaces)

    def _packed_by_others(self, names: Mapping[str, int]) -> bool:
        """Whether `tutorloop store prune` has packed some of these meanwhile: a second pack would count them twice."""
        folder = f"{FOLDER}{self._run}/"
        if not names.keys() <= set(self._store.list(f"{folder}{self._writer}-")):
            return True
        # One that has grown since is there again.
        packs = [name for name in self._store.list(f"{folder}{PRUNED}") if parse_name(name)]
        return any(names.keys() & replaced_by(self._store, name).keys() for name in packs)

    def _delete(self, names: Iterable[str]) -> None:
        try:
            for name in names if self._may_delete else ():
                self._store.delete(name)
        except KeysRefusedError:
            # A run's keys need not be allowed to delete. Readers know that the pack holds all that these hold.
            self._may_delete = False
