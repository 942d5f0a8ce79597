"""What is wrong with the teacher is known before any work starts, with what to change."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from components.core.errors import TeacherError
from components.offline_teacher.background import start_background
from components.teacher.options import TeacherOptions
from components.teacher.preflight import preflight
from tests.support.ports import NOBODY
from tests.support.scripted_teacher import Answer, Body, Script, completion, scripted_teacher

KEY = "sk-planted-77aa88bb99"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.teacher.preflight.WAITS_S", (0.01, 0.01, 0.01))


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": url, "model": "m", "timeout_s": 120.0, **more})


def refuse(status: int, message: str, code: str | None = None) -> Answer:
    return Answer(status, {"error": {"message": message, "code": code}})


@pytest.mark.parametrize(
    ("models", "answer"),
    [
        (["m"], "#### 7"),
        (["another"], "#### 7"),
        ([], "#### 7"),
        (refuse(404, "no such path"), "#### 7"),
        (Answer(200, b"not json"), "#### 7"),
        (Answer(200, {"data": "?"}), "#### 7"),
        (["m"], Answer(200, completion("", "length"))),
        (["m"], refuse(429, "busy")),
    ],
    ids=["listed", "not listed but answers", "lists nothing", "no list", "broken list", "odd list", "thinks too long", "busy"],
)
async def test_an_endpoint_that_answers_is_accepted(models: Answer | list[str], answer: str | Answer) -> None:
    with scripted_teacher(lambda _: answer, models) as server:
        await preflight(options(server.url))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("models", "answer", "message"),
    [
        (refuse(401, f"wrong key {KEY}"), "x", r"HTTP 401(.|\n)*set TUTORLOOP_TEACHER_API_KEY"),
        (["m"], refuse(401, f"wrong key {KEY}"), r"HTTP 401(.|\n)*set TUTORLOOP_TEACHER_API_KEY"),
        (["m"], refuse(403, "not this model"), r"HTTP 403: not this model(.|\n)*set TUTORLOOP_TEACHER_API_KEY"),
        (["gpt-x", "gpt-y"], refuse(404, "unknown model"), r"does not offer the model 'm'(.|\n)*one of: gpt-x, gpt-y"),
        (["gpt-x"], refuse(400, "unknown model"), r"does not offer the model 'm'"),
        (refuse(404, "no"), refuse(404, "no"), r"teacher\.model = 'm'(.|\n)*teacher\.base_url"),
        (Answer(200, b"<html>"), Answer(200, b"<html>"), r"no chat completion(.|\n)*teacher\.base_url"),
        (["m"], Answer(200, b'{"answer": 7}'), r"no chat completion(.|\n)*teacher\.base_url"),
        (["m"], refuse(429, "pay first", "insufficient_quota"), r"pay first(.|\n)*no credit"),
        (["m"], refuse(500, "out of memory"), r"HTTP 500: out of memory(.|\n)*log"),
        (["m"], refuse(400, "unknown parameter seed"), "HTTP 400: unknown parameter seed"),
        ([], refuse(422, "no"), "HTTP 422: no"),
    ],
)
async def test_what_is_wrong_is_told(
    monkeypatch: pytest.MonkeyPatch, models: Answer | list[str], answer: str | Answer, message: str
) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
    with scripted_teacher(lambda _: answer, models) as server, pytest.raises(TeacherError, match=message) as caught:
        await preflight(options(server.url))
    assert KEY not in str(caught.value)


async def test_an_endpoint_that_is_not_there_is_told() -> None:
    with pytest.raises(TeacherError, match=rf"{re.escape(NOBODY)}/v1 cannot be reached(.|\n)*teacher\.base_url"):
        await preflight(options(f"http://{NOBODY}/v1"))


async def test_a_connection_that_closes_after_the_list_is_no_end() -> None:
    chats = 0

    async def serve(request: web.Request) -> web.StreamResponse:
        nonlocal chats
        if request.method == "GET":
            return web.json_response({}, status=500)
        chats += 1
        if chats == 1 and request.transport is not None:
            request.transport.abort()
        return web.json_response(completion("7"))

    app = web.Application()
    app.router.add_route("*", "/v1/{path:.*}", serve)
    async with TestServer(app) as server:
        await preflight(options(str(server.make_url("/v1"))))
    assert chats == 2


@pytest.mark.parametrize(
    ("first", "others"),
    [
        ([refuse(500, "a hiccup")], "7"),
        ([refuse(503, "starting")] * 3, "7"),
        ([refuse(502, "starting")] * 3, Answer(200, completion("", "length"))),
        ([Answer(200, b"<html>")], "7"),
        # The fifth is one with other options: it is not these that help.
        ([refuse(500, "a long hiccup")] * 4, "7"),
        ([refuse(500, "a long hiccup")] * 4, Answer(200, completion("", "length"))),
    ],
)
async def test_a_failure_that_passes_refuses_no_endpoint(first: list[Answer], others: str | Answer) -> None:
    answers = iter(first)
    with scripted_teacher(lambda _: next(answers, others)) as server:
        await preflight(options(server.url))
        assert len(server.requests) <= len(first) + 2


async def test_a_timeout_that_passes_refuses_no_endpoint() -> None:
    async def script(body: Body) -> str:
        if len(server.requests) == 1:
            await asyncio.sleep(60)
        return "7"

    with scripted_teacher(script) as server:
        # The list of models has the same time, and gets no second chance.
        await preflight(options(server.url, timeout_s=8.0))
        assert len(server.requests) > 1


async def test_the_probe_is_small_and_uses_the_options() -> None:
    def script(body: Body) -> str | Answer:
        wrong = "seed" in body or "max_tokens" in body
        return refuse(400, "unknown parameter") if wrong else "#### 7"

    with scripted_teacher(script) as server:
        await preflight(options(server.url, send_seed=False, reply_limit_name="max_completion_tokens"))
        assert server.requests[0]["max_completion_tokens"] <= 64


async def test_the_offline_teacher_passes_and_checks_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with start_background(environment={"TUTORLOOP_OFFLINE_TEACHER_KEY": KEY}) as teacher:
        monkeypatch.setenv("TUTORLOOP_OFFLINE_TEACHER_URL", teacher.url)
        monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
        await preflight(options("offline"))
        monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", "another-key-entirely")
        with pytest.raises(TeacherError, match="TUTORLOOP_TEACHER_API_KEY"):
            await preflight(options("offline"))


def asks_for(wanted: Body, unwanted: tuple[str, ...] = (), status: int = 400) -> Script:
    """A server that refuses what has not these fields with these values, or has one of the others."""

    def script(body: Body) -> str | Answer:
        fits = wanted.items() <= body.items() and not set(unwanted) & set(body)
        return "#### 7" if fits else refuse(status, f"no, says the bearer of {KEY}")

    return script


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422, 500])
@pytest.mark.parametrize(
    ("script", "more", "changes"),
    [
        (({}, ("seed",)), {}, {"send_seed": False}),
        (({}, ("max_tokens",)), {}, {"reply_limit_name": "max_completion_tokens"}),
        (({}, ("max_completion_tokens",)), {"reply_limit_name": "max_completion_tokens"}, {"reply_limit_name": "max_tokens"}),
        (({"stream": True}, ()), {}, {"stream": True}),
        (({}, ("stream",)), {"stream": True}, {"stream": False}),
        (({}, ("stream_options",)), {"stream": True}, {"stream_usage": False}),
        (({"stream": True}, ("stream_options",)), {}, {"stream": True, "stream_usage": False}),
        (({"max_completion_tokens": 64}, ("seed",)), {}, {"send_seed": False, "reply_limit_name": "max_completion_tokens"}),
        (
            ({"stream": True}, ("seed", "max_tokens")),
            {},
            {"send_seed": False, "reply_limit_name": "max_completion_tokens", "stream": True},
        ),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
async def test_the_option_that_a_refused_request_needs_is_named(
    monkeypatch: pytest.MonkeyPatch, script: tuple[Body, tuple[str, ...]], more: dict[str, Any], changes: dict[str, Any], status: int
) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
    with scripted_teacher(asks_for(*script, status=status), ["other"]) as server:
        with pytest.raises(TeacherError) as caught:
            await preflight(options(server.url, **more))
        assert f"HTTP {status}: no, says the bearer of [redacted]" in caught.value.message
        said = caught.value.hint.replace(" and ", "; ").split("; ")
        assert said == [f"set teacher.{name}: {str(value).lower()}" for name, value in changes.items()]
        assert len(server.requests) <= 16
        await preflight(options(server.url, **more | changes))


async def test_no_option_is_named_when_none_helps_or_the_endpoint_goes_away() -> None:
    answers = iter([refuse(400, "first"), refuse(429, "busy"), *[Answer(body=completion("7"))] * 20])
    with scripted_teacher(lambda _: next(answers)) as server, pytest.raises(TeacherError, match="HTTP 400: first") as caught:
        await preflight(options(server.url))
    assert "set teacher" not in caught.value.hint
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "models", "more", "told"),
    [
        (completion("7"), ["m"], {}, ""),
        (completion("7", usage=None), ["m"], {}, "does not tell the tokens of its replies: they are estimated"),
        (completion("7", usage=None), ["m"], {"max_tokens": 9}, "estimated .*; teacher.max_tokens then rest on estimates"),
        (
            completion("7", usage=None),
            ["m"],
            {"max_tokens": 9, "max_tokens_per_day": 9},
            "; teacher.max_tokens and teacher.max_tokens_per_day then",
        ),
        (completion("7", usage=None), ["m"], {"stream": True, "stream_usage": False}, "set teacher.stream_usage: true to ask"),
        (completion("7"), ["x", "a"], {}, "answers for the model 'm', but lists only: a, x"),
        (completion("", "length"), ["m"], {}, "thinks before it writes: .*teacher.max_reply_tokens = 2048"),
        (completion("<think>well", "length"), ["m"], {}, "thinks before it writes"),
        (completion(""), ["m"], {}, "did not answer the preflight's question, the run will ask again: .*empty text"),
    ],
)
async def test_what_is_no_error_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], answer: Body, models: list[str], more: dict[str, Any], told: str
) -> None:
    with scripted_teacher(lambda _: Answer(body=answer), models) as server:
        await preflight(options(server.url, **more))
    said = capsys.readouterr().out
    assert re.search(told, said)
    assert len(said.splitlines()) == bool(told)


async def test_thinking_that_leaves_no_room_for_a_text_is_an_error() -> None:
    with (
        scripted_teacher(lambda _: Answer(body=completion("", "length"))) as server,
        pytest.raises(TeacherError, match=r"uses up a reply's 20 tokens(.|\n)*raise teacher\.max_reply_tokens"),
    ):
        await preflight(options(server.url, max_reply_tokens=20))
