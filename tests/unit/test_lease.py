"""One run at a time in a home that several machines can reach."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from components.core.store import Store, open_store
from pipelines import lease
from pipelines.lease import BusyError, Lease, held


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A home's store, with everything that takes a minute taking a second."""
    monkeypatch.setattr(lease, "SILENCE_S", 2.0)
    monkeypatch.setattr(lease, "RENEWAL_S", 0.2)
    yield open_store(str(tmp_path / "home") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/home")


def leave_behind(store: Store, number: int = 1, renewals: int = 3) -> None:
    """A lease of a run that was killed."""
    store.write(f"lease/{number:08d}.json", msgspec.json.encode(Lease(owner="a machine that is gone", renewals=renewals)))


def test_a_home_is_held_by_one_run_and_given_back(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with held(store, "home"), pytest.raises(BusyError, match="another run is at work in home"), held(store, "home"):
        pass
    capsys.readouterr()
    for _ in range(3):
        with held(store, "home"):
            pass
    assert "waiting" not in capsys.readouterr().out, "a lease that was given back is not waited for"
    assert len(list(store.list("lease/"))) == 2, "older leases are cleared away"


def test_a_lease_whose_holder_is_dead_is_taken_over(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    leave_behind(store)
    with held(store, "home"):
        assert "held by a machine that is gone; waiting up to 2 s" in capsys.readouterr().out
        assert max(store.list("lease/")) == "lease/00000002.json"


def test_of_many_that_find_a_dead_holder_one_gets_the_home(store: Store) -> None:
    leave_behind(store)
    release = threading.Event()

    def attempt() -> bool:
        try:
            with held(store, "home"):
                release.wait(10)
                return True
        except BusyError:
            return False

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(attempt) for _ in range(6)]
        deadline = time.monotonic() + 30
        while sum(task.done() for task in running) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        release.set()
        assert sorted(task.result() for task in running) == [False] * 5 + [True]


def test_a_holder_that_is_overtaken_ends(store: Store) -> None:
    ended = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        with held(store, "home"):
            leave_behind(store, number=2)
            deadline = time.monotonic() + 10
            while not ended.is_set() and time.monotonic() < deadline:
                time.sleep(0.05)
        assert ended.is_set()
        after = msgspec.json.decode(store.read("lease/00000002.json"), type=Lease)
        assert after.renewals == 3, "the lease of the other run is left alone"
    finally:
        signal.signal(signal.SIGTERM, previous)
