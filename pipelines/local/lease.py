"""Whose turn it is: one run at a time in a home that several machines can reach.

Leases are numbered, and the key of each is made by a conditional create: of two runs that want the next, one gets it. The holder renews
its lease from a thread of its own. Whether a holder is alive is judged by whether its lease changes, so that clocks need not agree.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from components.core.errors import StoreError, TutorLoopError
from components.core.records import Record
from components.core.store import MissingKeyError, Store

PREFIX = "lease/"
SILENCE_S = 60.0
"""A holder that is silent for so long, while the store answers, is dead."""
RENEWAL_S = 10.0
LOOK_S = 1.0
"""A holder that may be dead is looked at so often."""


class BusyError(TutorLoopError):
    """Another run is at work in this home."""


class Lease(Record, frozen=True, kw_only=True):
    """Content of a lease.

    Attributes:
        owner: Machine and a name that no other run has.
        renewals: Grows as long as the holder is alive; -1 when it is given back.
    """

    owner: str
    renewals: int = 0


@contextlib.contextmanager
def held(store: Store, home: str) -> Iterator[None]:
    """Hold the lease of a home for the time of the block.

    A lease whose holder does not give it back is watched for :data:`SILENCE_S` in which the store answers, and taken over if nothing
    moves. A holder that finds itself overtaken ends its process as an interrupt would.

    Args:
        store: The store of the home.
        home: Its address, for errors.

    Raises:
        BusyError: Another run is alive there.
        StoreError: The store does not answer or refuses.
    """
    owner = f"{socket.gethostname()} {uuid.uuid4().hex[:8]}"
    key = _take(store, home, owner)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, key, owner, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        try:
            if _newest(store) == key:
                store.write(key, msgspec.json.encode(Lease(owner=owner, renewals=-1)))
        except StoreError as error:
            # Nobody is the worse for it but the next run, which waits.
            print(f"the lease of {home} could not be given back: {error}", file=sys.stderr, flush=True)


def _take(store: Store, home: str, owner: str) -> str:
    last = _newest(store)
    if last:
        _require_dead(store, last, home)
    number = int(PurePosixPath(last).stem) + 1 if last else 1
    key = f"{PREFIX}{number:08d}.json"
    if not store.create(key, msgspec.json.encode(Lease(owner=owner))) or _newest(store) != key:
        raise _busy(home, "another run was quicker")
    # The one before stays: a run that was asleep meanwhile must not be able to make it again.
    for old in store.list(PREFIX):
        if int(PurePosixPath(old).stem) < number - 1:
            store.delete(old)
    return key


def _require_dead(store: Store, key: str, home: str) -> None:
    seen = _read(store, key)
    if seen is None or seen.renewals < 0:
        return
    print(f"{home} is held by {seen.owner}; waiting {SILENCE_S:.0f} s to see whether that run is alive", flush=True)
    silence, looked = 0.0, time.monotonic()
    while silence < SILENCE_S:
        time.sleep(LOOK_S)
        now = _read(store, key)
        if now != seen:
            if now is not None and now.renewals >= 0:
                raise _busy(home, now.owner)
            return
        # A look that takes long is no long silence: while the store does not answer, or this machine is asleep, nothing can be heard.
        silence += min(time.monotonic() - looked, 2 * LOOK_S)
        looked = time.monotonic()


def _busy(home: str, who: str) -> BusyError:
    return BusyError(f"another run is at work in {home} ({who})", "wait for it, stop it, or give another --home")


def _newest(store: Store) -> str:
    return max(store.list(PREFIX), default="")


def _read(store: Store, key: str) -> Lease | None:
    try:
        return msgspec.json.decode(store.read(key), type=Lease)
    except MissingKeyError:
        return None


def _renew(store: Store, key: str, owner: str, ended: threading.Event) -> None:
    renewals = 0
    while not ended.wait(RENEWAL_S):
        try:
            if _newest(store) != key:
                print("another run has taken this home over, which was silent for too long: this one ends", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            renewals += 1
            store.write(key, msgspec.json.encode(Lease(owner=owner, renewals=renewals)))
        except Exception as error:
            # The next round may succeed; and a run that is overtaken meanwhile notices then.
            print(f"the lease was not renewed: {error}", file=sys.stderr, flush=True)
