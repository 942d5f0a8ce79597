"""The interface of a store, and what all kinds of store share."""

from __future__ import annotations

import errno
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components.core.errors import StoreError, disk_is_full, reason_of
from components.core.store.whole_files import replacing

S3_SCHEMES = ("s3://", "minio://")


class MissingKeyError(StoreError):
    """There is nothing under this key."""


class KeysRefusedError(StoreError):
    """The server does not let these keys do this."""


@dataclass(frozen=True)
class Item:
    """A value in a listing.

    Attributes:
        key: Its key.
        size: Its bytes.
        modified: When it was last written, in Unix seconds by the store's clock.
    """

    key: str
    size: int
    modified: float


class Store(ABC):
    """Bytes and files under slash-separated keys below one URI.

    A reader never sees half of what ``write``, ``create`` or the upload of one file puts there, nor half of a download. All methods
    may be called from several threads and processes at once, and files of any size go through in constant memory.
    """

    uri: str

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The value under ``key``.

        Raises:
            MissingKeyError: There is none.
        """

    @abstractmethod
    def read_range(self, key: str, offset: int, length: int | None = None) -> bytes:
        """A part of the value under ``key``.

        Args:
            key: Key of the value.
            offset: Where the part begins.
            length: Its bytes; everything to the end when None. Less is returned where the value ends earlier.

        Raises:
            MissingKeyError: There is no such value.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Put ``data`` under ``key``, replacing what was there."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Put ``data`` under ``key`` only if nothing is there; of several writers exactly one gets True."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether ``key`` holds a value (a folder of keys is not a value)."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, sorted. What is still being written is not listed."""
        return (item.key for item in self.items(prefix))

    @abstractmethod
    def items(self, prefix: str = "") -> Iterator[Item]:
        """As :meth:`list`, with sizes and times."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the value under ``key``; nothing happens when there is none."""

    @abstractmethod
    def _upload_file(self, source: Path, key: str) -> None: ...

    @abstractmethod
    def _download_file(self, key: str, target: Path) -> None:
        """Write the value under ``key`` to the new file ``target``."""

    def delete_folder(self, prefix: str) -> None:
        """Remove every value below ``prefix/``."""
        for key in list(self.list(f"{prefix.rstrip('/')}/")):
            self.delete(key)

    def upload(self, source: Path, key: str) -> None:
        """Store a file under ``key``, or every file of a folder under ``key/<relative path>``.

        Each file appears whole or not at all; a folder does not appear at once, so write what refers to it last.
        """
        with as_store_error(source):
            if source.is_file():
                self._upload_file(source, key)
                return
            if not source.is_dir():
                raise StoreError(f"{source} cannot be stored in {self.uri}: there is no such file or folder")
            for file in sorted(item for item in source.rglob("*") if item.is_file()):
                self._upload_file(file, f"{key}/{file.relative_to(source).as_posix()}")

    def download(self, key: str, target: Path) -> Path:
        """Copy the value under ``key`` to the file ``target``, or everything below ``key/`` to the folder ``target``.

        Args:
            key: Key of a value or of a folder of values; empty for everything in the store.
            target: Where it goes; each file appears there whole or not at all.

        Returns:
            ``target``.

        Raises:
            MissingKeyError: There is neither.
        """
        if key and self.exists(key):
            self._download_whole(key, target)
            return target
        prefix = f"{key.rstrip('/')}/" if key else ""
        found = list(self.list(prefix))
        if not found:
            raise MissingKeyError(f"{self.uri}: there is nothing under {key!r}", "check the name; list the store to see what it holds")
        for item in found:
            self._download_whole(item, target / item[len(prefix) :])
        return target

    def _download_whole(self, key: str, target: Path) -> None:
        with replacing_whole(target) as partial:
            self._download_file(key, partial)


@contextmanager
def replacing_whole(path: Path) -> Iterator[Path]:
    """A temporary name for a file that takes the place of another one at the end of the block, or not at all."""
    with as_store_error(path), replacing(path) as partial:
        yield partial


@contextmanager
def as_store_error(path: Path) -> Iterator[None]:
    """Turn errors of the operating system about a path into errors that say what to do."""
    try:
        yield
    except OSError as error:
        if disk_is_full(error):
            raise StoreError(
                f"{path}: {reason_of(error)}", "free space or give the volume more, then run again; finished work is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StoreError(
                f"{path}: no permission ({error.strerror})", "give this user the right to write there, or choose another folder"
            ) from error
        raise StoreError(f"{path}: {reason_of(error)}", "check that the folder exists and that its disk works") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as ``sha256sum`` prints it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_key(key: str) -> None:
    """Refuse keys that would leave the store.

    Raises:
        StoreError: Empty, absolute, or with a ``..`` part.
    """
    if not key or key.startswith("/") or ".." in PurePosixPath(key).parts:
        raise StoreError(f"{key!r} is not a key of a store", "keys are relative names such as models/v1/card.json")


def is_remote(uri: str) -> bool:
    """Whether the URI names an S3 bucket rather than a folder."""
    return uri.startswith(S3_SCHEMES)
