"""A home of runs in an object store: any machine continues where another stopped.

The runs work in a folder of this machine. What KFP's cache knows goes up while a run is at work, artifacts first; what is up is
brought down before the next run. The folder has the same path on every machine, since cache entries hold whole paths.

Layout below the URI, as in a local home::

    <run>/...                           report, record, log and metrics of a run
    shared/artifacts/...                outputs of tasks, and KFP's cache
    shared/{responses,checkpoints,models}/...   written by the tasks themselves
    lease/<number>.json                 whose turn it is
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import StoreError, TutorLoopError
from components.core.records import Record
from components.core.store import Store, open_store

ARTIFACTS = "shared/artifacts"
CACHE = f"{ARTIFACTS}/.kfp_cache"
LEASES = "lease/"
LEASE_S = 120.0
"""A run that is killed keeps its home for so long."""
INTERVAL_S = float(os.environ.get("TUTORLOOP_HOME_INTERVAL_S") or 15)
"""Seconds between two looks for what has come new."""


class BusyError(TutorLoopError):
    """Another run is at work in this home."""


class Lease(Record, frozen=True, kw_only=True):
    """Whose turn it is, until when (seconds since 1970)."""

    owner: str
    until: float


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
        name = f"tutorloop-home-{hashlib.sha256(self.uri.encode()).hexdigest()[:16]}"
        self.folder = Path(tempfile.gettempdir()) / name
        self._known: set[str] = set()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the home, bring down what is there, and send up what comes new until the block ends.

        Raises:
            BusyError: Another run is at work there.
            StoreError: The store does not answer or refuses.
        """
        with _turn(self._store, self.uri) as renew:
            self._bring_down()
            ended = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(renew, ended), daemon=True)
            watcher.start()
            try:
                yield
            finally:
                ended.set()
                watcher.join()
                self.send_up_artifacts()

    def send_up_run(self, folder: Path) -> None:
        """Store a run's own folder."""
        self._store.upload(folder, folder.name)

    def send_up_artifacts(self) -> None:
        """Store the outputs of all tasks that KFP's cache knows and the store does not; the cache's entry comes last."""
        for entry in sorted((self.folder / CACHE).glob("*.json")):
            key = f"{CACHE}/{entry.name}"
            if key in self._known:
                continue
            for path in _local_paths(msgspec.json.decode(entry.read_bytes()), self.folder):
                self._store.upload(path, path.relative_to(self.folder).as_posix())
            self._store.upload(entry, key)
            self._known.add(key)

    def _bring_down(self) -> None:
        keys = list(self._store.list(f"{ARTIFACTS}/"))
        for key in keys:
            target = self.folder / key
            if not target.exists():
                self._store.download(key, target)
        self._known = {key for key in keys if key.startswith(f"{CACHE}/")}

    def _watch(self, renew: Any, ended: threading.Event) -> None:
        while not ended.wait(INTERVAL_S):
            try:
                renew()
                self.send_up_artifacts()
            except StoreError as error:
                # The run goes on: what is missing goes up later.
                print(f"the home at {self.uri} lags behind: {error}", flush=True)


@contextlib.contextmanager
def _turn(store: Store, uri: str) -> Iterator[Any]:
    """Hold the lease; yields what renews it.

    Each lease has a number, and its key is made by a conditional create: of two runs that find the last one expired, one gets the next.
    """
    keys = list(store.list(LEASES))
    last = msgspec.json.decode(store.read(keys[-1]), type=Lease) if keys else None
    busy = BusyError(
        f"another run is at work in {uri}" + (f" ({last.owner})" if last else ""),
        f"wait for it or give another --home; a run that was killed gives its home free after {LEASE_S:.0f} s",
    )
    if last and last.until > time.time():
        raise busy
    number = int(Path(keys[-1]).stem) + 1 if keys else 1
    key, owner = f"{LEASES}{number:08d}.json", socket.gethostname()

    def lease(seconds: float) -> bytes:
        return msgspec.json.encode(Lease(owner=owner, until=time.time() + seconds))

    if not store.create(key, lease(LEASE_S)):
        raise busy
    for old in keys:
        store.delete(old)
    try:
        yield lambda: store.write(key, lease(LEASE_S))
    finally:
        store.write(key, lease(0))


def _local_paths(value: Any, folder: Path) -> list[Path]:
    """Existing paths below a folder in a cache entry, at any depth."""
    if isinstance(value, dict):
        return [path for item in value.values() for path in _local_paths(item, folder)]
    if isinstance(value, list):
        return [path for item in value for path in _local_paths(item, folder)]
    if isinstance(value, str) and value.startswith(f"{folder}/") and Path(value).exists():
        return [Path(value)]
    return []
