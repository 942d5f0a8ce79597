"""The shared log: all read the same entries in the same order, and nobody appends without having read everything."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from components.core.errors import StoreError
from components.core.store import FolderStore, open_store
from components.teacher.sharing import shared_log
from components.teacher.sharing.shared_log import CHECKPOINT_EVERY, SharedLog, open_log
from tests.support.waiting import wait_until

COUNTER = """
import sys, uuid
from components.teacher.sharing.shared_log import open_log
from components.core.store import open_store

log, name, total = open_log(open_store(sys.argv[1]), "log"), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.read()
last = -1
for number in range(total):
    while True:
        for entry in log.read_new():
            last = int(entry.split()[0])
        if log.append(b"%d %s" % (last + 1, name.encode())):
            last += 1
            break
"""


@pytest.fixture(autouse=True)
def nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls for a while is not taken for one that was paused."""
    monkeypatch.setattr(shared_log, "LONG_AGO_S", 600.0)


@contextmanager
def counter(address: str, name: str, total: int) -> Iterator[subprocess.Popen[str]]:
    """A process that appends one number after the other, once it is told to."""
    command = [sys.executable, "-c", COUNTER, address, name, str(total)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        try:
            yield writer
        finally:
            writer.kill()


def set_going(writers: list[subprocess.Popen[str]]) -> None:
    """Tell them all to begin, when the last one is ready."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.close()


def wait_for_entries(file: Path) -> None:
    """Until a log has some hundred more entries than at the call."""
    before = file.stat().st_size
    wait_until(lambda: file.stat().st_size > before + 1000)


def numbers(entries: list[bytes]) -> list[int]:
    return [int(entry.split()[0]) for entry in entries]


def opened(address: str) -> SharedLog:
    return open_log(open_store(address), "log")


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/logs"


def test_an_entry_is_appended_only_by_who_has_read_everything(address: str) -> None:
    first, second = opened(address), opened(address)
    assert first.read_new() == []
    assert first.append(b"a")
    assert not second.append(b"b")
    assert second.read_new() == [b"a"]
    assert second.append(b"b")
    assert first.read_new() == [b"b"], "one's own entries are not read again"
    assert opened(address).read_new() == [b"a", b"b"]


def test_processes_that_write_at_once_see_one_order(address: str) -> None:
    each = 300 if isinstance(open_store(address), FolderStore) else 12
    with ExitStack() as stack:
        writers = [stack.enter_context(counter(address, f"w{name}", each)) for name in range(4)]
        set_going(writers)
        assert [writer.wait() for writer in writers] == [0] * 4
    entries = opened(address).read_new()
    assert numbers(entries) == list(range(4 * each))
    assert Counter(entry.split()[1] for entry in entries) == {b"w0": each, b"w1": each, b"w2": each, b"w3": each}


def test_a_writer_that_is_killed_leaves_no_half_entry(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    for delay_s in (0.0, 0.01, 0.03):
        with counter(str(tmp_path), "x", 1_000_000) as writer:
            set_going([writer])
            wait_for_entries(file)
            time.sleep(delay_s)
            writer.kill()
            assert writer.wait() == -signal.SIGKILL
    with file.open("ab") as end:
        end.write(b"half an ent")
    log, other = opened(str(tmp_path)), opened(str(tmp_path))
    before = log.read_new()
    assert numbers(before) == list(range(len(before)))
    assert not log.append(b"new"), "an unfinished end is closed first"
    assert log.read_new() == [b"half an ent"]
    assert log.append(b"new")
    assert other.read_new() == [*before, b"half an ent", b"new"]


def test_a_bucket_is_read_from_the_last_checkpoint_and_tidied(s3_bucket: str) -> None:
    log = opened(s3_bucket)
    assert log.read_new() == []
    due = []
    for number in range(CHECKPOINT_EVERY + 3):
        due.append(log.checkpoint_due)
        assert log.append(b"%d" % number)
    assert [number for number, is_due in enumerate(due) if is_due] == [0, CHECKPOINT_EVERY]
    assert opened(s3_bucket).read_new() == [b"%d" % (CHECKPOINT_EVERY + more) for more in range(3)]
    log.tidy(alone=False)
    store = open_store(s3_bucket)
    assert len(list(store.list("log/"))) == CHECKPOINT_EVERY + 3, "others may be behind"
    log.tidy(alone=True)
    assert len(list(store.list("log/"))) == 3
    assert log.append(b"next")
    assert opened(s3_bucket).read_new()[-1] == b"next"


def sleeper_and_log(address: str, read: int, count: int) -> tuple[SharedLog, SharedLog]:
    """Two that have the same log open; of its entries 0, 1, ... one has read the first few, and the other has written all."""
    sleeper, log = opened(address), opened(address)
    assert log.read_new() == []
    for number in range(count):
        if number == read:
            assert sleeper.read_new() == entries(0, read)
        assert log.append(b"%d" % number)
    return sleeper, log


def entries(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def test_who_slept_too_long_starts_at_a_checkpoint(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, log = sleeper_and_log(s3_bucket, read=1, count=CHECKPOINT_EVERY + 2)
    log.tidy(alone=True)
    monkeypatch.setattr(shared_log, "LONG_AGO_S", -1.0)
    assert not sleeper.append(b"at a place that was tidied"), "nobody would ever read it"
    assert sleeper.read_new() == entries(CHECKPOINT_EVERY, CHECKPOINT_EVERY + 2)
    assert sleeper.gaps == 1


def test_who_slept_and_missed_nothing_reads_on(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper, _ = sleeper_and_log(s3_bucket, read=1, count=CHECKPOINT_EVERY + 1)
    monkeypatch.setattr(shared_log, "LONG_AGO_S", -1.0)
    assert sleeper.read_new() == entries(1, CHECKPOINT_EVERY + 1)
    assert sleeper.gaps == 0


@pytest.mark.parametrize(("read", "count"), [(1, 6), (3, 6)], ids=["in a wide hole", "in the place of the only one that is gone"])
def test_an_entry_whose_writer_slept_meanwhile_does_not_count_where_others_had_gone_on(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, read: int, count: int
) -> None:
    monkeypatch.setattr(shared_log, "CHECKPOINT_EVERY", 4)
    sleeper, log = sleeper_and_log(s3_bucket, read, count)
    log.tidy(alone=True)
    sleeping = itertools.count(shared_log.uptime(), 2 * shared_log.LONG_AGO_S)
    monkeypatch.setattr(shared_log, "uptime", lambda: next(sleeping))
    assert not sleeper.append(b"at a place that was tidied")
    assert sleeper.read_new() == entries(4, count)
    assert sleeper.gaps == 1


def test_entries_that_go_while_they_are_read_are_missed(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_log, "CHECKPOINT_EVERY", 8)
    newcomer, log = sleeper_and_log(s3_bucket, read=-1, count=18)
    read = at_read_number(newcomer, 3, lambda: log.tidy(alone=True))
    assert newcomer.read_new() == entries(16, 18)
    assert newcomer.gaps == 1
    assert len(read) > 3


def test_a_store_that_fails_while_entries_are_read_loses_none(s3_bucket: str) -> None:
    newcomer, _ = sleeper_and_log(s3_bucket, read=-1, count=6)

    def fail() -> None:
        raise StoreError("it is away", "wait")

    at_read_number(newcomer, 3, fail)
    with pytest.raises(StoreError, match="away"):
        newcomer.read_new()
    assert newcomer.read_new() == entries(0, 6)
    assert newcomer.gaps == 0


def at_read_number(log: SharedLog, number: int, act: Callable[[], None]) -> list[str]:
    """Do something before this entry is read; gives back the keys that are read from now on."""
    store = log._store  # type: ignore[attr-defined]
    read, keys = store.read, []

    def reading(key: str) -> bytes:
        keys.append(key)
        if len(keys) == number:
            act()
        return bytes(read(key))

    store.read = reading
    return keys


def test_a_folders_log_begins_anew_only_for_one_who_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_log, "LONG_BYTES", 100)
    log, reader = opened(str(tmp_path)), opened(str(tmp_path))
    for number in range(20):
        assert log.append(b"entry number %03d" % number, alone=False)
    assert len(reader.read_new()) == 20
    due = [log.checkpoint_due, log.append(b"all that matters", alone=True), log.checkpoint_due]
    assert due == [True, True, False]
    assert reader.read_new() == [b"all that matters"]
    assert opened(str(tmp_path)).read_new() == [b"all that matters"]


def test_who_slept_while_a_folders_log_began_anew_reads_it_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_log, "LONG_BYTES", 100)
    sleeper, log = opened(str(tmp_path)), opened(str(tmp_path))
    for number in range(10):
        assert log.append(b"old entry %03d" % number)
    assert len(sleeper.read_new()) == 10
    # As long as the old ones: by its length the log is the one that has been read.
    new = [b"new entry %03d" % number for number in range(10)]
    assert [log.append(entry, alone=number == 0) for number, entry in enumerate(new)] == [True] * 10
    assert not sleeper.append(b"without knowing")
    assert sleeper.read_new() == new
    assert sleeper.gaps == 1


def test_tidying_spares_what_has_not_been_read(tmp_path: Path) -> None:
    log, other = opened(str(tmp_path)), opened(str(tmp_path))
    assert other.append(b"unread")
    log.tidy(alone=True)
    assert log.read_new() == [b"unread"]
    log.tidy(alone=True)
    assert opened(str(tmp_path)).read_new() == []


def test_a_full_disk_is_told_and_leaves_whole_entries(small_disk: Path) -> None:
    log = opened(str(small_disk))
    written = 0
    with pytest.raises(StoreError, match="space"):
        while log.append(b"x" * 4096):
            written += 1
    assert opened(str(small_disk)).read_new() == [b"x" * 4096] * written
