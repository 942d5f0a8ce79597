"""The offline teacher as a server: protocol, faults, statistics, key, child process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from aiohttp.test_utils import TestServer

from components.core.errors import ParameterError, TeacherError
from components.offline_teacher.answer_key import AnswerKey
from components.offline_teacher.background import start_background
from components.offline_teacher.faults import HEADER, FaultSource
from components.offline_teacher.knowledge import Knowledge
from components.offline_teacher.options import FaultPlan, OfflineTeacherOptions
from components.offline_teacher.server import KEY_VARIABLE, create_app
from components.teacher.prompts import load_prompt, sections

QUESTION = "Ana has 3 boxes of 4 pens. Then she finds 5 more. How many pens does Ana have now?"
SOLUTION = "First 3 * 4 = 12. So 12 + 5 = 17. #### 17"
Answer = tuple[int, bytes, Any]


def body(question: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"model": "any", "messages": load_prompt("solve").messages(sections(problem=question)), "temperature": 0.0, **more}


class Client:
    """Raw requests to a test server."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self.session, self.root = session, root

    async def post(self, path: str, data: Any, headers: dict[str, str] | None = None) -> Answer:
        raw = data if isinstance(data, bytes) else msgspec.json.encode(data)
        async with self.session.post(self.root + path, data=raw, headers=headers) as response:
            return response.status, await response.read(), response.headers

    async def chat(self, data: Any = None, headers: dict[str, str] | None = None) -> Answer:
        return await self.post("/v1/chat/completions", data or body(), headers)

    async def get(self, path: str) -> Any:
        async with self.session.get(self.root + path) as response:
            return msgspec.json.decode(await response.read())


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Client]:
    server = TestServer(create_app(OfflineTeacherOptions(**options)))
    await server.start_server()
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(session, str(server.make_url("")).rstrip("/"))
    finally:
        await server.close()


async def test_openai_client_plain_streamed_and_several() -> None:
    async with serving() as client, openai.AsyncOpenAI(base_url=client.root + "/v1", api_key="any", max_retries=0) as api:
        plain = await api.chat.completions.create(**body())
        assert plain.choices[0].message.content == SOLUTION
        assert plain.choices[0].finish_reason == "stop"
        assert plain.usage is not None
        assert plain.usage.completion_tokens == -(-len(SOLUTION) // 4)
        assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
        pieces, usage = [], None
        async for chunk in await api.chat.completions.create(**body(), stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        assert "".join(pieces) == SOLUTION
        assert len(pieces) > 5
        assert usage == plain.usage
        several = await api.chat.completions.create(**body() | {"temperature": 0.7}, n=8)
        assert [choice.index for choice in several.choices] == list(range(8))
        assert len({choice.message.content for choice in several.choices}) > 1
        short = await api.chat.completions.create(**body(), max_tokens=2)
        assert short.choices[0].finish_reason == "length"
        assert short.choices[0].message.content == SOLUTION[:8]
        assert [model.id async for model in api.models.list()] == ["offline-teacher"]


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"messages": []}', b'{"messages": [{"content": "x"}]}', msgspec.json.encode(body(n=0))])
async def test_bad_requests_are_named(data: bytes) -> None:
    async with serving() as client:
        status, raw, _ = await client.chat(data)
        assert status == 400
        assert msgspec.json.decode(raw)["error"]["type"] == "invalid_request_error"


async def test_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "right")
    async with serving() as client:
        for headers, expected in ((None, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Bearer right"}, 200)):
            assert (await client.chat(headers=headers))[0] == expected
        assert (await client.get("/v1/models"))["error"]["code"] == "invalid_api_key"
        assert (await client.get("/admin/stats"))["paid"] == 1


async def test_statistics_tell_what_was_paid_twice() -> None:
    async with serving() as client:
        await client.chat()
        await client.chat(b" " + msgspec.json.encode(body(stream=True)))
        await client.chat(body(seed=1))
        await client.chat({"model": "any", "messages": load_prompt("judge").messages(sections(problem=QUESTION))})
        await client.chat(headers={HEADER: '{"http_500_rate": 1}'})
        stats = await client.get("/admin/stats")
    assert stats["received"] == 5
    assert stats["paid_by_task"] == {"solve": 3, "judge": 1}
    assert stats["distinct"] == 3
    assert stats["duplicates"] == 1
    assert stats["faults"] == {"http_500": 1}
    assert stats["completion_tokens"] > 0


def _is_500(answer: Answer) -> bool:
    return answer[0] == 500 and msgspec.json.decode(answer[1])["error"]["type"] == "server_error"


def _is_429(answer: Answer) -> bool:
    return (
        answer[0] == 429 and answer[2]["Retry-After"] == "2.5" and msgspec.json.decode(answer[1])["error"]["code"] == "rate_limit_exceeded"
    )


def _is_garbage(answer: Answer) -> bool:
    return answer[0] == 200 and answer[1].startswith(b"<html>")


def _is_sloppy(answer: Answer) -> bool:
    return answer[0] == 200 and "17" in (text := msgspec.json.decode(answer[1])["choices"][0]["message"]["content"]) and text != SOLUTION


@pytest.mark.parametrize(
    ("plan", "seen"),
    [
        ({"http_500_rate": 1.0}, _is_500),
        ({"http_429_rate": 1.0, "retry_after_s": 2.5}, _is_429),
        ({"garbage_json_rate": 1.0}, _is_garbage),
        ({"sloppy_rate": 1.0}, _is_sloppy),
    ],
)
@pytest.mark.parametrize("way", ["options", "admin", "header"])
async def test_faults_by_every_way(plan: dict[str, float], seen: Callable[[Answer], bool], way: str) -> None:
    async with serving(**{"faults": msgspec.convert(plan, FaultPlan)} if way == "options" else {}) as client:
        if way == "admin":
            assert (await client.post("/admin/faults", plan))[0] == 200
        headers = {HEADER: msgspec.json.encode(plan).decode()} if way == "header" else None
        assert seen(await client.chat(headers=headers))
        assert (await client.post("/admin/faults", dict.fromkeys(plan, 0.0)))[0] == 200
        status, raw, _ = await client.chat()
        assert (status, msgspec.json.decode(raw)["choices"][0]["message"]["content"]) == (200, SOLUTION)


@pytest.mark.parametrize("plan", [{"truncated_rate": 1.0}, {"down_s": 60.0}])
async def test_faults_that_break_the_connection(plan: dict[str, float]) -> None:
    async with serving() as client:
        await client.post("/admin/faults", plan)
        with pytest.raises(aiohttp.ClientError):
            await client.chat()
        assert (await client.get("/admin/stats"))["paid"] == 0
        await client.post("/admin/faults", {"truncated_rate": 0.0, "down_s": 0.0})
        assert (await client.chat())[0] == 200


async def test_latency_delays_but_does_not_block() -> None:
    async with serving(faults=FaultPlan(latency_s=0.3)) as client:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await client.chat()
        assert loop.time() - start >= 0.3
        await client.post("/admin/faults", {"latency_s": 500.0})
        held = [asyncio.create_task(client.chat(body(seed=seed))) for seed in range(8)]
        async with asyncio.timeout(120):
            while (await client.get("/admin/stats"))["most_in_flight"] < 8:
                pass
        assert not any(task.done() for task in held)
        for task in held:
            task.cancel()


@pytest.mark.parametrize("plan", [{"http_500_rate": 2.0}, {"unknown": 1}, {"down_s": "soon"}])
async def test_wrong_fault_plans_are_refused(plan: dict[str, Any]) -> None:
    async with serving() as client:
        status, raw, _ = await client.post("/admin/faults", plan)
        assert status == 400
        assert next(iter(plan)) in msgspec.json.decode(raw)["error"]["message"]
        assert (await client.chat())[0] == 200


async def test_wrong_fault_header_is_refused() -> None:
    async with serving() as client:
        assert (await client.chat(headers={HEADER: "often"}))[0] == 400


def _source(**plan: Any) -> tuple[FaultSource, list[float]]:
    now = [0.0]
    return FaultSource(FaultPlan(**plan), Knowledge(OfflineTeacherOptions(), AnswerKey()), lambda: now[0]), now


def test_requests_per_minute_is_a_sliding_window() -> None:
    source, now = _source(requests_per_minute=2)
    assert [source.next("a").kind, source.next("b").kind] == ["none", "none"]
    now[0] = 20.0
    refused = source.next("c")
    assert (refused.kind, refused.retry_after_s) == ("http_429", 40.0)
    now[0] = 60.0
    assert source.next("c").kind == "none"


def test_outage_ends_by_itself() -> None:
    source, now = _source()
    source.change({"down_s": 5})
    assert source.down
    assert source.next("a").kind == "down"
    now[0] = 5.1
    assert source.next("a").kind == "none"


def test_faults_repeat_per_request_and_vary_between_attempts() -> None:
    plan = {"http_500_rate": 0.3, "latency_s": 0.1, "latency_sigma": 1.0}
    first, second = _source(**plan)[0], _source(**plan)[0]
    digests = [str(number) for number in range(400)]
    forward = {digest: [first.next(digest) for _ in range(3)] for digest in digests}
    backward = {digest: [second.next(digest) for _ in range(3)] for digest in reversed(digests)}
    assert forward == backward
    kinds = [fault.kind for faults in forward.values() for fault in faults]
    assert 0.25 < kinds.count("http_500") / len(kinds) < 0.35
    assert any(len({fault.kind for fault in faults}) == 2 for faults in forward.values())
    delays = sorted(fault.delay_s for faults in forward.values() for fault in faults)
    assert 0.08 < delays[600] < 0.12
    assert delays[-12] > 0.5
    with pytest.raises(ParameterError):
        first.change({"http_500_rate": -1})


def test_background_child_serves_and_ends() -> None:
    with start_background(OfflineTeacherOptions(error_rate=0.0), {KEY_VARIABLE: "secret"}) as teacher:
        assert teacher.url.startswith("http://127.0.0.1:")
        with openai.OpenAI(base_url=teacher.url, api_key="secret", max_retries=0) as api:
            assert api.chat.completions.create(**body()).choices[0].message.content == SOLUTION
        assert teacher.set_faults(latency_s=0.0)["latency_s"] == 0
        assert teacher.stats()["paid"] == 1
    with pytest.raises(ProcessLookupError):
        os.kill(teacher.process_id, 0)


def test_background_asks_again_when_the_first_health_check_is_not_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[OSError] = [TimeoutError("timed out"), ConnectionResetError(), urllib.error.URLError("refused")]

    def open_at_last(*arguments: Any, **more: Any) -> Any:
        if waits:
            raise waits.pop(0)
        return urlopen(*arguments, **more)

    urlopen = urllib.request.urlopen
    monkeypatch.setattr(urllib.request, "urlopen", open_at_last)
    with start_background() as teacher:
        assert teacher.stats()["paid"] == 0
    assert waits == []


def test_background_says_why_it_did_not_start() -> None:
    options = OfflineTeacherOptions(answer_key=("no/such/file.jsonl",))
    with pytest.raises(TeacherError, match=r"did not start.*file\.jsonl"), start_background(options):
        pass


def test_child_ends_with_its_parent() -> None:
    program = (
        "from components.offline_teacher.background import start_background\n"
        "with start_background() as teacher:\n    print(teacher.process_id, flush=True)\n    input()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    watch = os.pidfd_open(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    # A pidfd becomes readable when its process ends.
    poll = __import__("select").poll()
    poll.register(watch)
    assert poll.poll(120_000)
    os.close(watch)
