"""A log that several processes write and all of them read in the same order: what one has read before it appends, nobody can change.

An entry is appended only if its writer has read every entry before it. Who loses that race reads what came in between, thinks again and
tries again: so that processes agree without a server of their own. In a folder the log is one file, appended to under ``flock``. In a
bucket, where nothing can grow, an entry is an object whose name is the next number, made by a conditional PUT.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from components.core.errors import StoreError, reason_of
from components.core.store import FolderStore, MissingKeyError, Store
from components.core.store.whole_files import append_whole

CHECKPOINT_EVERY = 64
"""Entries of a bucket's log from one that repeats all that still matters to the next: a new reader starts there."""
LONG_BYTES = 4 << 20
"""A folder's log that is longer begins anew with a checkpoint as soon as one process is at work alone."""
KEPT = 4096
"""Entries that stay for readers that are behind, when others are at work."""
LONG_AGO_S = 20.0
"""Who has not read a bucket's log for so long (a paused machine) looks whether the entries that it needs are still there."""
TURNS = 5
"""Attempts at reading while others remove old entries."""
BEGINNING_BYTES = 256
"""What a folder's log is recognised by."""


def uptime() -> float:
    """Seconds from some start, the time that the machine sleeps included; other clocks stand still meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class SharedLog(ABC):
    """A log, as one process sees it.

    Attributes:
        remote: Whether calls go over a network: they then belong into a thread.
        gaps: How often entries were gone before this process had read them, as others took it for dead. Reading went on at the last
            checkpoint, or at the beginning of a folder's new file.
    """

    remote: bool
    gaps = 0

    @property
    @abstractmethod
    def checkpoint_due(self) -> bool:
        """Whether the next entry must repeat what a new reader has to know."""

    @abstractmethod
    def read_new(self) -> list[bytes]:
        """Entries that this process has not seen yet, at first those from the last checkpoint on."""

    @abstractmethod
    def append(self, entry: bytes, alone: bool = False) -> bool:
        """Append an entry, if this process has read all that are there.

        Args:
            entry: Without line breaks, and unlike every other entry ever appended, in its first :data:`BEGINNING_BYTES` bytes too.
            alone: No other process is at work: a checkpoint may take the place of all earlier entries.

        Returns:
            False when there are entries to read first; nothing is appended then.

        Raises:
            StoreError: The entry cannot be written.
        """

    @abstractmethod
    def tidy(self, alone: bool) -> None:
        """Remove entries that nobody needs.

        Args:
            alone: No other process is at work, and none of the entries matters to a new one.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the log."""


def open_log(store: Store, name: str) -> SharedLog:
    """Open a log, empty if nobody has written to it.

    Args:
        store: Where it lies.
        name: Its key (a folder's file is ``<name>.jsonl``, a bucket's entries lie below ``<name>/``).

    Raises:
        StoreError: It cannot be read or made.
    """
    return _FileLog(store, name) if isinstance(store, FolderStore) else _ObjectLog(store, name)


class _FileLog(SharedLog):
    remote = False

    def __init__(self, store: FolderStore, name: str) -> None:
        self._path = store.path(f"{name}.jsonl")
        self._position = 0
        self._beginning = b""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"{self._path}: {reason_of(error)}", "make the folder writable, or name another store") from error

    def read_new(self) -> list[bytes]:
        with self._locked(fcntl.LOCK_SH):
            if self._began_anew():
                self.gaps += 1
                self._position = 0
            size = os.fstat(self._descriptor).st_size
            data = os.pread(self._descriptor, size - self._position, self._position)
        whole = data.rfind(b"\n") + 1
        self._go_on(data[:whole])
        return data[:whole].splitlines()

    @property
    def checkpoint_due(self) -> bool:
        return self._position > LONG_BYTES

    def append(self, entry: bytes, alone: bool = False) -> bool:
        with self._locked():
            size = os.fstat(self._descriptor).st_size
            if size != self._position or self._began_anew():
                # Nobody writes now: an end without a line break is what a killed writer left.
                if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                    os.write(self._descriptor, b"\n")
                return False
            if alone and self.checkpoint_due:
                os.ftruncate(self._descriptor, 0)
                size = self._position = 0
            line = entry + b"\n"
            append_whole(self._descriptor, line, size)
            self._go_on(line)
        return True

    def tidy(self, alone: bool) -> None:
        if not alone:
            return
        with self._locked():
            if os.fstat(self._descriptor).st_size == self._position and not self._began_anew():
                os.ftruncate(self._descriptor, 0)
                self._position = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def _go_on(self, lines: bytes) -> None:
        if self._position == 0:
            self._beginning = lines[:BEGINNING_BYTES]
        self._position += len(lines)

    def _began_anew(self) -> bool:
        """Whether one who saw nobody else at work has emptied the file since it was read, however long it is again."""
        return self._position > 0 and os.pread(self._descriptor, len(self._beginning), 0) != self._beginning

    @contextlib.contextmanager
    def _locked(self, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
        try:
            fcntl.flock(self._descriptor, kind)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OSError as error:
            raise StoreError(
                f"{self._path}: {reason_of(error)}", "free space or mend the disk, then run again; finished work is kept"
            ) from error


class _ObjectLog(SharedLog):
    remote = True

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._prefix = f"{name}/"
        self._next = self._last_checkpoint(self._numbers())
        self._read_at = -math.inf

    @property
    def checkpoint_due(self) -> bool:
        return self._next % CHECKPOINT_EVERY == 0

    def read_new(self) -> list[bytes]:
        now = uptime()
        entries = self._read_from(self._next)
        if now - self._read_at > LONG_AGO_S:
            # Looked at afterwards: another may tidy while this reads.
            turns = TURNS
            while self._gone(numbers := self._numbers(), self._next + len(entries)):
                if not turns:
                    raise StoreError(
                        f"{self._store.uri}: entries below {self._prefix} are missing", "remove the others there while no run is at work"
                    )
                turns -= 1
                self._jump(numbers)
                entries = self._read_from(self._next)
        # Moved on only now: an error must lose none of them.
        self._next += len(entries)
        self._read_at = now
        return entries

    def append(self, entry: bytes, alone: bool = False) -> bool:
        now = uptime()
        if now - self._read_at > LONG_AGO_S or not self._store.create(self._key(self._next), entry):
            return False
        if uptime() - now > LONG_AGO_S:
            # What was read last is still there, unless others went on, and tidied up: this has then taken the place of one of theirs.
            last = self._next if self.checkpoint_due else self._next - 1
            if self._gone(numbers := self._numbers(), last):
                self._jump(numbers)
                return False
        self._next += 1
        self._read_at = now
        return True

    def tidy(self, alone: bool) -> None:
        first = self._last_checkpoint([self._next - 1]) if alone else self._next - KEPT
        # What these keys may not remove stays: it costs others a listing, no more.
        with ThreadPoolExecutor(16) as pool, contextlib.suppress(StoreError):
            list(pool.map(lambda number: self._store.delete(self._key(number)), [n for n in self._numbers() if n < first]))

    def close(self) -> None:
        """Nothing is open."""

    @staticmethod
    def _gone(numbers: list[int], first: int) -> bool:
        """Whether not all entries from this one to the last are there."""
        return not set(range(first, max(numbers, default=-1) + 1)) <= set(numbers)

    def _jump(self, numbers: list[int]) -> None:
        self.gaps += 1
        self._next = self._last_checkpoint(numbers)

    def _read_from(self, number: int) -> list[bytes]:
        entries: list[bytes] = []
        while (entry := self._read(number + len(entries))) is not None:
            entries.append(entry)
        return entries

    def _read(self, number: int) -> bytes | None:
        try:
            return self._store.read(self._key(number))
        except MissingKeyError:
            return None

    def _numbers(self) -> list[int]:
        names = (key[len(self._prefix) :].removesuffix(".json") for key in self._store.list(self._prefix))
        return [int(name) for name in names if name.isdecimal()]

    @staticmethod
    def _last_checkpoint(numbers: list[int]) -> int:
        last = max(numbers, default=0)
        return last - last % CHECKPOINT_EVERY

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:012d}.json"
