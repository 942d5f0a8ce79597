"""What is wrong with the teacher is known before any work starts, with what to change."""

from __future__ import annotations

from typing import Any

import pytest

from components.core.errors import TeacherError
from components.offline_teacher.background import start_background
from components.teacher.options import TeacherOptions
from components.teacher.preflight import preflight
from tests.scripted_teacher import Answer, Body, completion, scripted_teacher

KEY = "sk-planted-77aa88bb99"


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": url, "model": "m", "timeout_s": 5.0, **more})


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
        (["m"], refuse(429, "pay first", "insufficient_quota"), r"pay first(.|\n)*no credit"),
        (["m"], refuse(500, "out of memory"), r"HTTP 500: out of memory(.|\n)*log"),
        (["m"], refuse(400, "unknown parameter seed"), "HTTP 400: unknown parameter seed"),
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
    with pytest.raises(TeacherError, match=r"127\.0\.0\.1:9/v1 cannot be reached(.|\n)*teacher\.base_url"):
        await preflight(options("http://127.0.0.1:9/v1"))


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
