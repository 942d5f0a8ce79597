"""Code that is written for the openai package, with a teacher below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import openai
import pytest

from components.teacher.client import Teacher
from components.teacher.openai_client import openai_client
from components.teacher.options import TeacherOptions
from tests.conftest import ROOT
from tests.support.ports import NOBODY
from tests.support.scripted_teacher import Answer, Body, scripted_teacher

MESSAGES: Any = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "3 + 4?"}]


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": url, "model": "m", "backoff_s": 0.01, "max_outage_s": 0.0, "max_retries": 1, **more})


def echo(body: Body) -> str:
    return f"{body['messages'][-1]['content']} {body['seed']}"


async def test_the_example_of_the_readme_works(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "teacher.md").read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {"Teacher": Teacher, "TeacherOptions": TeacherOptions, "openai_client": openai_client}
    exec(compile(example[1], "teacher.md", "exec"), names)
    with scripted_teacher(lambda _: "seven", models=["some-model"]) as server:
        assert [await names["ask"](server.url, str(tmp_path)) for _ in range(2)] == ["seven", "seven"]
        assert len(server.requests) == 1


async def test_completions_are_stored_and_sent_once(tmp_path: Path) -> None:
    with scripted_teacher(echo) as server:
        for _ in range(2):
            async with Teacher(options(server.url), str(tmp_path)) as teacher, openai_client(teacher) as client:
                first = await client.chat.completions.create(model="m", messages=MESSAGES, temperature=0.5, max_completion_tokens=7)
                second = await client.chat.completions.create(model="m", messages=MESSAGES, temperature=0.5, max_tokens=7, seed=1, n=1)
                assert [completion.choices[0].message.content for completion in (first, second)] == ["3 + 4? 0", "3 + 4? 1"]
                assert first.choices[0].finish_reason == "stop"
                assert first.usage is not None and first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens > 0
        assert server.requests == [
            {"model": "m", "messages": MESSAGES, "temperature": 0.5, "top_p": 1.0, "max_tokens": 7, "seed": seed} for seed in (0, 1)
        ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tools": []}, "tools"),
        ({"n": 2}, "different seeds"),
        ({"stream": True}, "no stream"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"model": "another"}, "this teacher is 'm', not 'another'"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "content"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_what_a_teacher_does_not_offer_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher, openai_client(teacher) as client:
            with pytest.raises(openai.BadRequestError, match=message):
                await client.chat.completions.create(**{"model": "m", "messages": MESSAGES, **change})
            with pytest.raises(openai.NotFoundError, match="chat completions only"):
                await client.models.list()
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}), openai.BadRequestError),
        (Answer(401, {"error": {"message": "no"}}), openai.AuthenticationError),
        (Answer(429, {"error": {"message": "slowly"}}, {"Retry-After": "0"}), openai.RateLimitError),
        (Answer(500, {"error": {"message": "oops"}}), openai.InternalServerError),
        (Answer(200, b"garbage"), openai.APIConnectionError),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
async def test_errors_are_those_of_the_package(tmp_path: Path, answer: Answer, kind: type[openai.APIError]) -> None:
    with scripted_teacher(lambda _: answer) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher, openai_client(teacher) as client:
            with pytest.raises(kind) as caught:
                await client.chat.completions.create(model="m", messages=MESSAGES)
    if isinstance(answer.body, dict):
        assert caught.value.code == answer.body["error"].get("code")
    assert len(server.requests) == (2 if answer.status in (429, 500, 200) else 1), "the teacher asks again, the package does not"


async def test_an_endpoint_that_is_not_there_and_a_spent_budget(tmp_path: Path) -> None:
    async with Teacher(options(f"http://{NOBODY}/v1"), str(tmp_path)) as teacher, openai_client(teacher) as client:
        with pytest.raises(openai.APIConnectionError):
            await client.chat.completions.create(model="m", messages=MESSAGES)
    with scripted_teacher(echo) as server:
        async with Teacher(options(server.url, max_tokens=1), str(tmp_path)) as teacher, openai_client(teacher) as client:
            with pytest.raises(openai.APIStatusError, match=r"teacher\.max_tokens") as caught:
                await client.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.status_code == 402
