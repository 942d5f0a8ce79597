"""What endpoints do on bad days: storms, outages, cut connections, half replies. Nothing is lost, and nobody is overrun."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter

import msgspec
import openai
import pytest

from components.core.errors import TeacherError
from components.teacher.http import wire
from components.teacher.http.failures import Failure, HttpReply, ReplyError
from components.teacher.options import TeacherOptions
from components.teacher.pacing.circuit import OPENS_AFTER, Circuit
from tests.support.raw_server import raw_server, response
from tests.support.scripted_teacher import Answer, Body, completion, scripted_teacher
from tests.support.simulated_teacher import simulated_teacher
from tests.support.virtual_time import in_virtual_time
from tests.unit.teacher.test_sending import Sending, said, until

SEVEN = msgspec.json.encode(completion("seven"))


async def ask_all(sending: Sending, count: int) -> None:
    """As the stages do: a fixed number of workers, one request after the other."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            assert await sending.ask(number) == "seven"

    await asyncio.gather(*(work() for _ in range(32)))


def busiest(times: list[float], seconds: float) -> int:
    """Most arrivals in any stretch of so many seconds."""
    return max(sum(start <= time < start + seconds for time in times) for start in times)


@in_virtual_time
async def test_a_storm_of_refusals_is_calmed_and_no_row_is_lost() -> None:
    """An endpoint with a real limit: 20 requests a second."""
    clock = asyncio.get_running_loop().time
    level, last = 20.0, clock()
    refused = 0

    def script(body: Body) -> str | Answer:
        nonlocal level, last, refused
        level, last = min(20.0, level + (clock() - last) * 20), clock()
        if level < 1:
            refused += 1
            return Answer(429, {"error": {"message": "slowly"}}, {"Retry-After": "1"})
        level -= 1
        return "seven"

    with simulated_teacher(script) as server:
        async with Sending(server.url, concurrency=32) as sending:
            await ask_all(sending, 160)
            assert sending.sender.failures == 0
    assert len(server.requests) == 160 + refused
    assert refused <= 100
    assert max(Counter(map(said, server.requests)).values()) <= 6


@in_virtual_time
async def test_a_limit_that_headers_tell_is_kept_without_a_refusal() -> None:
    taken = 0

    def script(body: Body) -> str | Answer:
        nonlocal taken
        taken += 1
        if taken > 45:
            return Answer(429)
        headers = {"x-ratelimit-limit-requests": "1200", "x-ratelimit-remaining-requests": str(max(5 - taken, 0))}
        return Answer(200, completion("seven"), headers | {"x-ratelimit-reset-requests": "50ms"})

    with simulated_teacher(script) as server:
        async with Sending(server.url, concurrency=4) as sending:
            await asyncio.gather(*(sending.ask(number) for number in range(45)))
            assert sending.sender.retries == 0
    assert busiest(server.times[10:], 0.5) <= 14, "20 a second once nothing was left"


class Moody:
    """Fails and refuses at random, and once everything that is in flight at the same moment."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed = 0
        self.answered = Counter[str]()
        self._dice = random.Random(3)

    async def __call__(self, body: Body) -> str | Answer:
        together = 200 <= self.asked < 232
        self.asked += 1
        await asyncio.sleep(0.02)
        roll = self._dice.random()
        if together or roll < 0.15:
            self.failed += 1
            return Answer(500) if roll < 0.1 and not together else Answer(429, b"", {"Retry-After": "0.3"})
        self.answered[said(body)] += 1
        return "seven"


async def test_random_errors_and_refusals_are_ridden_out() -> None:
    moody = Moody()
    with scripted_teacher(moody) as server:
        async with Sending(server.url, concurrency=32, max_outage_s=600.0) as sending:
            await ask_all(sending, 600)
            assert (sending.sender.failures, sending.sender.retries) == (0, moody.failed)
    assert moody.answered == Counter(map(str, range(600)))
    assert len(server.requests) - 600 == moody.failed > 100


@in_virtual_time
async def test_those_who_are_refused_together_do_not_come_back_together() -> None:
    with simulated_teacher(Moody()) as server:
        async with Sending(server.url, concurrency=32, max_outage_s=60.0) as sending:
            await ask_all(sending, 600)
    asked = Counter[str]()
    repeated = []
    for text, time_ in zip(map(said, server.requests), server.times, strict=True):
        asked[text] += 1
        if asked[text] > 1:
            repeated.append(time_)
    assert len(repeated) > 100
    assert busiest(repeated, 0.02) <= 10


async def test_a_connection_that_was_closed_while_idle_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STALE_S", 60.0)
    seen: list[tuple[int, int]] = []

    async def handler(connection: int, number: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        seen.append((connection, number))
        if number == 1 and connection < 3:
            # It closes just as the next request arrives: the client has not heard of it yet.
            writer.transport.abort()
            return False
        writer.write(response(SEVEN))
        return True

    async with raw_server(handler) as url, Sending(url, max_retries=0, max_failures_in_row=1) as sending:
        for number in range(6):
            assert await sending.ask(number) == "seven"
        assert sending.sender.retries == 0
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


async def test_a_new_connection_that_is_cut_is_a_failure() -> None:
    connections: set[int] = set()

    async def handler(connection: int, number: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        connections.add(connection)
        return False

    async with raw_server(handler) as url, Sending(url, max_retries=2) as sending:
        with pytest.raises(ReplyError, match="after 2 retries") as caught:
            await sending.ask()
    assert len(connections) == 3
    assert type(caught.value.__cause__) is openai.APIConnectionError


HALVES = {
    "garbage": response(b"<html>at your service</html>"),
    "truncated json": response(SEVEN[:-20]),
    "shorter than it says": response(SEVEN)[:-20],
    "no http": b"\x00\x01\x02\r\n\r\n",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "bad gzip": response(b"not gzip", Content_Encoding="gzip"),
    "not utf-8": response(SEVEN.replace(b"seven", b"\xff\xfe")),
    "wrong types": response(SEVEN.replace(b'"seven"', b"7")),
    "array": response(b"[]"),
    "an error with status 200": response(b'{"error":{"message":"out of memory"}}'),
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
async def test_half_a_reply_is_never_taken_for_one(half: bytes) -> None:
    sent = 0

    async def handler(connection: int, number: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        sent += 1
        writer.write(half if sent <= 2 else response(SEVEN))
        return sent > 2

    async with raw_server(handler) as url, Sending(url) as sending:
        assert await sending.ask() == "seven"
        assert sending.sender.retries == 2


async def test_a_slow_loris_holds_one_place_for_a_while_only() -> None:
    """It drips as long as the others are not done. With no pause between its attempts only one of the others could go first each time."""
    drips = others = 0

    async def handler(connection: int, number: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal drips
        if b'"slow"' in body and others < 20:
            for byte in response(SEVEN):
                drips += 1
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
            return True
        writer.write(response(SEVEN))
        return True

    # On a machine that stalls many attempts may pass before the others are done.
    async with raw_server(handler) as url, Sending(url, concurrency=2, timeout_s=0.6, backoff_s=0.0, max_retries=50) as sending:
        slow = asyncio.create_task(sending.ask("slow"))
        await until(lambda: drips > 0)
        while others < 20:
            assert await sending.ask(others) == "seven"
            others += 1
        assert await slow == "seven", "the others did not wait for it"
        assert sending.sender.retries >= 1


class Away:
    """An endpoint that is down for a while: it takes requests and answers with an error."""

    def __init__(self, status: int = 503) -> None:
        self._status = status
        self.down = False
        self.while_down: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self.since_return: list[tuple[int, int]] = []
        """For each request since it is back: how many were open then, and how many had been answered."""
        self._answered = 0

    async def __call__(self, body: Body) -> str | Answer:
        if self.down:
            self.while_down.append(said(body))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            await asyncio.sleep(0.02)
            self._at_once -= 1
            return Answer(self._status)
        if self.while_down:
            self.since_return.append((len(self.since_return) - self._answered, self._answered))
        await asyncio.sleep(0.02)
        self._answered += bool(self.since_return)
        return "seven"


@in_virtual_time
async def test_while_nobody_is_at_home_one_request_at_a_time_knocks() -> None:
    away = Away()
    with simulated_teacher(away) as server:
        async with Sending(
            server.url, concurrency=32, max_retries=2, deadline_s=3.0, max_outage_s=60.0, backoff_s=0.05, max_backoff_s=0.1
        ) as sending:
            asking = asyncio.create_task(ask_all(sending, 600))
            await until(lambda: len(server.requests) >= 100)
            away.down = True
            await until(lambda: len(away.while_down) >= 32 + OPENS_AFTER)
            before, away.most_at_once = len(away.while_down), 0
            await asyncio.sleep(4.0)
            knocks = away.while_down[before:]
            away.down = False
            await asking
            assert sending.sender.failures == 0, "neither retries nor deadlines run while it is down"
    assert 8 <= len(knocks) <= 100
    assert away.most_at_once == 1
    assert all(len(set(knocks[start : start + 20])) == len(knocks[start : start + 20]) for start in range(len(knocks))), (
        "another one each time: one that brings it down must not keep it down"
    )
    for others, answered in away.since_return[:20]:
        assert others <= 2 + answered, "each answer lets one more in, not everybody at once"
    assert len(server.requests) == 600 + len(away.while_down)


@in_virtual_time
async def test_an_outage_uses_up_no_retries() -> None:
    away = Away(500)
    away.down = True
    with simulated_teacher(away) as server:
        async with Sending(server.url, concurrency=12, max_retries=2, max_outage_s=60.0) as sending:
            asking = asyncio.gather(*(sending.ask(number) for number in range(12)))
            await until(lambda: len(away.while_down) >= 12 + 30 or asking.done())
            away.down = False
            assert await asking == ["seven"] * 12


async def test_an_outage_that_lasts_ends_the_work_and_says_since_when() -> None:
    away = Away()
    away.down = True
    with scripted_teacher(away) as server:
        async with Sending(server.url, concurrency=8, max_outage_s=0.6, backoff_s=0.05, max_backoff_s=0.1) as sending:
            errors = await asyncio.wait_for(asyncio.gather(*(sending.ask(number) for number in range(20)), return_exceptions=True), 60)
            asked = len(server.requests)
            for error in errors:
                assert isinstance(error, TeacherError)
                assert not isinstance(error, ReplyError)
                assert isinstance(error.__cause__, openai.InternalServerError)
            text = str(errors[0])
            assert f"{server.url} has not answered since 2" in text
            assert "HTTP 503" in text and "is stored" in text and "max_outage_s" in text
            assert sending.sender.failures == 20
            with pytest.raises(TeacherError, match="has not answered since"):
                await sending.ask("one more")
            assert len(server.requests) == asked + 1, "a new request looks once"
            away.down = False
            assert await sending.ask("back") == "seven"
            assert await sending.ask("and again") == "seven"


def failing(status: int = 500) -> Failure:
    return Failure(str(status), "HTTP", reply=HttpReply(status, "", {}, b""))


def test_one_error_in_ten_never_opens_the_circuit() -> None:
    dice = random.Random(11)
    circuit = Circuit(TeacherOptions(), "x")
    for number in range(300_000):
        if dice.random() < 0.1:
            circuit.failed(failing(), number, False)
        else:
            circuit.answered()
        assert not circuit.is_open


def test_the_failures_of_one_request_say_nothing_about_the_others() -> None:
    circuit = Circuit(TeacherOptions(), "x")
    for _ in range(100):
        circuit.failed(failing(), 1, False)
    assert not circuit.is_open
    circuit.failed(failing(), 2, False)
    assert circuit.is_open


def test_failures_before_an_answer_do_not_count() -> None:
    circuit = Circuit(TeacherOptions(), "x")
    for number in range(OPENS_AFTER - 1):
        circuit.failed(failing(), number, False)
    circuit.answered()
    for _ in range(10 * OPENS_AFTER):
        circuit.failed(failing(), 1, False)
    assert not circuit.is_open, "all since then are of one request"


def test_a_probe_that_is_broken_off_makes_room_for_the_next() -> None:
    circuit = Circuit(TeacherOptions(), "x", clock=lambda: 1000.0)
    circuit.open(failing())
    assert circuit.started() and circuit.ready_at() is None
    circuit.cancelled(False)
    assert circuit.ready_at() is None, "that was another request, from before the outage"
    circuit.cancelled(True)
    assert circuit.ready_at() is not None


def test_probes_come_at_growing_distances_until_the_outage_is_over() -> None:
    now = 1000.0
    circuit = Circuit(TeacherOptions(max_outage_s=100.0, backoff_s=1.0, max_backoff_s=8.0), "x", clock=lambda: now)
    for number in range(OPENS_AFTER):
        circuit.failed(failing(), number, False)
    gaps = []
    for number in itertools.count():
        at = circuit.ready_at()
        assert at is not None
        gaps.append(at - now)
        now = at
        assert circuit.started()
        assert circuit.ready_at() is None, "one at a time"
        circuit.failed(failing(), number, True)
        if circuit.given_up is not None:
            break
    assert now == 1100.0
    for gap, ceiling in zip(gaps[:-1], [1, 2, 4, *[8] * 100], strict=False):
        assert ceiling / 2 <= gap <= ceiling
    assert circuit.outages_s == 100.0
    assert circuit.answered()
    assert circuit.ready_at() == 0.0
    assert circuit.outages_s == 100.0


async def test_many_requests_given_up_one_after_another_end_the_work() -> None:
    def script(body: Body) -> str | Answer:
        return Answer(400) if said(body) != "good" else "seven"

    with scripted_teacher(script) as server:
        async with Sending(server.url, max_failures_in_row=3) as sending:
            for text in ("a", "b", "good", "c", "d"):
                if text == "good":
                    await sending.ask(text)
                else:
                    with pytest.raises(ReplyError):
                        await sending.ask(text)
            with pytest.raises(TeacherError, match="the last 3 requests all failed") as caught:
                await sending.ask("e")
            assert not isinstance(caught.value, ReplyError)


@in_virtual_time
async def test_a_busy_endpoint_does_not_use_up_retries() -> None:
    """A 429 says "later", as long as others are being answered."""
    refusals = Counter[str]()

    def script(body: Body) -> str | Answer:
        if said(body) == "0" and refusals["0"] < 12:
            refusals["0"] += 1
            return Answer(429, b"", {"Retry-After": "0"})
        return "seven"

    with simulated_teacher(script) as server:
        async with Sending(server.url, concurrency=2, max_retries=2) as sending:
            patient = asyncio.create_task(sending.ask(0))
            while not patient.done():
                await sending.ask("another")
            assert await patient == "seven"
        refusals.clear()
        server.script = lambda _: Answer(429, b"", {"Retry-After": "0"})
        async with Sending(server.url, max_retries=2) as sending:
            with pytest.raises(ReplyError, match="HTTP 429.*after 2 retries"):
                await sending.ask(0)


async def test_connections_that_fall_silent_hold_nobody_up() -> None:
    """Half-open: the other end is gone, and nothing says so. Each such connection has answered once, and is in the pool."""
    silent: list[int] = []

    async def answer(connection: int, request: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if request and (len(silent) < 4 or connection in silent):
            silent.append(connection)
        else:
            writer.write(response(SEVEN))
        return True

    async with raw_server(answer) as url, Sending(url, timeout_s=0.5, concurrency=8) as sending:
        await ask_all(sending, 100)
        # The first round is over but for a few requests when the silence is noticed; this one takes whatever is in the pool.
        await ask_all(sending, 100)
    assert len(silent) == len(set(silent)) == 4, "a connection that has fallen silent is not used again"
