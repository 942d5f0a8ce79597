"""The response store: what the teacher has answered once is never asked, or paid for, again.

A reply lies under the hash of the canonical request that it answers. Replies are lines of segment files
(``segments/<run>/<writer>.jsonl``); a segment has one writer, so that any number of processes write at once without a lock.
In a folder a segment grows by appending. An S3 object cannot grow: there a segment is small and is put anew, whole, each time
replies have come in (all that came in during one put go with the next). Every line carries a checksum: what a kill or a full
disk left unfinished is skipped and asked again, never served.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import tempfile
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from components.core.errors import StoreError
from components.core.store import FolderStore, Store

SCHEMA = 1
"""Part of every key: a change of what a request means must change it."""

FOLDER_SEGMENT_BYTES = 64 << 20
OBJECT_SEGMENT_BYTES = 256 << 10

_LINE = re.compile(rb'\{"key":"([0-9a-f]{64})","crc":"([0-9a-f]{8})","reply":(.*)\}', re.DOTALL)


def request_key(model: str, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, float | int | str], sample: int) -> str:
    """The key of a request: SHA-256 of its canonical form.

    Args:
        model: Name of the model.
        messages: The chat so far.
        parameters: Sampling parameters by name.
        sample: Index among the samples of the same request.
    """
    canonical = {"schema": SCHEMA, "model": model, "messages": list(messages), "parameters": dict(parameters), "sample": sample}
    return hashlib.sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()


class ResponseStore:
    """Replies of all runs, in one place.

    Args:
        store: Where they lie.
        run: Name of the run that new replies are noted under.

    Attributes:
        corrupt: Lines that were skipped because their checksum is wrong.
    """

    def __init__(self, store: Store, run: str) -> None:
        self.corrupt = 0
        self._store = store
        self._run = re.sub(r"[^A-Za-z0-9._-]+", "-", run).strip(".") or "none"
        self._index: dict[bytes, tuple[int, int, int]] = {}
        self._files: list[Path] = []
        self._of_run: list[tuple[int, int, int]] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._segment = ""
        self._descriptor = -1
        self._size = 0
        self._appended = 0
        self._committed = 0
        self._commit: asyncio.Task[None] | None = None
        if not isinstance(store, FolderStore):
            self._scratch = tempfile.TemporaryDirectory(prefix="tutorloop-responses-")

    def __len__(self) -> int:
        return len(self._index)

    def load(self) -> None:
        """Read the index of everything that is stored.

        Raises:
            StoreError: The store cannot be read.
        """
        segments = list(self._store.list("segments/"))
        with ThreadPoolExecutor(16) as pool:
            for path in pool.map(self._local_copy, segments):
                self._files.append(path)
                for key, offset, length in self._scan(path):
                    self._index[key] = place = (len(self._files) - 1, offset, length)
                    if path.parent.name == self._run:
                        self._of_run.append(place)
        if self.corrupt:
            print(f"response store {self._store.uri}: {self.corrupt} damaged replies are skipped and will be asked for again", flush=True)

    def replies_of_run(self) -> Iterator[bytes]:
        """The replies that were stored under this run's name before now, by this and other processes."""
        for file, offset, length in self._of_run:
            yield self._read(self._files[file], offset, length)

    def get(self, key: str) -> bytes | None:
        """The reply to a request, or None."""
        place = self._index.get(bytes.fromhex(key))
        if place is None:
            return None
        file, offset, length = place
        return self._read(self._files[file], offset, length)

    async def put(self, key: str, reply: bytes) -> None:
        """Store the reply to a request; it is safe from a kill of this process once this returns.

        Args:
            key: ``request_key`` of the request.
            reply: One JSON value.

        Raises:
            StoreError: It could not be stored.
        """
        value = msgspec.json.format(reply, indent=-1)
        checksum = zlib.crc32(value, zlib.crc32(key.encode()))
        line = b'{"key":"%s","crc":"%08x","reply":%s}\n' % (key.encode(), checksum, value)
        offset = self._append(line)
        self._index[bytes.fromhex(key)] = (len(self._files) - 1, offset + len(line) - len(value) - 2, len(value))
        if self._scratch is not None:
            await self._committed_up_to(self._appended)

    def close(self) -> None:
        """Finish the segment being written."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._scratch is not None:
            self._scratch.cleanup()

    def _append(self, line: bytes) -> int:
        """Append to this process's segment; return the offset at which the line begins."""
        if self._descriptor < 0 or self._size >= FOLDER_SEGMENT_BYTES:
            self._start_segment()
        offset = self._size
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._descriptor, offset)
            raise StoreError(
                f"{self._files[-1]}: a reply cannot be stored ({error.strerror})",
                "free space, then run again; all earlier replies are kept",
            ) from error
        self._size += len(line)
        self._appended += 1
        return offset

    def _start_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._segment = f"segments/{self._run}/{now}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        path = self._local_path(self._segment)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError as error:
            raise StoreError(
                f"{path}: replies cannot be stored ({error.strerror})", "make the folder writable, or name another store"
            ) from error
        self._files.append(path)
        self._size = 0

    async def _committed_up_to(self, ticket: int) -> None:
        """Wait until the store holds the first ``ticket`` lines of this process; one put serves all that wait."""
        while self._committed < ticket:
            if self._commit is None:
                self._commit = asyncio.create_task(self._put_segment())
            await asyncio.shield(self._commit)

    async def _put_segment(self) -> None:
        ticket, segment = self._appended, self._segment
        data = self._files[-1].read_bytes()
        if self._size >= OBJECT_SEGMENT_BYTES:
            self._start_segment()
        try:
            await asyncio.to_thread(self._store.write, segment, data)
            self._committed = ticket
        finally:
            self._commit = None

    def _local_path(self, segment: str) -> Path:
        if isinstance(self._store, FolderStore):
            return self._store.path(segment)
        assert self._scratch is not None
        return Path(self._scratch.name) / segment

    def _local_copy(self, segment: str) -> Path:
        path = self._local_path(segment)
        return path if self._scratch is None else self._store.download(segment, path)

    def _scan(self, path: Path) -> Iterator[tuple[bytes, int, int]]:
        """Key, offset and length of every intact reply of a segment."""
        data = path.read_bytes()
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            match = _LINE.fullmatch(data, start, end)
            if match and zlib.crc32(match[3], zlib.crc32(match[1])) == int(match[2], 16):
                yield bytes.fromhex(match[1].decode()), match.start(3), len(match[3])
            else:
                self.corrupt += 1
            start = end + 1
        # A last line without its end is being written, or its writer was killed: not damage, and not an answer either.

    @staticmethod
    def _read(path: Path, offset: int, length: int) -> bytes:
        with path.open("rb") as handle:
            handle.seek(offset)
            return handle.read(length)
