"""An OpenAI-compatible HTTP server around the pure functions of this folder."""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
from aiohttp import web

from components.core.errors import ParameterError
from components.offline_teacher import modes
from components.offline_teacher.answer_key import AnswerKey
from components.offline_teacher.faults import HEADER, Fault, FaultSource
from components.offline_teacher.knowledge import Knowledge
from components.offline_teacher.options import Mode, OfflineTeacherOptions
from components.offline_teacher.protocol import ChatRequest, completion, decode_request, error_body, stream_events, task_of
from components.offline_teacher.sloppy import sloppy
from components.offline_teacher.statistics import Statistics
from components.offline_teacher.tasks import reply

KEY_VARIABLE = "TUTORLOOP_OFFLINE_TEACHER_KEY"
"""Environment variable with the only bearer key that is accepted; unset or empty accepts any."""
_LARGEST_BODY = 16 * 2**20
_JSON = "application/json"


class _Service:
    """The handlers and their state."""

    def __init__(self, knowledge: Knowledge, key: str) -> None:
        self._knowledge = knowledge
        self._key = key
        self._faults = FaultSource(knowledge.options.faults, knowledge)
        self._statistics = Statistics()
        self._served = 0
        self._modes: Sequence[Mode] = knowledge.options.modes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self._chat),
            web.get("/v1/models", self._models),
            web.get("/healthz", self._health),
            web.get("/admin/stats", self._stats),
            web.post("/admin/faults", self._change_faults),
            web.post("/admin/modes", self._change_modes),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if self._faults.down:
            return await _hang_up(request)
        if refused := self._refused(request):
            return refused
        try:
            chat = decode_request(await request.read())
        except msgspec.DecodeError as error:
            return _json(error_body(f"The request cannot be read: {error}", "invalid_request_error"), 400)
        task, digest = task_of(chat), chat.digest()
        self._statistics.received(task)
        outcome = "refused"
        try:
            if refused_for := modes.refusal(self._modes, chat):
                return _json(error_body(refused_for, "invalid_request_error"), 400)
            fault = self._faults.next(digest, request.headers.get(HEADER))
            outcome = fault.kind
            if fault.delay_s:
                await asyncio.sleep(fault.delay_s)
            return await self._answer(request, chat, task, digest, fault)
        except ParameterError as error:
            return _json(error_body(error.message, "invalid_request_error"), 400)
        finally:
            self._statistics.answered(outcome)

    async def _answer(self, request: web.Request, chat: ChatRequest, task: str, digest: str, fault: Fault) -> web.StreamResponse:
        if fault.kind == "down":
            return await _hang_up(request)
        if fault.kind == "http_500":
            return _json(error_body("The server had an error while processing your request.", "server_error"), 500)
        if fault.kind == "http_429":
            headers = {"Retry-After": f"{fault.retry_after_s:.3f}".rstrip("0").rstrip(".")}
            return _json(error_body("Rate limit reached.", "rate_limit_error", "rate_limit_exceeded"), 429, headers)
        self._served += 1
        if "ignores_seed" in self._modes:
            chat.seed = self._served
        texts = [reply(chat, self._knowledge, choice) for choice in range(chat.n or 1)]
        if fault.kind == "sloppy":
            texts = [sloppy(text, self._knowledge.chance("sloppy", digest, index)) for index, text in enumerate(texts)]
        answer = completion(chat, f"chatcmpl-{digest[:20]}-{self._served}", [modes.written(self._modes, text) for text in texts])
        usage = answer["usage"]
        answer = modes.as_sent(self._modes, chat, answer)
        body = msgspec.json.encode(answer)
        if fault.kind == "garbage_json":
            return _json(b"<html>" + body[len(body) // 3 :: 2], 200)
        if fault.kind == "truncated":
            return await _cut_off(request, body)
        self._statistics.paid(task, digest, usage["prompt_tokens"], usage["completion_tokens"])
        return await _stream(request, stream_events(answer)) if modes.streams(self._modes, chat) else _json(body)

    def _refused(self, request: web.Request) -> web.Response | None:
        """A 401 for a wrong key."""
        given = request.headers.get("Authorization", "")
        if not self._key or hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
            return None
        return _json(error_body("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"), 401)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self._faults.down:
            return await _hang_up(request)
        model = {"id": self._knowledge.options.model, "object": "model", "created": 0, "owned_by": "tutorloop"}
        if "no_models_list" in self._modes:
            return _json(error_body("Not Found", "invalid_request_error"), 404)
        return self._refused(request) or _json(msgspec.json.encode({"object": "list", "data": [model]}))

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return await _hang_up(request) if self._faults.down else web.Response(text="ok\n")

    async def _stats(self, request: web.Request) -> web.Response:
        return _json(msgspec.json.encode(self._statistics.as_dict()))

    async def _change_faults(self, request: web.Request) -> web.Response:
        try:
            plan = self._faults.change(msgspec.json.decode(await request.read(), type=dict[str, object]))
        except msgspec.DecodeError as error:
            return _json(error_body(f"The body must be a JSON object: {error}", "invalid_request_error"), 400)
        except ParameterError as error:
            return _json(error_body(error.message, "invalid_request_error"), 400)
        return _json(msgspec.json.encode(plan))

    async def _change_modes(self, request: web.Request) -> web.Response:
        try:
            self._modes = msgspec.json.decode(await request.read(), type=tuple[Mode, ...])
        except msgspec.DecodeError as error:
            return _json(error_body(f"The body must be a JSON list of modes: {error}", "invalid_request_error"), 400)
        return _json(msgspec.json.encode(self._modes))


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers=headers, content_type=_JSON)


async def _hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer, as a dead server would."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _cut_off(request: web.Request, body: bytes) -> web.StreamResponse:
    """Announce the whole body, send half of it and close."""
    response = web.StreamResponse(headers={"Content-Type": _JSON, "Content-Length": str(len(body))})
    await response.prepare(request)
    with suppress(ConnectionError):
        await response.write(body[: len(body) // 2])
    await _hang_up(request)
    return response


async def _stream(request: web.Request, events: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
    await response.write_eof()
    return response


def create_app(options: OfflineTeacherOptions, key: AnswerKey | None = None) -> web.Application:
    """Build the server's application.

    Args:
        options: The options.
        key: Answer key; None reads the files that the options name.

    Raises:
        InputError: An answer key file is missing or malformed.
    """
    knowledge = Knowledge(options, AnswerKey.load(options.answer_key) if key is None else key)
    app = web.Application(client_max_size=_LARGEST_BODY)
    app.add_routes(_Service(knowledge, os.environ.get(KEY_VARIABLE, "")).routes())
    return app


async def serve(options: OfflineTeacherOptions, started: Callable[[str], None], stop: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM, SIGINT or ``stop``.

    Args:
        options: The options.
        started: Called with the base URL (``http://host:port/v1``) once connections are accepted.
        stop: Ends the server when set.

    Raises:
        InputError: An answer key file is missing or malformed.
        OSError: The address cannot be bound.
    """
    ending = stop or asyncio.Event()
    runner = web.AppRunner(create_app(options), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port, backlog=1024)
        await site.start()
        host, port = runner.addresses[0][:2]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        await ending.wait()
    finally:
        await runner.cleanup()
