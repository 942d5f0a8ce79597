"""The offline teacher plays servers that differ: each mode refuses or answers as such servers do, and nothing else changes."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest

from components.offline_teacher.background import start_background
from components.offline_teacher.modes import THOUGHTS
from components.offline_teacher.options import OfflineTeacherOptions
from tests.unit.offline_teacher.test_server import QUESTION, SOLUTION, Client, body, serving

STREAM = {"stream": True}
TWO_USERS = {"messages": [{"role": "user", "content": "Hello."}, {"role": "user", "content": QUESTION}]}


async def answer(client: Client, **more: Any) -> dict[str, Any]:
    status, raw, headers = await client.chat(body(**more))
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "application/json")
    return msgspec.json.decode(raw, type=dict[str, Any])


async def events(client: Client, **more: Any) -> list[dict[str, Any]]:
    status, raw, headers = await client.chat(body(**more))
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    *chunks, done = raw.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    return [msgspec.json.decode(chunk.removeprefix("data: ")) for chunk in chunks]


@pytest.mark.parametrize(
    ("mode", "refused", "taken", "reason"),
    [
        ("rejects_n", {"n": 2}, {"n": 1}, "n must be 1"),
        ("rejects_seed", {"seed": 0}, {}, "seed"),
        ("rejects_stream_options", {"stream": True, "stream_options": {}}, STREAM, "stream_options"),
        ("single_user_message", TWO_USERS, {}, "roles must alternate"),
        ("stream_only", {}, STREAM, "set stream to true"),
        ("wants_max_completion_tokens", {"max_tokens": 9}, {"max_completion_tokens": 9}, "'max_tokens' is not supported"),
    ],
)
async def test_what_a_mode_refuses(mode: str, refused: dict[str, Any], taken: dict[str, Any], reason: str) -> None:
    async with serving(modes=(mode,)) as client:
        status, raw, _ = await client.chat(body(**refused))
        error = msgspec.json.decode(raw)["error"]
        assert (status, error["type"]) == (400, "invalid_request_error")
        assert reason in error["message"]
        assert (await client.chat(body(**taken)))[0] == 200
        assert (await client.get("/admin/stats"))["faults"] == {"refused": 1}
        assert (await client.post("/admin/modes", []))[0] == 200
        assert (await client.chat(body(**refused)))[0] == 200


async def test_usage_is_told_in_a_stream_to_who_asks_for_it() -> None:
    asking: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    async with serving() as client:
        assert all("usage" not in event for event in await events(client, **STREAM))
        last = (await events(client, **asking))[-1]
        assert (last["choices"], last["usage"]) == ([], (await answer(client))["usage"])
        await client.post("/admin/modes", ["no_usage"])
        assert "usage" not in await answer(client)
        assert all("usage" not in event for event in await events(client, **asking))
        assert (await client.get("/admin/stats"))["completion_tokens"] > 0


async def test_always_streams() -> None:
    async with serving(modes=("always_streams",)) as client:
        pieces = [choice["delta"].get("content", "") for event in await events(client) for choice in event["choices"]]
        assert "".join(pieces) == SOLUTION


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking(stream: bool) -> None:
    async def message(client: Client, **more: Any) -> dict[str, Any]:
        if not stream:
            return dict((await answer(client, **more))["choices"][0]["message"])
        deltas = [event["choices"][0]["delta"] for event in await events(client, stream=True, **more)]
        return {name: "".join(delta.get(name, "") for delta in deltas) for name in ("content", "reasoning_content")}

    async with serving(modes=("reasoning",)) as client:
        said = await message(client)
        assert (said["content"], said["reasoning_content"]) == (SOLUTION, THOUGHTS)
        cut = await message(client, max_tokens=5)
        assert (cut["content"], cut["reasoning_content"]) == ("", THOUGHTS[:13])
        await client.post("/admin/modes", ["think_tags"])
        assert (await message(client))["content"] == f"<think>{THOUGHTS}</think>\n\n{SOLUTION}"
        assert (await message(client, max_tokens=5))["content"] == f"<think>{THOUGHTS[:13]}"


async def test_content_parts() -> None:
    async with serving(modes=("content_parts",)) as client:
        assert (await answer(client))["choices"][0]["message"]["content"] == [{"type": "text", "text": SOLUTION}]
        deltas = [event["choices"][0]["delta"].get("content") or [] for event in await events(client, **STREAM)]
        assert "".join(part["text"] for delta in deltas for part in delta) == SOLUTION


async def test_ignores_seed() -> None:
    async def texts(client: Client, temperature: float) -> set[str]:
        replies = [await answer(client, seed=1, temperature=temperature) for _ in range(9)]
        return {reply["choices"][0]["message"]["content"] for reply in replies}

    async with serving(modes=("ignores_seed",)) as client:
        assert len(await texts(client, 0.0)) == 1
        assert len(await texts(client, 0.7)) > 1
        await client.post("/admin/modes", [])
        assert len(await texts(client, 0.7)) == 1


async def test_no_models_list() -> None:
    async with serving(modes=("no_models_list",)) as client:
        assert (await client.get("/v1/models"))["error"]["message"] == "Not Found"
        assert (await client.chat())[0] == 200


@pytest.mark.parametrize("data", [b"{", {"modes": []}, ["unheard_of"]])
async def test_wrong_modes_are_refused(data: Any) -> None:
    async with serving(modes=("stream_only",)) as client:
        assert (await client.post("/admin/modes", data))[0] == 400
        assert (await client.chat())[0] == 400


async def test_the_child_takes_modes_and_changes_them() -> None:
    with start_background(OfflineTeacherOptions(modes=("stream_only",))) as teacher:
        async with aiohttp.ClientSession() as session:
            client = Client(session, teacher.url.removesuffix("/v1"))
            assert (await client.chat())[0] == 400
            teacher.set_modes("content_parts")
            assert isinstance((await answer(client))["choices"][0]["message"]["content"], list)
