"""One run at a time in a home that several machines can reach."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from components.core.store import FolderStore, Store, open_store
from pipelines.local import lease
from pipelines.local.lease import BusyError, Lease, held
from tests.support.kills import at_every_change
from tests.support.waiting import wait_until


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A home's store, with everything that takes a minute taking a second."""
    monkeypatch.setattr(lease, "SILENCE_S", 2.0)
    monkeypatch.setattr(lease, "RENEWAL_S", 0.2)
    yield open_store(str(tmp_path / "home") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/home")


def leave_behind(store: Store, number: int = 1, renewals: int = 3) -> None:
    """A lease of a run that was killed."""
    store.write(f"lease/{number:08d}.json", msgspec.json.encode(Lease(owner="a machine that is gone", renewals=renewals)))


def test_a_home_is_held_by_one_run_and_given_back(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its first renewal ends the waiting, however late it comes.
    monkeypatch.setattr(lease, "SILENCE_S", 120.0)
    with held(store, "home"), pytest.raises(BusyError, match="another run is at work in home"), held(store, "home"):
        pass
    capsys.readouterr()
    for _ in range(3):
        with held(store, "home"):
            pass
    assert "waiting" not in capsys.readouterr().out, "a lease that was given back is not waited for"
    assert len(list(store.list("lease/"))) == 2, "older leases are cleared away"


def test_a_run_that_is_killed_while_it_takes_the_home_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "SILENCE_S", 0.5)
    monkeypatch.setattr(lease, "LOOK_S", 0.1)

    def prepare(number: int) -> Callable[[], object]:
        store = open_store(str(tmp_path / str(number)))
        for past in (1, 2, 3):
            leave_behind(store, past, renewals=-1)
        return lambda: lease._take(store, "home", "me")

    numbers = []
    for number in at_every_change(prepare):
        store = open_store(str(tmp_path / str(number)))
        assert "lease/00000003.json" in set(store.list("lease/")), "one that slept meanwhile must not make it again"
        with held(store, "home"):
            numbers.append(number)
    assert numbers == [1, 2, 3], "the lease, and the two that are older than the one before"


def test_one_that_is_overtaken_gives_nothing_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it wrote might be the lease of a run that has taken the home over and removed its own."""
    monkeypatch.setattr(lease, "RENEWAL_S", 600.0)
    with held(store, "home"):
        (mine,) = store.list("lease/")
        leave_behind(store, 2)
        leave_behind(store, 3)
        store.delete(mine)
    assert list(store.list("lease/")) == ["lease/00000002.json", "lease/00000003.json"]


def test_a_lease_whose_holder_is_dead_is_taken_over(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    leave_behind(store)
    with held(store, "home"):
        assert "held by a machine that is gone; waiting 2 s" in capsys.readouterr().out
        assert max(store.list("lease/")) == "lease/00000002.json"


def test_of_many_that_find_a_dead_holder_one_gets_the_home(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_behind(store)
    release, all_have_found_it, require_dead = threading.Event(), threading.Barrier(6), lease._require_dead

    def require_dead_together(*given: Any) -> None:
        require_dead(*given)
        all_have_found_it.wait(120)

    monkeypatch.setattr(lease, "_require_dead", require_dead_together)

    def attempt() -> bool:
        try:
            with held(store, "home"):
                release.wait(120)
                return True
        except BusyError:
            return False

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(attempt) for _ in range(6)]
        wait_until(lambda: sum(task.done() for task in running) >= 5)
        release.set()
        assert sorted(task.result() for task in running) == [False] * 5 + [True]


def test_a_holder_that_is_overtaken_ends(store: Store) -> None:
    ended = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        with held(store, "home"):
            leave_behind(store, number=2)
            wait_until(ended.is_set)
        after = msgspec.json.decode(store.read("lease/00000002.json"), type=Lease)
        assert after.renewals == 3, "the lease of the other run is left alone"
    finally:
        signal.signal(signal.SIGTERM, previous)


class SlowStore(FolderStore):
    """Every read of the lease takes so many seconds of the clock and finds so many renewals; the last pair stays."""

    def __init__(self, root: Path, reads: list[tuple[float, int]]) -> None:
        super().__init__(root)
        self.now = 0.0
        self._reads = reads

    def read(self, key: str) -> bytes:
        seconds, renewals = self._reads.pop(0) if len(self._reads) > 1 else self._reads[0]
        self.sleep(seconds)
        return msgspec.json.encode(Lease(owner="another machine", renewals=renewals))

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_an_outage_of_the_store_is_no_silence_of_the_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the holder from renewing its lease as it keeps the other from seeing that."""
    cut_off = SlowStore(tmp_path, [(0, 3), (0, 3), (180, 3), (0, 3), (0, 3), (0, 4)])
    leave_behind(cut_off)
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: cut_off.now, sleep=cut_off.sleep))
    with pytest.raises(BusyError, match="another machine"), held(cut_off, "home"):
        pass
    dead = SlowStore(tmp_path, [(0, 4), (0, 4), (180, 4), (0, 4)])
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: dead.now, sleep=dead.sleep))
    with held(dead, "home"):
        assert dead.now == pytest.approx(180 + lease.SILENCE_S, abs=2), "the outage comes on top"
