"""The ``openai`` package's client on top of a teacher: code that is written for the package gets the store, the budget and the limits.

The package takes any HTTP client (its documented extension point); here one whose transport is the teacher.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

import httpx2
import msgspec
import openai

from components.core.errors import BudgetError, TeacherError
from components.teacher.client import Reply, Teacher


def openai_client(teacher: Teacher) -> openai.AsyncOpenAI:
    """A client whose chat completions go through a teacher, for as long as that is open.

    Requests may hold ``messages`` (of texts), ``temperature``, ``top_p``, ``max_tokens`` or ``max_completion_tokens``, and ``seed``, which
    tells samples of the same request apart. Anything else that would change the reply is refused with ``openai.BadRequestError``:
    the store's key does not have it.

    Args:
        teacher: The teacher, entered.

    Returns:
        The client. Its errors are the package's own; the end of a budget is an ``openai.APIStatusError`` with status 402.
    """
    return openai.AsyncOpenAI(
        api_key="none",
        base_url="http://teacher/v1",
        # The teacher asks again by itself.
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=_Transport(teacher)),
    )


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    n: int | None = None
    stream: bool | None = None


class _Refused(Exception):
    """A request that cannot be sent through a teacher."""


class _Transport(httpx2.AsyncBaseTransport):
    """Answers HTTP requests with what a teacher says."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a chat completion request."""
        if (request.method, request.url.path) != ("POST", "/v1/chat/completions"):
            return _error(404, f"a teacher offers chat completions only, not {request.method} {request.url.path}")
        try:
            return await self._complete(await request.aread())
        except _Refused as error:
            return _error(400, str(error))
        except BudgetError as error:
            return _error(402, str(error), "budget")
        except TeacherError as error:
            return _same(error, request)

    async def _complete(self, body: bytes) -> httpx2.Response:
        try:
            asked = msgspec.json.decode(body, type=_Request)
        except msgspec.ValidationError as error:
            raise _Refused(f"a teacher takes plain chats of texts only: {error}") from error
        if asked.model != self._teacher.options.model:
            raise _Refused(f"this teacher is {self._teacher.options.model!r}, not {asked.model!r}")
        if asked.stream or asked.n not in (None, 1):
            raise _Refused("a teacher gives whole replies (no stream), one at a time (n = 1): ask for samples with different seeds")
        reply = await self._teacher.chat(
            [{"role": message.role, "content": message.content} for message in asked.messages],
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            max_tokens=asked.max_tokens or asked.max_completion_tokens,
            sample=asked.seed or 0,
        )
        return httpx2.Response(200, json=_completion(asked.model, reply))


def _completion(model: str, reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    return {
        "id": "chatcmpl-teacher",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        },
    }


def _error(status: int, message: str, code: str = "teacher") -> httpx2.Response:
    return httpx2.Response(status, json={"error": {"message": message, "type": "teacher", "code": code, "param": None}})


def _same(error: TeacherError, request: httpx2.Request) -> httpx2.Response:
    """What makes the package raise the exception that is behind the teacher's."""
    cause = error.__cause__
    if isinstance(cause, openai.APIStatusError):
        return httpx2.Response(cause.status_code, headers=cause.response.headers, content=cause.response.content)
    if isinstance(cause, openai.APITimeoutError):
        raise httpx2.ReadTimeout(str(error), request=request) from error
    raise httpx2.ConnectError(str(error), request=request) from error
