"""Reading parts of segments: files by open descriptors, objects by blocks that are kept in a scratch file."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from components.core.errors import StoreError
from components.core.store import FolderStore, MissingKeyError, Store

OPEN_FILES = 64
BLOCK_BYTES = 1 << 20
"""Bytes of an object that are read at once: replies of one run lie beside each other, and are wanted together."""


class Reader(ABC):
    """Reads parts of segments."""

    @abstractmethod
    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        """A part that needs no waiting; None when it does.

        Raises:
            MissingKeyError: The segment is gone.
            StoreError: The store cannot be read.
        """

    @abstractmethod
    async def read(self, name: str, offset: int, length: int) -> bytes:
        """A part; shorter where the segment ends.

        Raises:
            MissingKeyError: The segment is gone.
            StoreError: The store cannot be read.
        """

    @abstractmethod
    def keep(self, name: str, start: int, data: bytes) -> None:
        """Take a part that was read for another reason."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held."""


class _Files:
    """Open descriptors, the least used of which is closed when there are too many."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()

    def read(self, path: Path, offset: int, length: int) -> bytes:
        descriptor = self._open.get(path)
        cached = descriptor is not None
        if descriptor is None:
            descriptor = self._open[path] = os.open(path, os.O_RDONLY)
            if len(self._open) > OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        else:
            self._open.move_to_end(path)
        try:
            return os.pread(descriptor, length, offset)
        except OSError as error:
            os.close(self._open.pop(path))
            # The file server has another file there by now, or is new itself.
            if cached and error.errno == errno.ESTALE:
                return self.read(path, offset, length)
            raise

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


class FileReader(Reader):
    """Segments in a folder.

    Args:
        store: The folder.
    """

    def __init__(self, store: FolderStore) -> None:
        self._store = store
        self._files = _Files()

    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        try:
            return self._files.read(self._store.root / name, offset, length)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                raise MissingKeyError(f"{self._store.uri}: there is nothing under {name!r}") from error
            if error.errno == errno.EIO:
                # A disk that cannot read it holds nothing usable there.
                return b""
            # Anything else says nothing about the reply, which must not be paid again for it.
            raise StoreError(
                f"{self._store.uri}: {name} cannot be read ({error.strerror})",
                "raise the limit of open files (`ulimit -n`), then run again"
                if error.errno in (errno.EMFILE, errno.ENFILE)
                else "make it readable for this user, then run again; all replies are kept",
            ) from error

    async def read(self, name: str, offset: int, length: int) -> bytes:
        return self.at_hand(name, offset, length) or b""

    def keep(self, name: str, start: int, data: bytes) -> None:
        """Files are at hand."""

    def close(self) -> None:
        self._files.close()


@dataclass
class _Copy:
    """What is here of an object.

    Attributes:
        path: A sparse file with the same offsets.
        head: Bytes from the beginning that are here.
        blocks: How many bytes of each block are here, by its number: fewer than a whole one where the object ended, which may grow.
        coming: Blocks that are under way.
    """

    path: Path
    head: int = 0
    blocks: dict[int, int] = field(default_factory=dict)
    coming: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def has(self, block: int, end: int) -> bool:
        """Whether what a block has of the bytes before ``end`` is here."""
        return self.blocks.get(block, -1) >= min(end - block * BLOCK_BYTES, BLOCK_BYTES)


class ObjectReader(Reader):
    """Segments in a remote store.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._scratch = tempfile.TemporaryDirectory(prefix="tutorloop-responses-")
        self._files = _Files()
        self._copies: dict[str, _Copy] = {}

    @property
    def scratch(self) -> Path:
        """A folder for as long as the reader is open."""
        return Path(self._scratch.name)

    def attach(self, name: str, path: Path) -> None:
        """Read a segment from a local file that its writer in this process has."""
        self._copies[name] = _Copy(path, head=1 << 62)

    def at_hand(self, name: str, offset: int, length: int) -> bytes | None:
        copy = self._copies.get(name)
        if copy is None or (offset + length > copy.head and not all(copy.has(block, offset + length) for block in _blocks(offset, length))):
            return None
        data = self._files.read(copy.path, offset, length)
        return data if len(data) == length else None

    async def read(self, name: str, offset: int, length: int) -> bytes:
        copy = self._copy(name)
        for block in _blocks(offset, length):
            # One that is under way may have been read before the object grew.
            for _ in range(1 + (block in copy.coming)):
                if copy.has(block, offset + length):
                    break
                task = copy.coming.get(block)
                if task is None:
                    task = copy.coming[block] = asyncio.create_task(self._bring(name, copy, block))
                # Whoever waits may be cancelled; others wait for the same block.
                await asyncio.shield(task)
        return self._files.read(copy.path, offset, length)

    def keep(self, name: str, start: int, data: bytes) -> None:
        copy = self._copy(name)
        if start <= copy.head:
            _write_at(copy.path, start, data)
            copy.head = max(copy.head, start + len(data))

    def close(self) -> None:
        self._files.close()
        self._scratch.cleanup()

    def _copy(self, name: str) -> _Copy:
        copy = self._copies.get(name)
        if copy is None:
            copy = self._copies[name] = _Copy(self.scratch / f"copy-{len(self._copies)}")
            copy.path.touch()
        return copy

    async def _bring(self, name: str, copy: _Copy, block: int) -> None:
        try:
            data = await asyncio.to_thread(self._store.read_range, name, block * BLOCK_BYTES, BLOCK_BYTES)
            await asyncio.to_thread(_write_at, copy.path, block * BLOCK_BYTES, data)
            copy.blocks[block] = len(data)
        finally:
            del copy.coming[block]


def _blocks(offset: int, length: int) -> range:
    return range(offset // BLOCK_BYTES, (offset + max(length, 1) - 1) // BLOCK_BYTES + 1)


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(data)
