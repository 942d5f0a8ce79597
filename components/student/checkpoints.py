"""Training checkpoints that a killed task finds again, in a folder or in S3.

A checkpoint counts only once its marker is written, which happens after its last file: one that was cut short by a kill is
skipped and removed.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from components.core.store import FolderStore, open_store

MARKER = "complete"
PREFIX = "checkpoint-"


class Checkpoints:
    """The checkpoints of one training task.

    Args:
        uri: Checkpoint store, folder or ``s3://``.
        key: Identifies the task: everything that its result depends on must be hashed into it.

    Attributes:
        folder: Where the trainer writes; the store's own folder, or a temporary one that is copied up after each checkpoint.
    """

    def __init__(self, uri: str, key: str) -> None:
        self.store = open_store(uri)
        self.key = key
        if isinstance(self.store, FolderStore):
            self.remote = False
            self.folder = self.store.path(key)
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self.remote = True
            self.folder = Path(tempfile.mkdtemp(prefix="tutorloop-checkpoints-"))

    def latest(self) -> Path | None:
        """The newest complete checkpoint on this machine, fetched from S3 if need be; None when there is none.

        Incomplete ones are removed, so that the trainer's rotation never prefers one to a complete checkpoint.
        """
        if self.remote:
            newest = max((name for name, marked in self._stored().items() if marked), key=_step, default=None)
            if newest:
                self.store.download(f"{self.key}/{newest}", self.folder / newest)
        complete = []
        for path in self.folder.glob(f"{PREFIX}*"):
            if (path / MARKER).is_file():
                complete.append(path)
            else:
                shutil.rmtree(path)
        return max(complete, key=lambda path: _step(path.name), default=None)

    def finish(self, step: int) -> None:
        """Mark the checkpoint of a step complete and, for S3, copy it up and drop the older ones there."""
        path = self.folder / f"{PREFIX}{step}"
        if not self.remote:
            (path / MARKER).write_text(str(step))
            return
        name = path.name
        self.store.upload(path, f"{self.key}/{name}")
        self.store.write(f"{self.key}/{name}/{MARKER}", str(step).encode())
        (path / MARKER).write_text(str(step))
        for old in self._stored().keys() - {name}:
            self._remove(old)

    def discard(self) -> None:
        """Remove everything: the training's result is saved."""
        for name in self._stored():
            self._remove(name)
        self.store.delete_folder(self.key)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stored(self) -> dict[str, bool]:
        """The names of the checkpoints in the store, and whether each is complete."""
        stored: dict[str, bool] = {}
        for key in self.store.list(f"{self.key}/{PREFIX}"):
            name, _, file = key.removeprefix(f"{self.key}/").partition("/")
            stored[name] = stored.get(name, False) or file == MARKER
        return stored

    def _remove(self, name: str) -> None:
        """The marker goes first: a kill in between must not leave a complete checkpoint without its files."""
        self.store.delete(f"{self.key}/{name}/{MARKER}")
        self.store.delete_folder(f"{self.key}/{name}")


def _step(name: str) -> int:
    return int(name.removeprefix(PREFIX))
