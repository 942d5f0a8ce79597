"""AutoGen's agents speak through our client: stored, counted, stopped by the budget, with requests that any endpoint takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from autogen_core.models import AssistantMessage, SystemMessage, UserMessage

from components.core.errors import BudgetError, TeacherError
from components.teacher.agent_client import TeacherChatClient
from components.teacher.agents import Rewrite, ask_me_anything, check_solvable, rewrite_once
from components.teacher.client import ReplyError, Teacher
from components.teacher.options import TeacherOptions
from tests.support.scripted_teacher import Answer, Body, scripted_teacher

PROBLEM = "Tom has 3 apples. How many has he?"
SUGGESTIONS = "1. Add 4 pears.\n2. Eat half."
HARDER = "Problem: Tom has 3 apples and 4 pears. How many pieces of fruit has he?"


def script(body: Body) -> str:
    task = body["messages"][0]["content"].splitlines()[0]
    return {"Task: suggest": SUGGESTIONS, "Task: edit": HARDER, "Task: ask_me_anything": "Question: Q?", "Task: solvable": "Solvable: yes"}[
        task
    ]


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(**{"base_url": url, "model": "m", "backoff_s": 0.01, "max_backoff_s": 0.02, **more})


async def test_the_editor_sees_objective_problem_and_suggestions(tmp_path: Path) -> None:
    with scripted_teacher(script) as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            assert await rewrite_once(teacher, PROBLEM, "make it harder", 0.7) == Rewrite(SUGGESTIONS, HARDER)
            assert teacher.usage.requests == 2
    assert server.tasks() == ["suggest", "edit"]
    asked = f"Objective: make it harder\n\nProblem: {PROBLEM}"
    assert [message["role"] for body in server.requests for message in body["messages"]] == ["system", "user", "system", "user"]
    assert server.requests[0]["messages"][1] == {"role": "user", "content": asked}
    assert server.requests[1]["messages"][1] == {"role": "user", "content": f"{asked}\n\nSuggestions:\n{SUGGESTIONS}"}
    assert {body["temperature"] for body in server.requests} == {0.7}


async def test_a_conversation_is_stored_like_any_request(tmp_path: Path) -> None:
    with scripted_teacher(script) as server:
        for _ in range(2):
            async with Teacher(options(server.url), str(tmp_path)) as teacher:
                await rewrite_once(teacher, PROBLEM, "make it harder", 0.7)
                assert await ask_me_anything(teacher, PROBLEM, "3", 0.7) == "Question: Q?"
                assert await check_solvable(teacher, PROBLEM) == "Solvable: yes"
        assert (teacher.usage.requests, teacher.usage.cache_hits) == (0, 4)
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "more", "kind"),
    [
        (Answer(400, {"error": {"message": "no"}}), {}, ReplyError),
        (Answer(401, {"error": {"message": "no"}}), {}, TeacherError),
        (None, {"max_tokens": 1}, BudgetError),
    ],
)
async def test_errors_leave_the_team_as_what_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: Answer | None, more: dict[str, Any], kind: type[TeacherError]
) -> None:
    with scripted_teacher(lambda body: fault or script(body)) as server:
        async with Teacher(options(server.url, **more), str(tmp_path)) as teacher:
            for call in (rewrite_once(teacher, PROBLEM, "x", 0.7), ask_me_anything(teacher, PROBLEM, "3", 0.7)):
                with pytest.raises(kind) as caught:
                    await call
                assert type(caught.value) is kind
    assert "Traceback" not in capfd.readouterr().err


async def test_neighbouring_messages_of_one_role_are_joined(tmp_path: Path) -> None:
    with scripted_teacher(script) as server:
        client = TeacherChatClient(Teacher(options(server.url), str(tmp_path)), 0.0, labels={"suggester": "Suggestions"})
    merged = client.merge(
        [
            SystemMessage(content="s"),
            UserMessage(content="a", source="user"),
            UserMessage(content="b", source="suggester"),
            AssistantMessage(content="c", source="editor"),
            UserMessage(content="d", source="user"),
        ]
    )
    assert merged == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a\n\nSuggestions:\nb"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]


async def test_the_client_offers_what_autogen_asks_of_one(tmp_path: Path) -> None:
    with scripted_teacher(lambda _: "one two three") as server:
        async with Teacher(options(server.url), str(tmp_path)) as teacher:
            client = TeacherChatClient(teacher, 0.0)
            messages = [UserMessage(content="x" * 40, source="user")]
            pieces = [piece async for piece in client.create_stream(messages)]
            assert pieces[0] == "one two three"
            assert pieces[-1].content == "one two three"  # type: ignore[union-attr]
            assert client.total_usage().completion_tokens == 3
            assert client.count_tokens(messages) == 10
            assert client.remaining_tokens(messages) > 1000
            assert client.model_info["function_calling"] is False
            await client.close()
