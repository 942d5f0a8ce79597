"""The client and the agents against OpenAI-compatible servers that others wrote: what they differ in is in ``docs/servers.md``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.errors import TeacherError
from components.teacher.agents import check_solvable, rewrite_once
from components.teacher.client import Reply, Teacher
from components.teacher.options import TeacherOptions
from components.teacher.preflight import preflight
from tests.servers.servers import KEY, NAMES, RealServer, ask, running
from tests.support.ports import NOBODY

PROBLEM = "Tom has 3 apples and buys 4 more. How many has he?"


@pytest.fixture(scope="module", params=NAMES)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with running(request.param, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)


def options(server: RealServer, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": server.url, "model": server.model, "max_retries": 0, "max_reply_tokens": 8, **more})


async def chat(server: RealServer, folder: Path, count: int = 1, **more: Any) -> tuple[list[Reply], Teacher]:
    """Several requests at once."""
    chats = [[{"role": "system", "content": "You count."}, {"role": "user", "content": f"What is {i} + 1?"}] for i in range(count)]
    async with Teacher(options(server, **more), str(folder)) as teacher:
        return list(await asyncio.gather(*(teacher.chat(messages, temperature=0.0) for messages in chats))), teacher


@pytest.mark.parametrize("stream", [False, True])
async def test_the_preflight_passes(server: RealServer, capsys: pytest.CaptureFixture[str], stream: bool) -> None:
    await preflight(options(server, stream=stream))
    assert capsys.readouterr().out == ""


async def test_replies_to_several_requests_at_once_are_stored(server: RealServer, tmp_path: Path) -> None:
    replies, teacher = await chat(server, tmp_path, 5)
    assert all(reply.text for reply in replies)
    assert {reply.finish_reason for reply in replies} <= {"length", "stop"}
    assert (teacher.usage.requests, teacher.usage.failures) == (5, 0)
    assert all(reply.prompt_tokens >= 4 and 1 <= reply.completion_tokens <= 8 for reply in replies)
    again, teacher = await chat(server, tmp_path, 5, base_url=f"http://{NOBODY}/v1")
    assert [reply.text for reply in again] == [reply.text for reply in replies]
    assert (teacher.usage.requests, teacher.usage.cache_hits) == (0, 5)


async def test_streamed_or_whole_it_is_the_same_reply(server: RealServer, tmp_path: Path) -> None:
    whole, _ = await chat(server, tmp_path / "whole")
    streamed, _ = await chat(server, tmp_path / "streamed", stream=True)
    assert streamed == whole


async def test_tokens_are_estimated_where_a_stream_does_not_tell_them(server: RealServer, tmp_path: Path) -> None:
    (reply,), _ = await chat(server, tmp_path, stream=True, stream_usage=False)
    assert reply.text
    assert reply.prompt_tokens >= 4
    assert 1 <= reply.completion_tokens <= 20


async def test_agents_hold_their_conversations(server: RealServer, tmp_path: Path) -> None:
    async with Teacher(options(server), str(tmp_path)) as teacher:
        rewrite = await rewrite_once(teacher, PROBLEM, "make it harder", 0.7)
        assert rewrite.suggestions
        assert rewrite.problem
        assert await check_solvable(teacher, PROBLEM)
        assert teacher.usage.requests == 3


async def test_a_wrong_model_name(server: RealServer, capsys: pytest.CaptureFixture[str]) -> None:
    if server.name in ("llama.cpp", "llama-cpp-python"):
        await preflight(options(server, model="unheard-of"))
        assert f"answers for the model 'unheard-of', but lists only: {server.model}" in capsys.readouterr().out
        return
    with pytest.raises(TeacherError, match=r"HTTP 400: .*unheard-of(.|\n)*teacher\.model"):
        await preflight(options(server, model="unheard-of"))


async def test_a_wrong_key_or_address(server: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TeacherError, match=r"HTTP 404(.|\n)*teacher\.base_url"):
        await preflight(options(server, base_url=server.url.replace("/v1", "/v7")))
    if server.name == "transformers":
        return
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", "sk-another-key-entirely")
    with pytest.raises(TeacherError, match=r"HTTP 401(.|\n)*TUTORLOOP_TEACHER_API_KEY") as caught:
        await preflight(options(server))
    assert "another-key" not in str(caught.value)


FACTS: dict[str, dict[str, object]] = {
    "llama.cpp": {"list": 200, "n": 2, "seed": True, "stream usage": "when asked", "[DONE]": True, "unknown": 200, "users": 200},
    "transformers": {"list": 500, "n": 1, "seed": True, "stream usage": "always", "[DONE]": False, "unknown": 422, "users": 200},
}
"""What the table of ``docs/servers.md`` says."""


def test_the_table_of_differences_is_true(server: RealServer) -> None:
    if server.name not in FACTS:
        pytest.skip(f"nobody has written down yet what {server.name} does")
    user = {"role": "user", "content": PROBLEM}

    def said(**more: Any) -> tuple[int, bytes]:
        return ask(server, "/chat/completions", {"model": server.model, "messages": [user], "max_tokens": 6, "temperature": 0.0, **more})

    def texts(**more: Any) -> list[str]:
        return [choice["message"]["content"] for choice in msgspec.json.decode(said(temperature=1.0, **more)[1])["choices"]]

    plain, asked = said(stream=True)[1], said(stream=True, stream_options={"include_usage": True})[1]
    assert b'"usage":{' in asked
    facts = {
        "list": ask(server, "/models")[0],
        "n": len(texts(n=2)),
        "seed": texts(seed=5) == texts(seed=5),
        "stream usage": "always" if b'"usage":{' in plain else "when asked",
        "[DONE]": b"data: [DONE]" in plain,
        "unknown": said(unheard_of=1)[0],
        "users": said(messages=[user, user])[0],
    }
    assert facts == FACTS[server.name]
