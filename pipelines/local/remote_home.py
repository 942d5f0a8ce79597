"""A home of runs in an object store: any machine continues where another stopped.

The runs work in a folder of this machine. What KFP's cache knows goes up while a run is at work, artifacts first; what is up is
brought down before the next run. The folder should have the same path on every machine, since cache entries hold whole paths: tasks
whose entries name other paths run again.

Layout below the URI, as in a local home::

    <run>/...                           report, record, log and metrics of a run
    shared/artifacts/...                outputs of tasks, and KFP's cache
    shared/tasks/...                    records of tasks, to which outputs refer
    shared/{responses,checkpoints,models}/...   written by the tasks themselves
    home.json                           tells this home from an older one at the same address
    lease/<number>.json                 whose turn it is
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import StoreError
from components.core.ledger import task_records
from components.core.records import StageRecord
from components.core.store import open_store
from pipelines.local import lease

ARTIFACTS = "shared/artifacts"
CACHE = f"{ARTIFACTS}/.kfp_cache"
NAME = "home.json"
INTERVAL_S = 15.0
"""Between two looks for what has come new."""
FOLDER_VARIABLE = "TUTORLOOP_WORK"
"""Environment variable with the folder that the working copies of homes lie in."""


class RemoteHome:
    """A home at ``s3://bucket/prefix``.

    Args:
        uri: Address.

    Attributes:
        folder: Where runs work on this machine.

    Raises:
        StoreError: The store cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._store = open_store(uri)
        name = hashlib.sha256(f"{os.environ.get('AWS_ENDPOINT_URL', '')} {self.uri}".encode()).hexdigest()[:16]
        self.folder = Path(os.environ.get(FOLDER_VARIABLE) or f"/var/tmp/tutorloop-{os.getuid()}") / name  # noqa: S108
        self._known: set[str] = set()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the home, bring down what is there, and send up what comes new until the block ends.

        Raises:
            BusyError: Another run is at work there.
            StoreError: The store does not answer or refuses, or the working copy belongs to somebody else.
        """
        with lease.held(self._store, self.uri):
            self._bring_down()
            ended = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(ended,), daemon=True)
            watcher.start()
            try:
                yield
            finally:
                ended.set()
                watcher.join()
                # How the run ended matters more than that its home lags behind.
                self._try(self._send_up_artifacts)
                self._try(self._send_up_run)

    def _send_up_run(self) -> None:
        """Store the newest run's own folder."""
        latest = self.folder / "latest"
        if latest.exists():
            self._store.upload(latest.resolve(), latest.resolve().name)
            # Tasks that failed are not in KFP's cache.
            self._send_up_dropped(task_records.read_notes(str(latest.resolve())))

    def _send_up_dropped(self, records: Iterable[StageRecord]) -> None:
        """Store the rows that tasks have dropped, which only their records name."""
        for name in {record.dropped_rows for record in records if record.dropped_rows}:
            if (self.folder / name).is_file():
                self._store.upload(self.folder / name, name)

    def _send_up_artifacts(self) -> None:
        """Store the outputs of all tasks that KFP's cache knows and the store does not; the cache's entry comes last."""
        for entry in sorted((self.folder / CACHE).glob("*.json")):
            key = f"{CACHE}/{entry.name}"
            if key in self._known:
                continue
            for path in _local_paths(msgspec.json.decode(entry.read_bytes()), self.folder):
                self._store.upload(path, path.relative_to(self.folder).as_posix())
                if path.parent == self.folder / task_records.FOLDER:
                    self._send_up_dropped([task_records.read_record(str(path))])
            self._store.upload(entry, key)
            self._known.add(key)

    def _bring_down(self) -> None:
        self._require_own_folder()
        self._store.create(NAME, msgspec.json.encode({"id": uuid.uuid4().hex}))
        name = self._store.read(NAME)
        mark = self.folder / NAME
        if not mark.is_file() or mark.read_bytes() != name:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            mark.write_bytes(name)
        keys = [key for folder in (ARTIFACTS, task_records.FOLDER) for key in self._store.list(f"{folder}/")]
        for key in keys:
            if not (self.folder / key).exists():
                self._store.download(key, self.folder / key)
        self._known = {key for key in keys if key.startswith(f"{CACHE}/")}

    def _require_own_folder(self) -> None:
        """The folder is under a name that anybody can guess."""
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.parent.stat().st_uid != os.getuid():
            raise StoreError(f"{self.folder.parent} belongs to somebody else", f"name a folder of your own in {FOLDER_VARIABLE}")
        self.folder.mkdir(exist_ok=True)

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(INTERVAL_S):
            self._try(self._send_up_artifacts)

    def _try(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            print(f"the home at {self.uri} lags behind: {error}", file=sys.stderr, flush=True)


def _local_paths(value: Any, folder: Path) -> list[Path]:
    """Existing paths below a folder in a cache entry, at any depth."""
    if isinstance(value, dict):
        return [path for item in value.values() for path in _local_paths(item, folder)]
    if isinstance(value, list):
        return [path for item in value for path in _local_paths(item, folder)]
    if isinstance(value, str) and value.startswith(f"{folder}/") and Path(value).exists():
        return [Path(value)]
    return []
