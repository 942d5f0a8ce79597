"""A teacher without a server: its script answers in place of the connections, so that a test can run in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
from yarl import URL

from components.teacher.http.failures import HttpReply
from tests.support.scripted_teacher import Answer, Body, Script, completion

TRAVEL_S = 0.001
"""How long a request is on its way. Without it a loop of requests would never let the clock move."""


class SimulatedTeacher:
    """In place of the client's connections; what it knows of the requests has the names that ``ScriptedTeacher`` has for it."""

    url = "http://teacher.invalid/v1"

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Body] = []
        self.times: list[float] = []

    def head(self, method: str, url: URL) -> str:
        return f"{method} {url}"

    async def send(self, head: str, body: bytes) -> HttpReply:
        await asyncio.sleep(TRAVEL_S)
        request = msgspec.json.decode(body)
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        answer = self.script(request)
        if isinstance(answer, Awaitable):
            answer = await answer
        if not isinstance(answer, Answer):
            answer = Answer(body=completion(answer))
        content = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
        return HttpReply(answer.status, "", {name.lower(): value for name, value in answer.headers.items()}, content)

    async def close(self) -> None:
        pass


@contextmanager
def simulated_teacher(script: Script) -> Iterator[SimulatedTeacher]:
    """Every endpoint that is made meanwhile talks to it."""
    teacher = SimulatedTeacher(script)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("components.teacher.http.endpoint.Wire", lambda *_: teacher)
        yield teacher
