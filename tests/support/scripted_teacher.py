"""A real HTTP server whose replies a test scripts; it keeps every request that it got."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Body = dict[str, Any]


@dataclass
class Answer:
    """What to send back instead of a plain completion."""

    status: int = 200
    body: bytes | Body = b""
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Body], "str | Answer | Awaitable[str | Answer]"]


def completion(text: str | None, finish_reason: str = "stop", **more: Any) -> Body:
    """A chat completion of one token per word."""
    usage = {"prompt_tokens": 10, "completion_tokens": len((text or "").split()), "total_tokens": 0}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage, **more}


class ScriptedTeacher:
    """The server.

    Attributes:
        url: Base URL, with ``/v1``.
        requests: Bodies of the chat requests, in the order in which they came.
        times: Arrival of each, on the server loop's clock.
        keys: Authorization headers seen.
        most_in_flight: Largest number of chat requests open at once.
    """

    def __init__(self, script: Script, models: Answer | list[str]) -> None:
        self.script = script
        self.models = models
        self.requests: list[Body] = []
        self.times: list[float] = []
        self.keys: set[str] = set()
        self.most_in_flight = 0
        self.url = ""
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def tasks(self) -> list[str]:
        """Task name of every request, from the first line of its system message."""
        return [body["messages"][0]["content"].splitlines()[0].removeprefix("Task: ") for body in self.requests]

    def set(self, event: asyncio.Event) -> None:
        """Tell a script, which waits in the server's own thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(event.set)

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.keys.add(request.headers.get("Authorization", ""))
        self.requests.append(body)
        self.times.append(asyncio.get_running_loop().time())
        self._open += 1
        self.most_in_flight = max(self.most_in_flight, self._open)
        try:
            answer = self.script(body)
            if isinstance(answer, Awaitable):
                answer = await answer
        finally:
            self._open -= 1
        return self._response(answer if isinstance(answer, Answer) else Answer(body=completion(answer)))

    async def _list(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("Authorization", ""))
        if isinstance(self.models, Answer):
            return self._response(self.models)
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in self.models]}
        )

    @staticmethod
    def _response(answer: Answer) -> web.Response:
        if isinstance(answer.body, bytes):
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers, content_type="application/json")
        return web.json_response(answer.body, status=answer.status, headers=answer.headers)

    async def serve(self, started: Future[None], ended: asyncio.Event, port: int) -> None:
        """Serve until ``ended``; ``started`` tells when it begins, or why it cannot."""
        self._loop = asyncio.get_running_loop()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            host, bound = runner.addresses[0][:2]
            self.url = f"http://{host}:{bound}/v1"
        except Exception as error:
            started.set_exception(error)
        else:
            started.set_result(None)
            await ended.wait()
        finally:
            await runner.cleanup()


@contextmanager
def scripted_teacher(script: Script, models: Answer | list[str] | None = None, port: int = 0) -> Iterator[ScriptedTeacher]:
    """Run the server in a thread of its own; port 0 lets the operating system choose."""
    server = ScriptedTeacher(script, models if models is not None else ["m"])
    started, ended = Future[None](), asyncio.Event()
    loop = asyncio.new_event_loop()

    def work() -> None:
        loop.run_until_complete(server.serve(started, ended, port))
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    started.result(120)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
