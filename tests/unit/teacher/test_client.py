"""The teacher's client against a real HTTP server: never twice, never stuck, never beyond the budget, never leaking the key."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Collection
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from prometheus_client import generate_latest

from components.core.errors import BudgetError, ParameterError, TeacherError
from components.core.metrics import telemetry
from components.core.stage import StageRun
from components.teacher.client import Reply, ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.http.failures import retry_after
from components.teacher.options import Price, TeacherOptions
from tests.support.ports import NOBODY, closed_port
from tests.support.scripted_teacher import Answer, Body, completion, scripted_teacher
from tests.support.waiting import wait_until

KEY = "sk-planted-5c1d0f7a9b"


@pytest.fixture
def long_last_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight at an interrupt comes home however slow the machine is."""
    monkeypatch.setattr("components.teacher.client.LAST_WAIT_S", 120.0)


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(
        **{"base_url": url, "model": "m", "backoff_s": 0.01, "max_backoff_s": 0.05, "max_outage_s": 0.0, "timeout_s": 120.0, **more}
    )


def message(text: object) -> list[dict[str, str]]:
    return [{"role": "user", "content": str(text)}]


async def ask(teacher: Teacher, text: object, **more: Any) -> Reply:
    return await teacher.chat(message(text), **{"temperature": 0.0, **more})


def echo(body: Body) -> str:
    return f"reply to {body['messages'][-1]['content']}"


async def test_a_reply_and_what_it_cost(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        prices = options(server.url, prices={"m": Price(prompt=1000.0, completion=100_000.0)})
        async with Teacher(prices, str(tmp_path)) as teacher:
            reply = await ask(teacher, "a", temperature=0.5, top_p=0.9, max_tokens=7, sample=2)
            assert reply == Reply("reply to a", "stop", False, 10, 3)
            assert teacher.usage.requests == 1
            assert (teacher.usage.prompt_tokens, teacher.usage.completion_tokens) == (10, 3)
            assert teacher.usage.usd == pytest.approx(0.01 + 0.3)
    assert server.requests == [
        {"model": "m", "messages": message("a"), "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 2},
    ]


async def test_an_answered_request_is_never_sent_again(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        for _ in range(2):
            async with Teacher(options(server.url), str(tmp_path)) as teacher:
                first, again = await ask(teacher, "a"), await ask(teacher, "a")
                assert first.text == again.text
                assert again.cached
        assert (teacher.usage.requests, teacher.usage.cache_hits) == (0, 2)
        assert len(server.requests) == 1


async def test_processes_of_a_store_share_the_limits_of_the_account(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        chosen = options(server.url, requests_per_minute=1200)
        async with Teacher(chosen, str(tmp_path)) as first, Teacher(chosen, str(tmp_path)) as second:
            start = time.monotonic()
            await asyncio.gather(
                *(ask(teacher, f"{name} {number}") for name, teacher in (("a", first), ("b", second)) for number in range(40))
            )
            took_s = time.monotonic() - start
        assert len(server.requests) == 80
        assert took_s >= (80 - 2 * 10) / 20, "each may begin with a second's worth of its half"


@pytest.mark.parametrize(
    "change",
    [{"text": "b"}, {"temperature": 0.1}, {"top_p": 0.5}, {"max_tokens": 5}, {"sample": 1}, {"model": "other"}],
    ids=lambda change: next(iter(change)),
)
async def test_whatever_can_change_the_reply_is_part_of_the_key(tmp_path: Path, change: dict[str, Any]) -> None:
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            await ask(teacher, "a")
        more = dict(change)
        async with Teacher(options(server.url, model=more.pop("model", "m")), str(tmp_path)) as teacher:
            await ask(teacher, more.pop("text", "a"), **more)
        assert len(server.requests) == 2


async def test_the_endpoint_and_its_settings_are_not_part_of_the_key(tmp_path: Path) -> None:
    with scripted_teacher(echo) as first, scripted_teacher(echo) as second:
        async with Teacher(options(first.url), str(tmp_path)) as teacher:
            await ask(teacher, "a")
        async with Teacher(options(second.url, concurrency=3, timeout_s=5.0, max_retries=1), str(tmp_path)) as teacher:
            assert (await ask(teacher, "a")).cached
        assert second.requests == []


async def test_equal_requests_in_flight_are_sent_once(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            replies = await asyncio.gather(*(ask(teacher, "a") for _ in range(20)))
            assert sum(not reply.cached for reply in replies) == 1
            assert (teacher.usage.requests, teacher.usage.cache_hits) == (1, 19)
        assert len(server.requests) == 1


async def test_a_slow_request_does_not_hold_the_others(tmp_path: Path) -> None:
    rest_done = asyncio.Event()

    async def script(body: Body) -> str:
        if body["messages"][0]["content"] == "0":
            async with asyncio.timeout(60):
                await rest_done.wait()
        return echo(body)

    with scripted_teacher(script) as server:
        # No further attempt, so that a window that waits for its slowest request fails when that one's minute is over.
        async with Teacher(options(server.url, concurrency=4, max_retries=0), str(tmp_path)) as teacher:
            seen: list[int] = []

            def on_done(done: int, total: int) -> None:
                seen.append(done)
                if done == total - 1:
                    server.set(rest_done)

            async def one(number: int) -> str:
                return (await ask(teacher, number)).text

            texts = await map_concurrently(one, range(40), 4, on_done)
        assert texts == [f"reply to {number}" for number in range(40)]
        assert seen == list(range(1, 41))
        assert server.most_in_flight <= 4


async def test_the_concurrency_limit_holds_for_any_number_of_callers(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def script(body: Body) -> str:
        if server.most_in_flight == 3:
            reached.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reached.wait(), 60)
        reached.set()
        await asyncio.sleep(0.005)
        return echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url, concurrency=3), str(tmp_path)) as teacher:
            await asyncio.gather(*(ask(teacher, number) for number in range(30)))
        assert server.most_in_flight == 3


FAULTS: list[tuple[str, Answer]] = [
    ("500", Answer(500, {"error": {"message": "oops"}})),
    ("503 without a body", Answer(503)),
    ("408", Answer(408, {"error": {"message": "slow"}})),
    ("429", Answer(429, {"error": {"message": "later"}})),
    ("garbage", Answer(200, b"<html>not json</html>")),
    ("truncated json", Answer(200, msgspec.json.encode(completion("text"))[:-9])),
    ("no choices", Answer(200, {"choices": []})),
    ("empty text", Answer(200, completion("  "))),
    ("no text", Answer(200, completion(None))),
    ("another shape", Answer(200, {"choices": [{"text": "old api"}]})),
]


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[name for name, _ in FAULTS])
async def test_failures_that_pass_are_tried_again(tmp_path: Path, name: str, fault: Answer) -> None:
    seen: Counter[str] = Counter()

    def script(body: Body) -> str | Answer:
        text = body["messages"][0]["content"]
        seen[text] += 1
        return fault if seen[text] <= 2 else echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            assert (await ask(teacher, "a")).text == "reply to a"
            assert (teacher.usage.requests, teacher.usage.retries, teacher.usage.failures) == (1, 2, 0)
        assert len(server.requests) == 3


async def test_retries_are_bounded_and_failures_are_not_stored(tmp_path: Path) -> None:
    with scripted_teacher(lambda _: Answer(500, {"error": {"message": "oops"}})) as server:
        async with Teacher(options(server.url, max_retries=3), str(tmp_path)) as teacher:
            with pytest.raises(ReplyError, match=r"HTTP 500: oops \(after 3 retries\)"):
                await ask(teacher, "a")
            assert (teacher.usage.retries, teacher.usage.failures) == (3, 1)
        assert len(server.requests) == 4
        server.script = echo
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            assert not (await ask(teacher, "a")).cached


async def test_a_request_that_is_refused_is_not_repeated_and_stops_nobody(tmp_path: Path) -> None:
    def script(body: Body) -> str | Answer:
        return Answer(400, {"error": {"message": "too long"}}) if body["messages"][0]["content"] == "bad" else echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            with pytest.raises(ReplyError, match="HTTP 400: too long"):
                await ask(teacher, "bad")
            assert (await ask(teacher, "good")).text == "reply to good"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(401, {"error": {"message": f"bad key {KEY}"}}), r"HTTP 401(.|\n)*TUTORLOOP_TEACHER_API_KEY"),
        (Answer(403, {"error": {"message": "no"}}), r"HTTP 403(.|\n)*TUTORLOOP_TEACHER_API_KEY"),
        (Answer(404, {"error": {"message": "no model"}}), r"HTTP 404(.|\n)*teacher\.model = 'm'"),
        (Answer(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), r"HTTP 429: pay(.|\n)*no credit"),
    ],
)
async def test_what_would_fail_for_every_request_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, message: str
) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
    with scripted_teacher(lambda _: answer) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            with pytest.raises(TeacherError, match=message) as caught:
                await ask(teacher, "a")
        assert not isinstance(caught.value, ReplyError)
        assert KEY not in str(caught.value)
        assert len(server.requests) == 1
        assert server.keys == {f"Bearer {KEY}"}


async def test_an_endpoint_that_is_down_ends_the_work(tmp_path: Path) -> None:
    with scripted_teacher(lambda _: Answer(500)) as server:
        async with Teacher(options(server.url, max_retries=1, max_failures_in_row=4, concurrency=2), str(tmp_path)) as teacher:

            async def one(number: int) -> None:
                try:
                    await ask(teacher, number)
                except ReplyError:
                    return

            with pytest.raises(TeacherError, match="the last 4 requests all failed"):
                await map_concurrently(one, range(1000), 2)
        assert len(server.requests) <= 12


async def test_an_outage_that_ends_the_work_loses_no_answer(tmp_path: Path) -> None:
    down = False

    def script(body: Body) -> str | Answer:
        nonlocal down
        down = down or len(server.requests) == 80
        return Answer(503, body=b"{}") if down else echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url, max_outage_s=0.5, concurrency=8), str(tmp_path)) as teacher:
            with pytest.raises(TeacherError, match="503"):
                await map_concurrently(lambda number: ask(teacher, number), range(200), 16)
            assert teacher.usage.requests == 79
        server.script, before = echo, len(server.requests)
        async with Teacher(options(server.url, concurrency=8), str(tmp_path)) as teacher:
            await map_concurrently(lambda number: ask(teacher, number), range(200), 16)
        assert len(server.requests) - before == 121


async def test_the_breaker_counts_failures_in_a_row_only(tmp_path: Path) -> None:
    def script(body: Body) -> str | Answer:
        return echo(body) if int(body["messages"][0]["content"]) % 3 == 0 else Answer(400)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url, max_failures_in_row=3), str(tmp_path)) as teacher:
            for number in range(30):
                if number % 3 == 0:
                    await ask(teacher, number)
                else:
                    with pytest.raises(ReplyError):
                        await ask(teacher, number)


async def test_an_attempt_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    async def script(body: Body) -> str:
        if len(server.requests) == 1:
            await asyncio.sleep(60)
        return echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url, timeout_s=0.3), str(tmp_path)) as teacher:
            assert (await ask(teacher, "a")).text == "reply to a"
            assert teacher.usage.retries >= 1


async def test_a_reply_that_only_trickles_in_is_given_up(tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with Teacher(options(f"http://{host}:{port}/v1", max_retries=1, timeout_s=0.4), str(tmp_path)) as teacher:
        with pytest.raises(ReplyError, match="did not answer within 0.4 s"):
            async with asyncio.timeout(60):
                await ask(teacher, "a")
    server.close()


async def test_an_endpoint_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    async with Teacher(options(f"http://{NOBODY}/v1", max_retries=1, max_failures_in_row=1), str(tmp_path)) as teacher:
        with pytest.raises(TeacherError, match=rf"{re.escape(NOBODY)}/v1 cannot be reached(.|\n)*teacher\.base_url"):
            await ask(teacher, "a")


async def test_an_endpoint_that_is_away_for_a_while_is_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with closed_port() as port:
        patient = options(f"http://127.0.0.1:{port}/v1", max_retries=1, max_outage_s=300.0)
        async with Teacher(patient, str(tmp_path)) as teacher:
            asking = asyncio.gather(*(ask(teacher, number) for number in range(5)))
            while teacher.usage.retries < 20:
                assert not asking.done(), "max_retries counts nothing while nobody is at home"
                await asyncio.sleep(0.01)
            with scripted_teacher(echo, port=port) as server:
                replies = await asking
                assert [reply.text for reply in replies] == [f"reply to {number}" for number in range(5)]
                assert len(server.requests) == 5
                await ask(teacher, "later")
    assert capfd.readouterr().out.count("asking again for up to 300 s") == 1


async def test_an_endpoint_that_stays_away_is_given_up(tmp_path: Path) -> None:
    async with Teacher(options(f"http://{NOBODY}/v1", max_retries=0, max_outage_s=0.5), str(tmp_path)) as teacher:
        started = time.monotonic()
        with pytest.raises(TeacherError, match="cannot be reached") as caught:
            await ask(teacher, "a")
        assert time.monotonic() - started >= 0.5, "it was waited for"
        # It is imported with this file: what the client would take for that is no wait for the endpoint.
        assert isinstance(caught.value.__cause__, openai.APIConnectionError)
        assert teacher.usage.retries >= 1


@pytest.mark.parametrize("bytes_sent", [b"", b"\x00\xff nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"])
async def test_broken_connections_are_tried_again(tmp_path: Path, bytes_sent: bytes) -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(bytes_sent)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Teacher(options(f"http://{host}:{port}/v1", max_retries=2), str(tmp_path)) as teacher:
        with pytest.raises(ReplyError, match="after 2 retries"):
            await ask(teacher, "a")
    assert connections >= 3


async def test_the_servers_wait_is_honoured(tmp_path: Path) -> None:
    answers = [Answer(429, {"error": {"message": "wait"}}, {"Retry-After": "0.4"})]
    with scripted_teacher(lambda body: answers.pop() if answers else echo(body)) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            await ask(teacher, "a")
        assert server.times[1] - server.times[0] >= 0.4


async def test_a_servers_wait_is_bounded(tmp_path: Path) -> None:
    answers = [Answer(429, {"error": {"message": "wait"}}, {"Retry-After": "86400"})]
    with scripted_teacher(lambda body: answers.pop() if answers else echo(body)) as server:
        async with Teacher(options(server.url, max_retry_after_s=0.1), str(tmp_path)) as teacher:
            async with asyncio.timeout(60):
                await ask(teacher, "a")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


async def test_tokens_are_estimated_where_the_endpoint_counts_none(tmp_path: Path) -> None:
    with scripted_teacher(lambda _: Answer(200, completion("x" * 40, usage=None))) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            await ask(teacher, "y" * 20)
            assert (teacher.usage.prompt_tokens, teacher.usage.completion_tokens) == (5, 10)


async def ask_all(teacher: Teacher, count: int, concurrency: int) -> list[str]:
    async def one(number: int) -> str:
        return (await ask(teacher, number)).text

    return await map_concurrently(one, range(count), concurrency)


async def test_the_budget_stops_cleanly_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url, max_tokens=130, concurrency=4), str(tmp_path)) as teacher:
            with pytest.raises(
                BudgetError, match=r"teacher\.max_tokens = 130 tokens(.|\n)*10 of 50 items are done, 40 are left(.|\n)*raise the limit"
            ):
                await ask_all(teacher, 50, 4)
            assert teacher.usage.prompt_tokens + teacher.usage.completion_tokens == 130
        assert len(server.requests) == 10
        async with Teacher(options(server.url, max_tokens=10_000, concurrency=4), str(tmp_path)) as teacher:
            assert len(await ask_all(teacher, 50, 4)) == 50
            assert teacher.usage.cache_hits == 10
        assert len(server.requests) == 50


async def test_the_budget_in_dollars_holds_with_many_in_flight(tmp_path: Path) -> None:
    async def script(body: Body) -> str:
        await asyncio.sleep(0.01)
        return echo(body)

    with scripted_teacher(script) as server:
        limits = options(server.url, max_usd=0.5, prices={"m": Price(prompt=0.0, completion=10_000.0)}, concurrency=32)
        async with Teacher(limits, str(tmp_path)) as teacher:
            with pytest.raises(BudgetError, match=r"teacher\.max_usd = 0\.5 dollars"):
                await ask_all(teacher, 200, 32)
            assert 0.4 < teacher.usage.usd <= 0.5


async def test_the_processes_of_a_run_share_one_budget(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_teacher(echo) as server:
        monkeypatch.setenv("TUTORLOOP_RUN", "nightly")
        task = StageRun("solving")

        def used() -> float | None:
            labels = {**telemetry.task_labels(task), "limit": "max_tokens"}
            return telemetry.registry.get_sample_value("tutorloop_teacher_budget_used_ratio", labels)

        async with Teacher(options(server.url, max_tokens=130), address, task) as teacher:
            await ask_all(teacher, 8, 4)
        first = used()
        assert first is not None and 0.5 < first < 0.9
        async with Teacher(
            options(server.url, max_tokens=130, max_usd=1000.0, prices={"m": Price(prompt=1.0, completion=0.0)}), address, task
        ) as teacher:
            assert used() == first, "what the other process has spent is seen before anything is asked"
            with pytest.raises(BudgetError):
                await ask_all(teacher, 20, 4)
        last = used()
        assert last is not None and first < last <= 1
        assert len(server.requests) == 10
        monkeypatch.setenv("TUTORLOOP_RUN", "next night")
        async with Teacher(options(server.url, max_tokens=130), address) as teacher:
            assert len(await ask_all(teacher, 12, 4)) == 12


async def test_a_day_has_one_budget_for_all_runs(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_teacher(echo) as server:
        for start, run, expected in ((0, "first", 6), (100, "second", 4)):
            monkeypatch.setenv("TUTORLOOP_RUN", run)
            async with Teacher(options(server.url, max_tokens_per_day=130, max_tokens=80, concurrency=4), address) as teacher:
                limit = "max_tokens" if run == "first" else "max_tokens_per_day"
                with pytest.raises(BudgetError, match=rf"teacher\.{limit} = ") as caught:
                    await map_concurrently(lambda number: ask(teacher, number), range(start, start + 20), 4)
                assert ("midnight UTC" in str(caught.value)) is (run == "second")
                assert teacher.usage.requests == expected


async def test_what_one_that_has_left_has_spent_counts_once(address: str) -> None:
    """The log of those at work still tells of it while another one is at work, and the store has it too."""
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url), address):
            async with Teacher(options(server.url), address) as leaving:
                await ask(leaving, "a")
            async with Teacher(options(server.url), address) as later:
                assert later.spent_today.tokens == 13


async def test_processes_at_work_share_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(body: Body) -> str:
        await asyncio.sleep(0.01)
        return echo(body)

    monkeypatch.setenv("TUTORLOOP_RUN", "nightly")
    limits = {"max_tokens": 13 * 30, "concurrency": 8}
    with scripted_teacher(script) as server:
        async with (
            Teacher(options(server.url, **limits), str(tmp_path)) as one,
            Teacher(options(server.url, **limits), str(tmp_path)) as other,
        ):
            stopped = await asyncio.gather(
                map_concurrently(lambda number: ask(one, number), range(40), 8),
                map_concurrently(lambda number: ask(other, number), range(100, 140), 8),
                return_exceptions=True,
            )
        assert [type(error) for error in stopped] == [BudgetError, BudgetError]
        assert len(server.requests) == 30


async def test_one_that_was_taken_for_dead_learns_what_others_have_paid_before_it_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one saw nobody at work, and emptied what they share when it left."""
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url, max_tokens_per_day=60), str(tmp_path)) as sleeper:
            with monkeypatch.context() as silent:
                silent.setattr("components.teacher.sharing.claims.SILENCE_S", -1.0)
                async with Teacher(options(server.url), str(tmp_path)) as other:
                    for text in "abc":
                        await ask(other, text)
            assert (await ask(sleeper, "b")).cached
            assert not (await ask(sleeper, "d")).cached
            with pytest.raises(BudgetError, match="52 of"):
                await ask(sleeper, "e")
        assert len(server.requests) == 4


async def test_one_that_leaves_unheard_is_never_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its account, and what the store says of it, while what it has stored is being read."""
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url, max_tokens_per_day=76), str(tmp_path)) as sleeper:
            with monkeypatch.context() as silent:
                silent.setattr("components.teacher.sharing.claims.SILENCE_S", -1.0)
                async with Teacher(options(server.url), str(tmp_path)) as other:
                    await ask(other, "a")
                    await ask(other, "b")
                    silent.undo()
                    assert (await ask(sleeper, "a")).cached
                    assert sleeper.spent_today.tokens, "it knows of the other"
                    await ask(other, "c")
                    silent.setattr("components.teacher.sharing.claims.SILENCE_S", -1.0)
            refresh = sleeper._responses.refresh
            meanwhile: list[asyncio.Task[Reply]] = []

            async def refresh_slowly(writers: Collection[str] | None = None) -> None:
                meanwhile.append(asyncio.create_task(ask(sleeper, f"meanwhile {len(meanwhile)}")))
                await asyncio.sleep(0.1)
                await refresh(writers)

            monkeypatch.setattr(sleeper._responses, "refresh", refresh_slowly)
            assert (await ask(sleeper, "c")).cached
            assert await asyncio.gather(*meanwhile)
            assert sleeper.spent_today.tokens == 39 + 14 * len(meanwhile)


async def test_a_reply_that_is_charged_but_holds_no_text_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def script(body: Body) -> str | Answer:
        text = body["messages"][-1]["content"]
        return Answer(body=completion(None, "length")) if text == "0" else echo(body)

    monkeypatch.setenv("TUTORLOOP_RUN", "nightly")
    with scripted_teacher(script) as server:
        for _ in range(2):
            async with Teacher(options(server.url, max_tokens=30), str(tmp_path)) as teacher:
                with pytest.raises(ReplyError, match="max_reply_tokens"):
                    await ask(teacher, 0)
        async with Teacher(options(server.url, max_tokens=30), str(tmp_path)) as teacher:
            with pytest.raises(BudgetError, match="20 of teacher.max_tokens = 30"):
                await map_concurrently(lambda number: ask(teacher, number), range(1, 9), 1)


def shared_waits() -> float:
    return telemetry.registry.get_sample_value("tutorloop_teacher_shared_waits_total", telemetry.task_labels(StageRun("teacher"))) or 0.0


async def test_two_clients_of_one_store_ask_once(tmp_path: Path) -> None:
    release, before = asyncio.Event(), shared_waits()

    async def script(body: Body) -> str:
        await release.wait()
        return echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url), str(tmp_path)) as one, Teacher(options(server.url), str(tmp_path)) as other:
            both = asyncio.gather(ask(one, "a"), ask(other, "a"))
            await asyncio.to_thread(wait_until, lambda: shared_waits() == before + 1)
            server.set(release)
            assert sorted(reply.cached for reply in await both) == [False, True]
        assert len(server.requests) == 1


async def test_who_fails_lets_the_other_ask(tmp_path: Path) -> None:
    def script(body: Body) -> str | Answer:
        return Answer(400, body=b"{}") if len(server.requests) == 1 else echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url), str(tmp_path)) as one, Teacher(options(server.url), str(tmp_path)) as other:
            outcomes = await asyncio.gather(ask(one, "a"), ask(other, "a"), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {ReplyError, Reply}
        assert len(server.requests) == 2


async def test_stored_replies_cost_nothing(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            await ask_all(teacher, 5, 4)
        async with Teacher(options(server.url, max_tokens=1), str(tmp_path)) as teacher:
            assert len(await ask_all(teacher, 5, 4)) == 5


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"max_usd": 5.0}, "teacher.max_usd"),
        ({"base_url": "localhost:8000"}, "teacher.base_url"),
        ({"base_url": "https://me:hush-hush@host/v1"}, "teacher.base_url"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, change: dict[str, Any], name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Teacher(options("http://localhost/v1", **change) if "base_url" not in change else TeacherOptions(**change), str(tmp_path))
    assert caught.value.name == name
    assert "hush" not in str(caught.value)


async def test_the_offline_teachers_address_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTORLOOP_OFFLINE_TEACHER_URL", raising=False)
    with pytest.raises(TeacherError, match=r"TUTORLOOP_OFFLINE_TEACHER_URL is not set(.|\n)*tutorloop teacher"):
        async with Teacher(options("offline"), str(tmp_path)):
            pass
    with scripted_teacher(echo) as server:
        for address in (server.url, server.url.removesuffix("/v1"), server.url + "/"):
            monkeypatch.setenv("TUTORLOOP_OFFLINE_TEACHER_URL", address)
            async with Teacher(options("offline"), str(tmp_path)) as teacher:
                assert (await ask(teacher, address)).text == f"reply to {address}"


@pytest.mark.usefixtures("long_last_wait")
async def test_what_is_in_flight_at_an_interrupt_is_stored(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:

        async def interrupted() -> None:
            async with Teacher(options(server.url), str(tmp_path)) as teacher:
                asking = asyncio.create_task(ask(teacher, "a"))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                asking.cancel()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await interrupted()
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            assert (await ask(teacher, "a")).cached
        assert len(server.requests) == 1


@pytest.mark.usefixtures("long_last_wait")
async def test_after_an_interrupt_nothing_new_is_sent(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def script(body: Body) -> str | Answer:
        await release.wait()
        return Answer(500, body=b"{}") if body["messages"][-1]["content"] == "0" else echo(body)

    with scripted_teacher(script) as server:

        async def interrupted() -> None:
            async with Teacher(options(server.url, concurrency=4), str(tmp_path)) as teacher:
                asking = asyncio.gather(*(ask(teacher, number) for number in range(12)))
                await asyncio.to_thread(wait_until, lambda: len(server.requests) == 4)
                asking.cancel()
                server.set(release)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await interrupted()
        assert len(server.requests) == 4, "neither those that waited nor the one that failed"
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            assert [(await ask(teacher, number)).cached for number in range(1, 4)] == [True] * 3


async def test_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
    caplog.set_level("DEBUG")
    answers = [Answer(500, {"error": {"message": f"your key {KEY} is fine"}}), Answer(400, {"error": {"message": KEY}})]
    errors = []
    with scripted_teacher(lambda body: answers.pop() if answers else echo(body)) as server:
        async with Teacher(options(server.url, max_retries=0), str(tmp_path / "store")) as teacher:
            for text in ("a", "b", "c"):
                try:
                    await ask(teacher, text)
                except TeacherError as error:
                    errors += [str(error), repr(error)]
        assert server.keys == {f"Bearer {KEY}"}
    assert len(errors) == 4
    written = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert b"reply to c" in written
    captured = capfd.readouterr()
    for text in (
        *errors,
        written.decode(errors="replace"),
        captured.out,
        captured.err,
        caplog.text,
        generate_latest(telemetry.registry).decode(),
    ):
        assert KEY not in text


async def test_metrics_tell_what_happened(tmp_path: Path) -> None:
    task = StageRun("judging", f"judging {os.getpid()}")
    labels = telemetry.task_labels(task)
    answers = [Answer(503)]
    with scripted_teacher(lambda body: answers.pop() if answers else echo(body)) as server:
        limits = {"max_usd": 1.0, "max_usd_per_day": 2.0, "max_tokens": 100, "max_tokens_per_day": 200}
        prices = {"m": Price(prompt=1000.0, completion=100_000.0)}
        async with Teacher(options(server.url, prices=prices, **limits), str(tmp_path), task) as teacher:
            await ask(teacher, "a")
            await ask(teacher, "a")

    def value(name: str, **more: str) -> float | None:
        return telemetry.registry.get_sample_value(f"tutorloop_teacher_{name}", labels | more)

    assert value("requests_total", outcome="answered") == 1
    assert value("requests_total", outcome="503") == 1
    assert value("request_seconds_count") == 2
    assert value("retries_total") == 1
    assert value("cache_hits_total") == 1
    assert value("in_flight") == 0
    assert value("tokens_total", kind="completion") == 3
    assert value("usd_total") == pytest.approx(0.31), "10 tokens of the prompt, 3 of the reply"
    left = {limit: value("budget_left", limit=limit) for limit in limits}
    assert left == pytest.approx({"max_usd": 0.69, "max_usd_per_day": 1.69, "max_tokens": 87, "max_tokens_per_day": 187})
    assert value("budget_used_ratio", limit="max_usd") == pytest.approx(0.31)
