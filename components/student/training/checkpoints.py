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
        folder: Where the trainer writes when the store is remote; a new temporary folder when None.

    Attributes:
        folder: Where the trainer writes; the store's own folder, or one of this machine that is copied up after each checkpoint.
    """

    def __init__(self, uri: str, key: str, folder: Path | None = None) -> None:
        self.uri = uri
        self.store = open_store(uri)
        self.key = key
        if isinstance(self.store, FolderStore):
            self.remote = False
            self.folder = self.store.path(key)
            self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self.remote = True
            self.folder = folder or Path(tempfile.mkdtemp(prefix="tutorloop-checkpoints-"))

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

    def latest_of_form(self, *, sharded: bool) -> Path | None:
        """As ``latest``, if it is one that the coming training can go on from: of one process, or of several.

        A checkpoint of several processes serves any number of several. One of the other form is given up: its number of steps would
        make it look newer than those that are to come.
        """
        found = self.latest()
        if found is None or sharded == any(found.glob("pytorch_model_fsdp*")):
            return found
        other = "several processes" if not sharded else "one process"
        print(f"{found.name} is of a training by {other} and cannot be used: this training begins anew", flush=True)
        for path in self.folder.glob(f"{PREFIX}*"):
            shutil.rmtree(path)
        return None

    def upload(self, step: int) -> None:
        """For S3: copy up what this machine holds of the checkpoint of a step. Several machines hold different files of it."""
        if self.remote:
            name = f"{PREFIX}{step}"
            self.store.upload(self.folder / name, f"{self.key}/{name}")

    def mark(self, step: int) -> None:
        """Mark the checkpoint of a step complete once all machines have copied it up, and drop the older ones in S3."""
        name = f"{PREFIX}{step}"
        if self.remote:
            self.store.write(f"{self.key}/{name}/{MARKER}", str(step).encode())
            for old in self._stored().keys() - {name}:
                self._remove(old)
        (self.folder / name / MARKER).write_text(str(step))

    def drop_other_copies(self, step: int) -> None:
        """For S3: remove this machine's copies of other checkpoints; for a machine whose trainer does not rotate them."""
        for path in self.folder.glob(f"{PREFIX}*"):
            if self.remote and path.name != f"{PREFIX}{step}":
                shutil.rmtree(path)

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
