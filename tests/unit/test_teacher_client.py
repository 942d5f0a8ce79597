"""The teacher's client against a real HTTP server: never twice, never stuck, never beyond the budget, never leaking the key."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from components.core import telemetry
from components.core.errors import BudgetError, ParameterError, TeacherError
from components.core.stage import StageRun
from components.teacher.client import Reply, ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.endpoint import retry_after
from components.teacher.options import TeacherOptions
from tests.scripted_teacher import Answer, Body, completion, scripted_teacher

KEY = "sk-planted-5c1d0f7a9b"


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(
        **{"base_url": url, "model": "m", "backoff_s": 0.01, "max_backoff_s": 0.05, "max_outage_s": 0.0, "timeout_s": 10.0, **more}
    )


def message(text: object) -> list[dict[str, str]]:
    return [{"role": "user", "content": str(text)}]


async def ask(teacher: Teacher, text: object, **more: Any) -> Reply:
    return await teacher.chat(message(text), **{"temperature": 0.0, **more})


def echo(body: Body) -> str:
    return f"reply to {body['messages'][-1]['content']}"


async def test_a_reply_and_what_it_cost(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        prices = options(server.url, usd_per_million_prompt_tokens=1000.0, usd_per_million_completion_tokens=100_000.0)
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
    rest_done = threading.Event()

    async def script(body: Body) -> str:
        if body["messages"][0]["content"] == "0":
            await asyncio.to_thread(rest_done.wait, 10)
            assert rest_done.is_set(), "the window waited for its slowest request"
        return echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url, concurrency=4), str(tmp_path)) as teacher:
            seen: list[int] = []

            def on_done(done: int, total: int) -> None:
                seen.append(done)
                if done == total - 1:
                    rest_done.set()

            async def one(number: int) -> str:
                return (await ask(teacher, number)).text

            texts = await map_concurrently(one, range(40), 4, on_done)
        assert texts == [f"reply to {number}" for number in range(40)]
        assert seen == list(range(1, 41))
        assert server.most_in_flight <= 4


async def test_the_concurrency_limit_holds_for_any_number_of_callers(tmp_path: Path) -> None:
    async def script(body: Body) -> str:
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
    release = threading.Event()

    async def script(body: Body) -> str:
        if not release.is_set():
            release.set()
            await asyncio.sleep(60)
        return echo(body)

    with scripted_teacher(script) as server:
        async with Teacher(options(server.url, timeout_s=0.3), str(tmp_path)) as teacher:
            assert (await ask(teacher, "a")).text == "reply to a"
            assert teacher.usage.retries == 1


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
            async with asyncio.timeout(10):
                await ask(teacher, "a")
    server.close()


async def test_an_endpoint_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    async with Teacher(options("http://127.0.0.1:9/v1", max_retries=1, max_failures_in_row=1), str(tmp_path)) as teacher:
        with pytest.raises(TeacherError, match=r"127\.0\.0\.1:9/v1 cannot be reached(.|\n)*teacher\.base_url"):
            await ask(teacher, "a")


async def test_an_endpoint_that_is_away_for_a_while_is_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    patient = options(f"http://127.0.0.1:{port}/v1", max_retries=1, max_outage_s=30.0)
    async with Teacher(patient, str(tmp_path)) as teacher:
        asking = asyncio.gather(*(ask(teacher, number) for number in range(5)))
        await asyncio.sleep(1.0)
        assert not asking.done(), "a second has room for many times max_retries"
        with scripted_teacher(echo, port=port) as server:
            replies = await asking
            assert [reply.text for reply in replies] == [f"reply to {number}" for number in range(5)]
            assert len(server.requests) == 5
            await ask(teacher, "later")
    assert capfd.readouterr().out.count("asking again for up to 30 s") == 1


async def test_an_endpoint_that_stays_away_is_given_up(tmp_path: Path) -> None:
    async with Teacher(options("http://127.0.0.1:9/v1", max_retries=0, max_outage_s=0.5), str(tmp_path)) as teacher:
        with pytest.raises(TeacherError, match="cannot be reached"):
            await ask(teacher, "a")
        assert teacher.usage.retries > 3


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
        assert 0.4 <= server.times[1] - server.times[0] < 5


async def test_a_servers_wait_is_bounded(tmp_path: Path) -> None:
    answers = [Answer(429, {"error": {"message": "wait"}}, {"Retry-After": "86400"})]
    with scripted_teacher(lambda body: answers.pop() if answers else echo(body)) as server:
        async with Teacher(options(server.url, max_retry_after_s=0.1), str(tmp_path)) as teacher:
            async with asyncio.timeout(5):
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
        limits = options(server.url, max_usd=0.5, usd_per_million_completion_tokens=10_000.0, concurrency=32)
        async with Teacher(limits, str(tmp_path)) as teacher:
            with pytest.raises(BudgetError, match=r"teacher\.max_usd = 0\.5 dollars"):
                await ask_all(teacher, 200, 32)
            assert 0.4 < teacher.usage.usd <= 0.5


async def test_the_processes_of_a_run_share_one_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted_teacher(echo) as server:
        monkeypatch.setenv("TUTORLOOP_RUN", "nightly")
        task = StageRun("solving")

        def used() -> float | None:
            return telemetry.registry.get_sample_value("tutorloop_teacher_budget_used_ratio", telemetry.task_labels(task))

        async with Teacher(options(server.url, max_tokens=130), str(tmp_path), task) as teacher:
            await ask_all(teacher, 8, 4)
        first = used()
        assert first is not None and 0.5 < first < 0.9
        async with Teacher(
            options(server.url, max_tokens=130, max_usd=1000.0, usd_per_million_prompt_tokens=1.0), str(tmp_path), task
        ) as teacher:
            assert used() == first, "what the other process has spent is seen before anything is asked"
            with pytest.raises(BudgetError):
                await ask_all(teacher, 20, 4)
        last = used()
        assert last is not None and first < last <= 1
        assert len(server.requests) == 10
        monkeypatch.setenv("TUTORLOOP_RUN", "next night")
        async with Teacher(options(server.url, max_tokens=130), str(tmp_path)) as teacher:
            assert len(await ask_all(teacher, 12, 4)) == 12


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
    for text in (*errors, written.decode(), captured.out, captured.err, caplog.text, generate_latest(telemetry.registry).decode()):
        assert KEY not in text


async def test_metrics_tell_what_happened(tmp_path: Path) -> None:
    task = StageRun("judging", f"judging {os.getpid()}")
    labels = telemetry.task_labels(task)
    answers = [Answer(503)]
    with scripted_teacher(lambda body: answers.pop() if answers else echo(body)) as server:
        async with Teacher(options(server.url), str(tmp_path), task) as teacher:
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
