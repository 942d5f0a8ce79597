"""Files that are there whole or not at all, written under a temporary name, then renamed; and ends of files, likewise."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A name beside ``path`` that no other process uses; what is there in the end is removed. The folder is made when missing.

    Raises:
        OSError: The folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; what is there in the end takes the place of ``path``, unless there was an error.

    Raises:
        OSError: It cannot be put there.
    """
    with temporary_beside(path) as temporary:
        yield temporary
        temporary.replace(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def append_whole(descriptor: int, data: bytes, size: int) -> None:
    """Append to a file; when it does not fit, what came of it is cut off again.

    Args:
        descriptor: Opened for appending; nobody else appends meanwhile.
        data: What to append.
        size: How long the file is, in bytes.

    Raises:
        OSError: It could not be written.
    """
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def is_temporary(path: Path) -> bool:
    """Whether it is such a file under way, or what is left of one whose process was killed."""
    return path.name.startswith(".") and path.name.endswith(".part")
