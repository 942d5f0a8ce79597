"""One small interface over a folder and over S3/MinIO: models, teacher replies and work in progress live behind it."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISREG

from components.core.errors import StoreError, disk_is_full, reason_of
from components.core.whole_files import is_temporary, replacing, temporary_beside

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
            key: Of the value.
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
        with _as_store_error(source):
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
            key: Of a value or of a folder of values; empty for everything in the store.
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
        with _replacing(target) as partial:
            self._download_file(key, partial)


class FolderStore(Store):
    """A store in a folder of this machine (or of a volume mounted here).

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        with _as_store_error(root):
            root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """The file that holds ``key``."""
        check_key(key)
        return self.root / key

    def read(self, key: str) -> bytes:
        path = self.path(key)
        with _as_store_error(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError) as error:
                raise MissingKeyError(f"{self.uri}: there is nothing under {key!r}") from error

    def read_range(self, key: str, offset: int, length: int | None = None) -> bytes:
        path = self.path(key)
        with _as_store_error(path):
            try:
                with path.open("rb") as handle:
                    handle.seek(offset)
                    return handle.read(-1 if length is None else length)
            except (FileNotFoundError, IsADirectoryError) as error:
                raise MissingKeyError(f"{self.uri}: there is nothing under {key!r}") from error

    def write(self, key: str, data: bytes) -> None:
        with _replacing(self.path(key)) as partial:
            _write_durably(partial, data)

    def create(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        path = self.path(key)
        with _as_store_error(path), temporary_beside(path) as partial:
            _write_durably(partial, data)
            try:
                os.link(partial, path)
            except FileExistsError:
                return False
        return True

    def exists(self, key: str) -> bool:
        return self.path(key).is_file()

    def items(self, prefix: str = "") -> Iterator[Item]:
        folder = self.root / prefix.rpartition("/")[0]
        found: dict[str, Item] = {}
        for path in folder.rglob("*"):
            key = path.relative_to(self.root).as_posix()
            if key.startswith(prefix) and not is_temporary(path):
                # It may have been removed since the folder was read.
                with suppress(FileNotFoundError):
                    state = path.stat()
                    if S_ISREG(state.st_mode):
                        found[key] = Item(key, state.st_size, state.st_mtime)
        return iter(found[key] for key in sorted(found))

    def delete(self, key: str) -> None:
        path = self.path(key)
        with _as_store_error(path):
            path.unlink(missing_ok=True)

    def delete_folder(self, prefix: str) -> None:
        path = self.path(prefix.rstrip("/"))
        with _as_store_error(path):
            if path.is_dir():
                shutil.rmtree(path)

    def _upload_file(self, source: Path, key: str) -> None:
        # On the disk before it has its name: a manifest that is written afterwards must not outlive its files in a loss of power.
        with _replacing(self.path(key)) as partial:
            shutil.copyfile(source, partial)
            with partial.open("rb+") as handle:
                os.fsync(handle.fileno())

    def _download_file(self, key: str, target: Path) -> None:
        shutil.copyfile(self.path(key), target)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    with _as_store_error(path), replacing(path) as partial:
        yield partial


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


@contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
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


def open_store(uri: str) -> Store:
    """Open the store at ``uri``: a folder path, or ``s3://bucket/prefix``.

    Environment (S3 only):
        AWS_ENDPOINT_URL: Address of the server, ``https`` unless it begins with ``http://``; AWS itself when not set.
        AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN: The keys.
        AWS_REGION: The region, ``us-east-1`` when not set.
        TUTORLOOP_STORE_PATIENCE_S: Seconds to keep trying while a server that has answered before does not answer or fails, 180
            when not set. Outside of tasks the first contact fails after a few seconds: a wrong address is told at once.

    Raises:
        StoreError: The URI is malformed, the keys are missing or the folder cannot be made.
    """
    if is_remote(uri):
        from components.core.store_s3 import S3Store  # minio takes a third of a second to import

        return S3Store(uri)
    if "://" in uri and not uri.startswith("file://"):
        raise StoreError(f"{uri!r} is not a store", "give a folder path or an address of the form s3://bucket/prefix")
    if not uri:
        raise StoreError("the address of the store is empty", "give a folder path or an address of the form s3://bucket/prefix")
    return FolderStore(Path(uri.removeprefix("file://")))


def put(uri: str, data: bytes) -> None:
    """Write one file, whole or not at all.

    Args:
        uri: A local path or ``s3://bucket/key``.
        data: Its content.

    Raises:
        StoreError: It cannot be written.
    """
    parent, _, name = uri.removeprefix("file://").rpartition("/")
    open_store(parent or ("/" if uri.startswith("/") else ".")).write(name, data)


def fetch(uri: str, into: Path) -> Path:
    """Bring a file or folder to this machine.

    Args:
        uri: A local path (given back as it is, without a copy) or ``s3://bucket/key``.
        into: Folder for the copy of a remote file or folder.

    Returns:
        Path of the file or folder.

    Raises:
        StoreError: There is nothing at ``uri``, or the store cannot be reached.
    """
    if not is_remote(uri):
        path = Path(uri.removeprefix("file://"))
        if not path.exists():
            raise MissingKeyError(f"{path}: there is no such file or folder")
        return path
    parent, _, name = uri.rstrip("/").rpartition("/")
    if parent.endswith(":/"):
        return open_store(uri).download("", into / name)
    return open_store(parent).download(name, into / name)


@contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """A file or folder on this machine for as long as it is needed; a copy is removed afterwards.

    Args:
        uri: As for ``fetch``.

    Raises:
        StoreError: There is nothing at ``uri``, or the store cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="tutorloop-") as scratch:
        yield fetch(uri, Path(scratch))
