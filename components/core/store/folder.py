"""A store in a folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from components.core.store.base import Item, MissingKeyError, Store, as_store_error, check_key, replacing_whole
from components.core.store.whole_files import is_temporary, temporary_beside


class FolderStore(Store):
    """A store in a folder of this machine (or of a volume mounted here).

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        with as_store_error(root):
            root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """The file that holds ``key``."""
        check_key(key)
        return self.root / key

    def read(self, key: str) -> bytes:
        path = self.path(key)
        with as_store_error(path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError) as error:
                raise MissingKeyError(f"{self.uri}: there is nothing under {key!r}") from error

    def read_range(self, key: str, offset: int, length: int | None = None) -> bytes:
        path = self.path(key)
        with as_store_error(path):
            try:
                with path.open("rb") as handle:
                    handle.seek(offset)
                    return handle.read(-1 if length is None else length)
            except (FileNotFoundError, IsADirectoryError) as error:
                raise MissingKeyError(f"{self.uri}: there is nothing under {key!r}") from error

    def write(self, key: str, data: bytes) -> None:
        with replacing_whole(self.path(key)) as partial:
            _write_durably(partial, data)

    def create(self, key: str, data: bytes) -> bool:
        if self.exists(key):
            return False
        path = self.path(key)
        with as_store_error(path), temporary_beside(path) as partial:
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
        with as_store_error(path):
            path.unlink(missing_ok=True)

    def delete_folder(self, prefix: str) -> None:
        path = self.path(prefix.rstrip("/"))
        with as_store_error(path):
            if path.is_dir():
                shutil.rmtree(path)

    def _upload_file(self, source: Path, key: str) -> None:
        # On the disk before it has its name: a manifest that is written afterwards must not outlive its files in a loss of power.
        with replacing_whole(self.path(key)) as partial:
            shutil.copyfile(source, partial)
            with partial.open("rb+") as handle:
                os.fsync(handle.fileno())

    def _download_file(self, key: str, target: Path) -> None:
        shutil.copyfile(self.path(key), target)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
