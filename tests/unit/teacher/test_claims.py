"""Claims: of several processes that want the same reply one asks; what a dead one held is free again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.core.errors import StoreError
from components.core.store import open_store
from components.teacher.options import TeacherOptions
from components.teacher.sharing import shared_log
from components.teacher.sharing.budget import Budget
from components.teacher.sharing.claims import GRANTED, HELD, SILENCE_S, UNAFFORDABLE, Claims
from components.teacher.sharing.shared_log import CHECKPOINT_EVERY, SharedLog, open_log
from components.teacher.sharing.spending import Spending

HOLDER = """
import asyncio, sys
from components.teacher.sharing.shared_log import open_log
from components.core.store import open_store
from components.teacher.sharing.budget import Budget
from components.teacher.sharing.claims import Claims
from components.teacher.options import TeacherOptions
from components.teacher.sharing.spending import Spending

async def main() -> None:
    claims = Claims(open_log(open_store(sys.argv[1]), "claims"), "holder", Budget(TeacherOptions(), "run"), "m", lambda key: False)
    await claims.join()
    print(await claims.take("k", Spending()), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def claims_of(address: str, writer: str, clock: Clock | None = None, teacher: str = "m", **limits: float) -> Claims:
    budget = Budget(TeacherOptions(**limits), "run")  # type: ignore[arg-type]
    return Claims(open_log(open_store(address), "claims"), writer, budget, teacher, lambda key: key == "known", clock or Clock())


def sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all have slept for longer than they may without looking whether they have missed something."""
    now = shared_log.uptime()
    monkeypatch.setattr(shared_log, "uptime", lambda: now + 2 * shared_log.LONG_AGO_S)


async def joined(address: str, writer: str, clock: Clock | None = None, teacher: str = "m", **limits: float) -> Claims:
    claims = claims_of(address, writer, clock, teacher, **limits)
    await claims.join()
    return claims


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/responses"


async def test_a_key_is_granted_once(address: str) -> None:
    first, second = await joined(address, "first"), await joined(address, "second")
    assert await first.take("k", Spending()) == GRANTED
    assert await second.take("k", Spending()) == HELD
    assert second.asking("k")
    assert await second.take("another", Spending()) == GRANTED
    assert await first.take("another", Spending()) == HELD


async def test_whoever_wants_many_at_once_no_key_is_granted_twice(address: str) -> None:
    members = [await joined(address, f"w{number}") for number in range(4)]
    wanted = [(member, f"k{number}") for number in range(40) for member in members]
    outcomes = await asyncio.gather(*(member.take(key, Spending()) for member, key in wanted))
    assert outcomes.count(GRANTED) == 40
    granted = {key for (_, key), outcome in zip(wanted, outcomes, strict=True) if outcome == GRANTED}
    assert len(granted) == 40


async def test_a_key_that_is_stored_stays_taken_and_one_that_is_given_up_is_free(address: str) -> None:
    first, second = await joined(address, "first"), await joined(address, "second")
    for key in ("stored", "failed"):
        assert await first.take(key, Spending()) == GRANTED
        assert await second.take(key, Spending()) == HELD
    await first.settle("stored", stored=True)
    await first.settle("failed", stored=False)
    await second.look()
    assert not second.asking("stored"), "so the store is looked at"
    assert await second.take("stored", Spending()) == HELD
    assert await second.take("failed", Spending()) == GRANTED


async def test_who_joins_later_learns_what_is_being_asked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_log, "LONG_BYTES", 2000)
    first = await joined(address, "first")
    assert await first.take("early", Spending()) == GRANTED
    for number in range(150):
        assert await first.take(str(number), Spending()) == GRANTED
        await first.settle(str(number), stored=True)
    second = await joined(address, "second")
    assert await second.take("early", Spending()) == HELD
    assert second.asking("early")
    assert second.others == {"first"}


async def test_who_leaves_holds_nothing(address: str) -> None:
    first, second = await joined(address, "first"), await joined(address, "second")
    assert await first.take("k", Spending()) == GRANTED
    assert await second.take("k", Spending()) == HELD
    await first.leave()
    await second.look()
    assert second.departed() == second.departed() == {"first"}
    second.dealt_with({"first"})
    assert second.departed() == set()
    assert not second.asking("k")
    second.forget("k")
    assert await second.take("k", Spending()) == GRANTED


async def test_those_that_ask_the_same_teacher_are_known_to_each_other(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_log, "LONG_BYTES", 2000)
    first = await joined(address, "first")
    assert first.sharers == 1
    second, other = await joined(address, "second"), await joined(address, "other", teacher="another")
    await first.look()
    assert (first.sharers, second.sharers, other.sharers) == (2, 2, 1)
    for number in range(CHECKPOINT_EVERY + 10):
        assert await first.take(str(number), Spending()) == GRANTED
        await first.settle(str(number), stored=True)
    late = await joined(address, "late")
    assert late.sharers == 3, "checkpoints tell it as well"
    await second.leave()
    await first.look()
    assert first.sharers == 2


async def test_of_two_that_take_over_one_does(address: str) -> None:
    first, second, third = await joined(address, "first"), await joined(address, "second"), await joined(address, "third")
    assert await first.take("k", Spending()) == GRANTED
    assert [await second.take("k", Spending()), await third.take("k", Spending())] == [HELD, HELD]
    await first.leave()
    for claims in (second, third):
        await claims.look()
        assert not claims.asking("k")
        claims.forget("k")
    assert sorted([await second.take("k", Spending()), await third.take("k", Spending())]) == [GRANTED, HELD]


def test_a_killed_process_of_this_machine_is_noticed_at_once(address: str) -> None:
    async def scenario(holder: subprocess.Popen[str]) -> None:
        claims = await joined(address, "heir")
        assert await claims.take("k", Spending()) == HELD
        assert claims.departed() == set(), "it is at work"
        holder.kill()
        holder.wait()
        assert claims.departed() == {"holder"}
        assert not claims.asking("k")

    with subprocess.Popen([sys.executable, "-c", HOLDER, address], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "granted\n"
        try:
            asyncio.run(scenario(holder))
        finally:
            holder.kill()


async def test_a_process_elsewhere_is_dead_when_it_is_silent(tmp_path: Path) -> None:
    clock = Clock()
    first, second = await joined(str(tmp_path), "first"), await joined(str(tmp_path), "second", clock)
    assert await first.take("k", Spending()) == GRANTED
    assert await second.take("k", Spending()) == HELD

    async def wait(seconds: float) -> None:
        for _ in range(int(seconds)):
            clock.now += 1
            await second.look()

    await wait(SILENCE_S - 1)
    await first.beat()
    await wait(SILENCE_S - 1)
    assert second.departed() == set()
    await wait(3)
    assert second.departed() == {"first"}
    await first.beat()
    await second.look()
    assert second.others == {"first"}, "it was not dead after all"
    assert second.departed() == {"first"}, "what the store says of it must not count beside what it says"


async def test_a_time_in_which_the_log_could_not_be_read_is_nobodys_silence(tmp_path: Path) -> None:
    clock = Clock()
    first, second = await joined(str(tmp_path), "first"), await joined(str(tmp_path), "second", clock)
    await second.look()
    clock.now += 10 * SILENCE_S
    await second.look()
    assert second.departed() == set()
    await first.beat()
    await second.look()
    assert second.others == {"first"}


async def test_what_is_known_to_be_stored_is_not_granted(tmp_path: Path) -> None:
    claims = await joined(str(tmp_path), "first")
    assert await claims.take("known", Spending()) == HELD, "a look into the store that was long ago may not have found it"
    assert not claims.asking("known")


async def test_who_could_not_read_for_long_reads_on_where_it_was(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await joined(address, "first"), await joined(address, "second")
    for number in range(CHECKPOINT_EVERY + 10):
        assert await first.take(str(number), Spending()) == GRANTED
        if number % 2:
            await first.settle(str(number), stored=True)
    sleep(monkeypatch)
    assert [await second.take(key, Spending()) for key in ("0", "1")] == [HELD, HELD]
    assert [second.asking(key) for key in ("0", "1")] == [True, False]
    assert not second.gap


async def sleeper_that_missed_entries(address: str, monkeypatch: pytest.MonkeyPatch) -> Claims:
    """It was taken for dead by the first, who left and tidied away what it had written; a third is at work now."""
    clock = Clock()
    first, sleeper = await joined(address, "first", clock), await joined(address, "sleeper")
    assert await first.take("given up", Spending()) == GRANTED
    assert await sleeper.take("given up", Spending()) == HELD
    for _ in range(int(SILENCE_S) + 2):
        clock.now += 1
        await first.look()
    assert first.departed() == {"sleeper"}
    await first.settle("given up", stored=False)
    for number in range(CHECKPOINT_EVERY + 10):
        assert await first.take(str(number), Spending()) == GRANTED
        await first.settle(str(number), stored=True)
    await first.leave()
    third = await joined(address, "third")
    assert await third.take("asked now", Spending()) == GRANTED
    sleep(monkeypatch)
    return sleeper


async def test_who_missed_entries_asks_nothing_before_it_knows_what_is_stored(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = await sleeper_that_missed_entries(address, monkeypatch)
    assert await sleeper.take("0", Spending()) == HELD
    assert (sleeper.others, sleeper.departed()) == ({"third"}, {"first"})
    gap = sleeper.gap
    assert gap
    assert await sleeper.take("new", Spending()) == HELD
    sleeper.close_gap(gap)
    assert not sleeper.gap
    assert [await sleeper.take(key, Spending()) for key in ("new", "given up", "asked now")] == [GRANTED, GRANTED, HELD]


async def test_who_missed_entries_and_cannot_read_on_begins_anew_all_the_same(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = await sleeper_that_missed_entries(f"{s3_bucket}/responses", monkeypatch)
    with monkeypatch.context() as away:
        away.setattr(sleeper._log, "_read_from", store_that_is_away_after_a_gap(sleeper._log))
        with pytest.raises(StoreError, match="away"):
            await sleeper.look()
    gap = sleeper.gap
    assert gap
    await sleeper.look()
    assert (sleeper.others, sleeper.departed()) == ({"third"}, {"first"})
    sleeper.close_gap(gap)
    assert [await sleeper.take(key, Spending()) for key in ("given up", "asked now")] == [GRANTED, HELD]


def store_that_is_away_after_a_gap(log: SharedLog) -> Callable[[int], list[bytes]]:
    read = log._read_from  # type: ignore[attr-defined]

    def reading(number: int) -> list[bytes]:
        if log.gaps:
            raise StoreError("it is away", "wait")
        return list(read(number))

    return reading


async def test_what_the_store_says_of_one_that_comes_back_to_strangers_does_not_count_beside_what_it_says(tmp_path: Path) -> None:
    clock = Clock()
    first, sleeper = await joined(str(tmp_path), "first", clock), await joined(str(tmp_path), "sleeper")
    for _ in range(int(SILENCE_S) + 2):
        clock.now += 1
        await first.look()
    await first.leave()
    stranger = await joined(str(tmp_path), "stranger")
    await sleeper.beat()
    await stranger.look()
    assert (stranger.others, stranger.departed()) == ({"sleeper"}, {"sleeper"})


async def test_a_claim_that_could_not_be_written_is_not_made_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await joined(str(tmp_path), "first", max_tokens=100), await joined(str(tmp_path), "second")
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda descriptor, data: 0)
        with pytest.raises(StoreError, match="space"):
            await first.take("lost", Spending(60))
    assert await first.take("another", Spending(60)) == GRANTED
    assert await second.take("lost", Spending()) == GRANTED


async def test_one_budget_holds_for_all(address: str) -> None:
    first, second = [await joined(address, name, max_tokens=100) for name in ("first", "second")]
    cost = Spending(10, 20)
    for claims in (first, second):
        claims._budget.spend(cost)
        await claims.beat()
    assert await first.take("a", cost) == GRANTED
    assert await second.take("b", cost) == UNAFFORDABLE, "60 are spent, 30 are in flight elsewhere"
    await first.settle("a", stored=False)
    first._budget.release("a")
    await first.beat()
    await second.look()
    assert await second.take("b", cost) == GRANTED


async def test_a_damaged_entry_is_skipped(tmp_path: Path) -> None:
    first = await joined(str(tmp_path), "first")
    assert await first.take("k", Spending()) == GRANTED
    with (tmp_path / "claims.jsonl").open("ab") as log:
        log.write(b'{"writer":"\xff"}\n{"writer":"killed in the mid')
    second = await joined(str(tmp_path), "second")
    assert await second.take("k", Spending()) == HELD


async def test_the_log_is_empty_when_the_last_has_left(tmp_path: Path) -> None:
    first, second = await joined(str(tmp_path), "first"), await joined(str(tmp_path), "second")
    await first.leave()
    assert (tmp_path / "claims.jsonl").stat().st_size
    await second.look()
    await second.leave()
    assert not (tmp_path / "claims.jsonl").stat().st_size
