"""One small interface over a folder and over S3/MinIO: models, teacher replies and work in progress live behind it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.core.errors import StoreError
from components.core.store.base import Item, KeysRefusedError, MissingKeyError, Store, check_key, is_remote, sha256_of
from components.core.store.folder import FolderStore

__all__ = [
    "FolderStore",
    "Item",
    "KeysRefusedError",
    "MissingKeyError",
    "Store",
    "check_key",
    "fetch",
    "fetched",
    "is_remote",
    "open_store",
    "put",
    "sha256_of",
]


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
        from components.core.store.s3 import S3Store  # minio takes a third of a second to import

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
