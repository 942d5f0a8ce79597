"""Writing into a folder: a segment grows by one write for each reply."""

from __future__ import annotations

import fcntl
import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from components.core.errors import StoreError, reason_of
from components.core.store import FolderStore
from components.core.store.whole_files import append_whole
from components.teacher.responses.catalog import Catalog
from components.teacher.responses.index import SUFFIX, encode_index, entries_of
from components.teacher.responses.lines import Entry
from components.teacher.responses.segments import Segment, segment_name

FOLDER_SEGMENT_BYTES = 64 << 20


class Writer(ABC):
    """Puts lines into segments of its own, and tells the catalog where."""

    @abstractmethod
    async def put(self, line: bytes, entry: Entry) -> None:
        """Store a line; it is safe from a kill of this process once this returns.

        Args:
            line: The line without its end.
            entry: What the index will say of it; its place does not count.

        Raises:
            StoreError: It could not be stored.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what is being written."""


class FileWriter(Writer):
    """Appends to files.

    Args:
        store: The folder.
        run: The run's name, as a part of keys.
        writer: Who writes.
        catalog: Is told where each line lies.
    """

    def __init__(self, store: FolderStore, run: str, writer: str, catalog: Catalog) -> None:
        self._store = store
        self._run = run
        self._writer = writer
        self._catalog = catalog
        self._descriptor = -1
        self._number = 0
        self._size = 0
        self._segment: Segment | None = None
        self._place = 0
        self._entries: list[Entry] = []
        self._sealing = ThreadPoolExecutor(1, "responses")

    async def put(self, line: bytes, entry: Entry) -> None:
        if self._descriptor < 0 or self._size >= FOLDER_SEGMENT_BYTES:
            self._seal()
            self._begin()
        offset = self._size
        self._append(line + b"\n")
        self._entries.append(entry._replace(offset=offset, length=len(line)))
        self._catalog.put(entry.key, (self._place, offset, len(line)))

    def close(self) -> None:
        self._seal()
        self._sealing.shutdown()

    def _append(self, data: bytes) -> None:
        try:
            append_whole(self._descriptor, data, self._size)
        except OSError as error:
            # Longer than before where it could not be cut off again: the offsets of what follows hold all the same.
            self._size = os.fstat(self._descriptor).st_size
            assert self._segment is not None
            raise StoreError(
                f"{self._store.root / self._segment.name}: a reply cannot be stored ({reason_of(error)})",
                "free space, then run again; all earlier replies are kept",
            ) from error
        self._size += len(data)

    def _begin(self) -> None:
        while True:
            name = segment_name(self._run, self._writer, self._number)
            path = self._store.path(name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:
                self._number += 1
                continue
            except OSError as error:
                raise StoreError(
                    f"{path}: replies cannot be stored ({reason_of(error)})", "make the folder writable, or name another store"
                ) from error
            break
        with suppress(OSError):
            # Held until this process ends, however it ends: upkeep sees that the writer lives.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._segment = Segment(name, self._run, self._writer, self._number, scanned=True)
        self._place = self._catalog.add_segment(self._segment)
        self._number += 1
        self._size = 0

    def _seal(self) -> None:
        if self._descriptor < 0 or self._segment is None:
            return
        self._sealing.submit(_finish, self._store, self._descriptor, self._segment.name, self._size, self._entries)
        self._descriptor, self._entries = -1, []


def _finish(store: FolderStore, descriptor: int, name: str, size: int, entries: list[Entry]) -> None:
    """Put the index beside a complete segment. Without it the segment is scanned: a full disk is no reason to fail."""
    with suppress(OSError):
        os.fsync(descriptor)
    with suppress(StoreError):
        store.write(name + SUFFIX, encode_index(name, size, entries_of(entries), {}))
    os.close(descriptor)
