"""One attempt at one request: what the endpoint answered, or what kind of failure it was.

Not through the ``openai`` package: its path costs several times the CPU a request. What users see of the package is its exceptions
(``Failure.error``) and its client (``openai_client``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
import msgspec
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from components.core.redaction import redact
from components.teacher.http.completions import Completion, StreamError, assemble_stream, decode_completion
from components.teacher.http.failures import Failure, HttpReply, status_failure
from components.teacher.http.wire import StaleConnection, Wire
from components.teacher.options import TeacherOptions, api_key, endpoint_address

CONNECT_S = 15.0
"""Longest time for a connection to come about."""


@dataclass(frozen=True)
class Answer:
    """A reply that holds a text.

    Attributes:
        raw: The reply's JSON, whole.
        completion: The part of it that is used.
    """

    raw: bytes
    completion: Completion


class Endpoint:
    """An OpenAI-compatible chat endpoint. To be made where an event loop runs.

    Args:
        options: Address, model and limits; the key comes from the environment.
        on_headers: Told the headers of every response, whatever its status.
    """

    def __init__(self, options: TeacherOptions, on_headers: Callable[[Mapping[str, str]], None] | None = None) -> None:
        self.address = endpoint_address(options)
        self.name = redact(self.address)
        self._options = options
        self._on_headers = on_headers
        base = URL(self.address)
        self._chat_url = base / "chat/completions"
        self._models_url = base / "models"
        self._connect_s = connect_s = min(CONNECT_S, options.timeout_s)
        self._wire = Wire(base, _headers(options), options.concurrency + 8, connect_s)
        self._chat_head = self._wire.head("POST", self._chat_url)

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def models(self) -> list[str] | Failure:
        """Names of the models that the endpoint lists."""
        reply = await self._exchange(self._wire.head("GET", self._models_url), b"", self._models_url, self._options.timeout_s)
        if isinstance(reply, Failure):
            return reply
        try:
            return [model.id for model in _decode_models(reply.body).data]
        except msgspec.DecodeError as error:
            message = f"{self.name} gives no list of models ({type(error).__name__})"
            return Failure("unusable", message, passing=False, reply=reply, address=str(self._models_url))

    async def complete(self, body: bytes, timeout_s: float | None = None) -> Answer | Failure:
        """Send a chat completion request once.

        Args:
            body: The request's JSON.
            timeout_s: Longest time for it; ``options.timeout_s`` when None.

        Returns:
            The reply when it holds a text, else what went wrong.
        """
        reply = await self._exchange(self._chat_head, body, self._chat_url, timeout_s or self._options.timeout_s)
        if isinstance(reply, Failure):
            return reply
        raw = reply.body
        try:
            if reply.headers.get("content-type", "").startswith("text/event-stream"):
                raw = assemble_stream(raw)
            completion = decode_completion(raw)
        except StreamError as error:
            return self._unusable(reply, f"{self.name}: {redact(str(error))}")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._unusable(reply, f"{self.name} answered with something that is no chat completion")
        if completion.text:
            return Answer(raw, completion)
        if completion.choices and completion.choices[0].finish_reason == "length":
            message = f"{self.name} used up the reply's length before writing any text; raise teacher.max_reply_tokens"
            return self._unusable(reply, message, completion, passing=False)
        return self._unusable(reply, f"{self.name} answered with an empty text", completion)

    def _unusable(self, reply: HttpReply, message: str, completion: Completion | None = None, *, passing: bool = True) -> Failure:
        usage = completion.usage if completion is not None else None
        return Failure("unusable", message, passing, usage=usage, reply=reply, address=str(self._chat_url))

    async def _exchange(self, head: str, body: bytes, url: URL, timeout_s: float) -> HttpReply | Failure:
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    reply = await self._wire.send(head, body)
                except StaleConnection:
                    reply = await self._wire.send(head, body)
        except TimeoutError as error:
            slow = f"{self._connect_s:g} s, no connection" if isinstance(error, aiohttp.ConnectionTimeoutError) else f"{timeout_s:g} s"
            return Failure("timeout", f"{self.name} did not answer within {slow}", address=str(url))
        except (aiohttp.ClientError, HttpProcessingError, OSError, StaleConnection) as error:
            cause = error.__cause__ if isinstance(error, StaleConnection) else error
            return Failure("connection", f"{self.name} cannot be reached ({redact(_told(cause))})", address=str(url))
        if self._on_headers is not None:
            self._on_headers(reply.headers)
        if 200 <= reply.status < 300:
            return reply
        return status_failure(self.name, self._options.model, reply, str(url))


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_decode_models = msgspec.json.Decoder(_Models).decode


def _headers(options: TeacherOptions) -> dict[str, str]:
    headers = {
        "Authorization": f"Bearer {api_key()}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if options.stream else "application/json",
        "User-Agent": "tutorloop",
    }
    # As the openai package: accounts of several organizations need them.
    for header, variable in (("OpenAI-Organization", "OPENAI_ORG_ID"), ("OpenAI-Project", "OPENAI_PROJECT_ID")):
        if os.environ.get(variable):
            headers[header] = os.environ[variable]
    return headers


def _told(error: BaseException | None) -> str:
    return str(error) or type(error).__name__
