"""Pacing by the numbers: simulated servers and a clock that only the test moves."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import TeacherError
from components.teacher.http.failures import Failure
from components.teacher.options import TeacherOptions
from components.teacher.pacing.circuit import OPENS_AFTER, Circuit
from components.teacher.pacing.pacer import Pacer
from components.teacher.pacing.rates import Gcra, Told, duration_s, told_by
from components.teacher.pacing.window import Window
from tests.support.virtual_time import run_in_virtual_time

AWAY = Failure("connection", "cannot be reached")

Refusal = Callable[[float], float | None]
"""Time of arrival to the Retry-After of a refusal; None for an answer."""


class Run:
    """Workers that ask a simulated endpoint for a number of answers through a pacer.

    Attributes:
        arrivals: Times at which requests came.
        refused: Those that were refused, by number of the request.
        seconds: How long it took.
        sizes: Of the window, whenever it changed.
    """

    def __init__(self, endpoint: Refusal, requests: int, **options: int | float) -> None:
        self.arrivals: list[float] = []
        self.refused: list[int] = []
        self.sizes: list[int] = []
        self.seconds = 0.0
        self._endpoint = endpoint
        self._options = TeacherOptions(**{"concurrency": 64, **options})  # type: ignore[arg-type]
        run_in_virtual_time(self._all(requests))

    async def _all(self, requests: int) -> None:
        self._loop = asyncio.get_running_loop()
        circuit = Circuit(self._options, "x", clock=self._loop.time)
        self._pacer = Pacer(self._options, circuit, self.sizes.append, self._loop.time)
        numbers = iter(range(requests))

        async def work() -> None:
            for number in numbers:
                await self._one(number)

        await asyncio.gather(*(work() for _ in range(self._options.concurrency)))
        self.seconds = self._loop.time()

    async def _one(self, number: int) -> None:
        for attempt in itertools.count():
            permit = await self._pacer.enter(100, again=attempt > 0)
            self.arrivals.append(self._loop.time())
            wait_s = self._endpoint(self._loop.time())
            await asyncio.sleep(0.05 if wait_s is None else 0.01)
            self._pacer.leave(permit, wait_s is not None, wait_s)
            if wait_s is None:
                return
            self.refused.append(number)
            await asyncio.sleep(wait_s * random.uniform(1.0, 1.25) or 0.5 * 2**attempt)


def bucket(per_second: float, size: float, wait_s: float) -> Refusal:
    """An endpoint with a token bucket."""
    level, last = size, 0.0

    def ask(now: float) -> float | None:
        nonlocal level, last
        level, last = min(size, level + (now - last) * per_second), now
        if level < 1:
            return wait_s
        level -= 1
        return None

    return ask


def fixed_window(requests: int, seconds: float) -> Refusal:
    """An endpoint that takes so many requests in each stretch of time, and says when the next one begins."""
    taken: dict[int, int] = {}

    def ask(now: float) -> float | None:
        stretch = int(now // seconds)
        taken[stretch] = taken.get(stretch, 0) + 1
        return None if taken[stretch] <= requests else (stretch + 1) * seconds - now

    return ask


def at_random(share: float, wait_s: float) -> Refusal:
    """An endpoint that refuses a share of the requests."""
    return lambda _: wait_s if random.random() < share else None


@pytest.mark.parametrize(("spent", "minutes"), [(None, 2), (100, 2), (200, 4), (25, 0.5)])
def test_tokens_a_minute_are_those_that_were_spent(spent: int | None, minutes: float) -> None:
    """Every request is thought to cost 100 tokens of 60,000 a minute."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        options = TeacherOptions(concurrency=1, tokens_per_minute=60_000)
        pacer = Pacer(options, Circuit(options, "x", clock=loop.time), clock=loop.time)
        for _ in range(1200):
            pacer.leave(await pacer.enter(100), False, spent_tokens=spent)
        return loop.time()

    assert run_in_virtual_time(work()) == pytest.approx(60 * minutes, rel=0.05)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05])
def test_a_few_random_refusals_cost_no_concurrency(share: float) -> None:
    run = Run(at_random(share, 0.05), 20_000)
    assert run.seconds <= 1.1 * 20_000 * 0.05 / 64
    assert min(run.sizes, default=64) >= 48


@pytest.mark.parametrize(
    ("endpoint", "requests", "ideal_s"),
    [
        (bucket(10, 10, 1.0), 400, 39.0),
        (bucket(10, 10, 0.0), 400, 39.0),
        (bucket(20, 20, 1.0), 400, 19.0),
        (bucket(10, 600, 6.0), 2000, 140.0),
        (fixed_window(60, 6.0), 600, 54.0),
        (fixed_window(600, 60.0), 1200, 60.0),
    ],
    ids=["10/s", "10/s without Retry-After", "20/s", "10/s after 600", "60 every 6 s", "600 a minute"],
)
def test_a_storm_is_calmed_without_being_told_the_limit(endpoint: Refusal, requests: int, ideal_s: float) -> None:
    run = Run(endpoint, requests)
    assert run.seconds <= 1.3 * ideal_s + 2
    assert len(run.refused) <= 0.3 * requests, "most of the refused are from before the limit was known"
    assert max(run.refused.count(number) for number in set(run.refused)) <= 4
    assert min(run.sizes) <= 4


def test_nothing_starts_before_the_time_that_the_endpoint_asked_for() -> None:
    down_at, up_at = 1.0, 21.0
    run = Run(lambda now: up_at - now if down_at <= now < up_at else None, 4000)
    seen = [time for time in run.arrivals if down_at <= time < up_at]
    assert len(seen) <= 2 * 64
    assert max(seen) < down_at + 0.1
    after = [time for time in run.arrivals if time >= up_at]
    assert sum(time < after[0] + 0.04 for time in after) <= 8, "the first to come back come alone"
    assert run.sizes[-1] == 64


def test_the_window_follows_the_share_and_recovers() -> None:
    window = Window(64)
    for refused in ([True] * 20 + [False] * 44) * 3:
        window.outcome(refused)
    assert 30 <= window.size < 50, "a third is refused: a sixth less, each round"
    for _ in range(2000):
        window.outcome(False)
    assert window.size == 64


def test_a_window_restarts_small_and_doubles() -> None:
    window = Window(64)
    shares = [window.outcome(True) for _ in range(33)]
    assert [share for share in shares if share is not None] == [pytest.approx(33 / 64)]
    sizes = [window.size]
    while sizes[-1] < window.most and len(sizes) < 10:
        for _ in range(sizes[-1]):
            window.outcome(False)
        sizes.append(window.size)
    assert sizes[:4] == [4, 8, 16, 32]


@given(
    per_minute=st.floats(1, 100_000),
    burst=st.floats(1, 500),
    costs=st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 300)), min_size=1, max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_no_stretch_of_time_has_more_than_the_limit(per_minute: float, burst: float, costs: list[tuple[float, float]]) -> None:
    gcra = Gcra(per_minute, burst)
    now, taken = 0.0, []
    for pause, cost in costs:
        now = max(now + pause, gcra.ready_at(now + pause, cost))
        gcra.take(now, cost)
        taken.append((now, cost))
    for first, last in itertools.combinations(range(len(taken)), 2):
        total = sum(cost for _, cost in taken[first : last + 1])
        # A cost beyond the burst goes when the bucket is empty.
        room = max(burst, taken[last][1])
        assert total <= room + (taken[last][0] - taken[first][0]) * per_minute / 60 + taken[first][1] + 1e-6


@pytest.mark.parametrize(
    ("limits", "most_a_minute"), [({"requests_per_minute": 600}, 610), ({"tokens_per_minute": 60_000}, 610)], ids=["requests", "tokens"]
)
def test_limits_from_the_options_are_kept_without_a_refusal(limits: dict[str, int], most_a_minute: int) -> None:
    run = Run(lambda _: None, 1500, **limits)
    assert run.seconds >= 140
    for start in range(0, 120, 7):
        assert sum(start <= time < start + 60 for time in run.arrivals) <= most_a_minute
    assert run.seconds <= 152


def test_tokens_are_corrected_by_what_a_reply_says() -> None:
    gcra = Gcra(6000, 100)
    gcra.take(0.0, 1000)
    assert gcra.ready_at(0.0, 100) == pytest.approx(10.0)
    gcra.correct(-900)
    assert gcra.ready_at(0.0, 100) == pytest.approx(1.0)


async def _admitted(pacer: Pacer, count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    times = []

    async def one() -> None:
        permit = await pacer.enter(10)
        times.append(loop.time())
        pacer.leave(permit, False)

    await asyncio.gather(*(one() for _ in range(count)))
    return times


def _told(*headers: dict[str, str], count: int = 4, **options: int | float) -> list[float]:
    """When requests go out after these headers have come."""

    async def work() -> list[float]:
        loop = asyncio.get_running_loop()
        chosen = TeacherOptions(**options)  # type: ignore[arg-type]
        pacer = Pacer(chosen, Circuit(chosen, "x", clock=loop.time), clock=loop.time)
        for each in headers:
            pacer.observe(each)
        return await _admitted(pacer, count)

    return run_in_virtual_time(work())


def _limited(unit: str, limit: int, remaining: int, reset: str) -> dict[str, str]:
    """Headers of an endpoint, with OpenAI's names."""
    return {
        f"x-ratelimit-limit-{unit}": str(limit), f"x-ratelimit-remaining-{unit}": str(remaining), f"x-ratelimit-reset-{unit}": reset
    }  # fmt: skip


ONE_A_SECOND = [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("headers", "times"),
    [
        ([_limited("requests", 60, 3, "57s")], ONE_A_SECOND),
        ([_limited("tokens", 600, 30, "57s")], ONE_A_SECOND),
        ([{"anthropic-ratelimit-tokens-limit": "600", "anthropic-ratelimit-tokens-remaining": "30"}], ONE_A_SECOND),
        ([_limited("requests", 6000, 5000, "1s") | _limited("tokens", 600, 30, "57s")], ONE_A_SECOND),
        ([_limited("requests", 60, 3, "57s") | _limited("tokens", 60_000, 50_000, "1s")], ONE_A_SECOND),
        ([_limited("tokens", 600, 300, "30s"), _limited("tokens", 600, 30, "57s")], ONE_A_SECOND),
        ([_limited("tokens", 600, 30, "57s"), _limited("tokens", 1200, 30, "58s")], [0, 0, 0, 0.5, 1, 1.5]),
        ([_limited("tokens", 600, 0, "60s")], [1, 2, 3, 4, 5, 6]),
        ([{"x-ratelimit-remaining-tokens": "30"}], [0] * 6),
    ],
    ids=[
        "requests",
        "tokens",
        "anthropic",
        "tokens are scarcer",
        "requests are scarcer",
        "others use it",
        "raised",
        "none left",
        "no limit",
    ],
)
def test_what_is_left_of_a_minute_goes_at_once_and_the_rest_at_the_limits_pace(headers: list[dict[str, str]], times: list[float]) -> None:
    """Each request is thought to cost ten tokens."""
    assert _told(*headers, count=6) == pytest.approx(times, abs=0.25 if times[0] else 0.01)


@pytest.mark.parametrize(("unit", "limit"), [("requests", {"requests_per_minute": 6000}), ("tokens", {"tokens_per_minute": 60_000})])
def test_the_limits_of_the_options_win_over_those_of_the_headers(unit: str, limit: dict[str, int]) -> None:
    assert _told(_limited(unit, 60, 1, "59s"), **limit) == pytest.approx([0, 0, 0, 0])


@pytest.mark.parametrize(
    ("headers", "first"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, (120, 132)),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, (0.02, 0.022)),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "30"}, (30, 33)),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "60s"}, (0, 0)),
    ],
    ids=["bounded", "tokens", "draft", "one left"],
)
def test_with_nothing_left_nothing_goes_before_the_reset(headers: dict[str, str], first: tuple[float, float]) -> None:
    assert first[0] <= min(_told(headers)) <= first[1]


@pytest.mark.parametrize(
    ("headers", "unit", "told"),
    [
        ({}, "requests", None),
        ({"x-ratelimit-remaining-requests": "5"}, "requests", Told(None, 5, None)),
        ({"x-ratelimit-remaining-requests": "5"}, "tokens", None),
        ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-limit-requests": "-1"}, "requests", Told(None, None, None)),
        ({"anthropic-ratelimit-tokens-remaining": "7", "anthropic-ratelimit-tokens-limit": "9"}, "tokens", Told(9, 7, None)),
        ({"ratelimit-remaining": "2", "ratelimit-limit": "9", "ratelimit-reset": "3"}, "requests", Told(None, 2, 3)),
    ],
)
def test_limits_are_read_from_headers(headers: dict[str, str], unit: str, told: Told | None) -> None:
    assert told_by(headers, unit) == told


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400.0),
        ("12", 12.0),
        ("1.5", 1.5),
        ("-1s", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("2001-02-03T04:05:06Z", 0.0),
    ],
)
def test_durations_are_read(text: str | None, seconds: float | None) -> None:
    assert duration_s(text) == (pytest.approx(seconds) if seconds is not None else None)


def test_processes_share_the_limits_of_the_options() -> None:
    sent: list[float] = []
    sharers = 4

    async def work() -> None:
        nonlocal sharers
        loop = asyncio.get_running_loop()
        options = TeacherOptions(requests_per_minute=600, tokens_per_minute=240_000)
        pacer = Pacer(options, Circuit(options, "x", clock=loop.time), clock=loop.time, sharers=lambda: sharers)

        async def send(requests: int, tokens: int) -> None:
            start = loop.time()
            for _ in range(requests):
                pacer.leave(await pacer.enter(tokens), False, spent_tokens=tokens)
            sent.append(requests / (loop.time() - start))

        await send(500, 1)
        sharers = 1
        await send(2000, 1)
        sharers = 2
        await send(500, 1000)

    run_in_virtual_time(work())
    assert sent == pytest.approx([10 / 4, 10.0, 2.0], rel=0.01)


def test_first_come_first_served_and_further_attempts_before_new_ones() -> None:
    order: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()
        options = TeacherOptions(concurrency=1)
        pacer = Pacer(options, Circuit(options, "x", clock=loop.time), clock=loop.time)
        held = await pacer.enter(1)

        async def one(name: str, again: bool) -> None:
            permit = await pacer.enter(1, again=again)
            order.append(name)
            await asyncio.sleep(1)
            pacer.leave(permit, False)

        tasks = []
        for name, again in (("new 1", False), ("new 2", False), ("again 1", True), ("new 3", False), ("again 2", True)):
            tasks.append(asyncio.create_task(one(name, again)))
            await asyncio.sleep(0)
        pacer.leave(held, False)
        await asyncio.gather(*tasks)

    run_in_virtual_time(work())
    assert order == ["again 1", "again 2", "new 1", "new 2", "new 3"]


def test_who_gives_up_waiting_leaves_room_for_the_others() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        options = TeacherOptions(concurrency=1)
        pacer = Pacer(options, Circuit(options, "x", clock=loop.time), clock=loop.time)
        for when in ("before", "at the same time"):
            held = await pacer.enter(1)
            impatient = asyncio.create_task(pacer.enter(1))
            await asyncio.sleep(0)
            if when == "before":
                impatient.cancel()
                await asyncio.sleep(0)
            pacer.leave(held, False)
            impatient.cancel()
            async with asyncio.timeout(1):
                pacer.leave(await pacer.enter(1), False)

    run_in_virtual_time(work())


def test_once_an_outage_has_lasted_too_long_nobody_who_has_asked_before_waits_any_more() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        options = TeacherOptions(max_outage_s=60.0)
        circuit = Circuit(options, "x", clock=loop.time)
        pacer = Pacer(options, circuit, clock=loop.time)
        for number in range(OPENS_AFTER):
            circuit.failed(AWAY, number, False)
        while circuit.given_up is None:
            permit = await pacer.enter(1, again=True)
            assert permit.probe
            circuit.failed(AWAY, 0, permit.probe)
            pacer.cancel()
        assert loop.time() == pytest.approx(60.0)
        with pytest.raises(TeacherError, match="x has not answered since"):
            await pacer.enter(1, again=True)
        permit = await pacer.enter(1)
        assert permit.probe, "a new request looks whether it is still so"
        waiting = asyncio.create_task(pacer.enter(1))
        await asyncio.sleep(0)
        pacer.flush(AWAY)
        with pytest.raises(TeacherError, match="x has not answered since"):
            await waiting

    run_in_virtual_time(work())
