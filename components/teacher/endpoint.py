"""One attempt at one request: what the endpoint answered, or what kind of failure it was."""

from __future__ import annotations

import asyncio
import email.utils
import math
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp
import httpx2
import msgspec
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, DefaultAioHttpClient

from components.core.errors import TeacherError
from components.core.redaction import redact
from components.teacher.options import TeacherOptions, api_key, endpoint_address

ATTEMPT_ERRORS = (APIConnectionError, APIStatusError, TimeoutError, aiohttp.ClientError, httpx2.HTTPError)
"""The package lets some errors of its transport through as they are."""

RETRIED_STATUS = (408, 409, 425, 429)
KEY_HINT = "set TUTORLOOP_TEACHER_API_KEY (or OPENAI_API_KEY) to a key that this endpoint accepts for this model"
ADDRESS_HINT = "check teacher.base_url (host, port, and the path, which usually ends with /v1) and that the endpoint runs"


@cache
def _certificates() -> ssl.SSLContext:
    """Read once: it takes a few tenths of a second."""
    return httpx2.create_ssl_context()


class Message(msgspec.Struct):
    """The part of a choice that is used."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One reply."""

    message: Message
    finish_reason: str | None = None


class TokenCounts(msgspec.Struct):
    """The endpoint's count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(msgspec.Struct):
    """The part of a chat completion that is used; the store keeps all of it."""

    choices: list[Choice]
    usage: TokenCounts | None = None

    @property
    def text(self) -> str:
        """Text of the reply; empty when there is none."""
        return (self.choices[0].message.content or "").strip() if self.choices else ""


decode_completion = msgspec.json.Decoder(Completion).decode


@dataclass(frozen=True)
class Failure:
    """Why an attempt brought no reply.

    Attributes:
        outcome: Short name for the metrics.
        message: For people; holds no secret.
        passing: Whether another attempt may succeed.
        fatal: What to do, when every other request would fail as well; empty otherwise.
        wait_s: Seconds that the server asks to wait; None when it does not say.
    """

    outcome: str
    message: str
    passing: bool = True
    fatal: str = ""
    wait_s: float | None = None


class Endpoint:
    """An OpenAI-compatible chat endpoint.

    Args:
        options: Address, model and limits; the key comes from the environment.
    """

    def __init__(self, options: TeacherOptions) -> None:
        self.address = endpoint_address(options)
        self.name = redact(self.address)
        self._options = options
        limits = httpx2.Limits(max_connections=options.concurrency + 8, max_keepalive_connections=options.concurrency + 8)
        timeout = httpx2.Timeout(options.timeout_s, connect=min(15.0, options.timeout_s))
        # Retries are the client's own: the package's would escape the budget and the counters.
        self._client = AsyncOpenAI(
            base_url=self.address,
            api_key=api_key(),
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(limits=limits, timeout=timeout, verify=_certificates()),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def models(self) -> list[str] | Failure:
        """Names of the models that the endpoint lists."""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return [model.id for model in (await self._client.models.list()).data]
        except ATTEMPT_ERRORS as error:
            return self._failure(error)
        except (AttributeError, TypeError, ValueError) as error:
            return Failure("unusable", f"{self.name} gives no list of models ({type(error).__name__})", passing=False)

    async def complete(self, body: Mapping[str, Any]) -> bytes | Failure:
        """Send a chat completion request once.

        Args:
            body: The request.

        Returns:
            The reply's JSON when it holds a text, else what went wrong.
        """
        try:
            async with asyncio.timeout(self._options.timeout_s):
                response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=dict(body))
        except ATTEMPT_ERRORS as error:
            return self._failure(error)
        raw = response.content
        try:
            completion = decode_completion(raw)
        except msgspec.DecodeError:
            return Failure("unusable", f"{self.name} answered with something that is no chat completion")
        if completion.text:
            return raw
        if completion.choices and completion.choices[0].finish_reason == "length":
            return Failure(
                "unusable", f"{self.name} used up the reply's length before writing any text; raise teacher.max_reply_tokens", passing=False
            )
        return Failure("unusable", f"{self.name} answered with an empty text")

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, APITimeoutError | TimeoutError) and not _refused(error):
            return Failure("timeout", f"{self.name} did not answer within {self._options.timeout_s:g} s")
        if not isinstance(error, APIStatusError):
            return Failure("connection", f"{self.name} cannot be reached ({redact(str(error.__cause__ or error))})")
        status = error.status_code
        message = f"{self.name} answered HTTP {status}: {redact(_server_message(error))}"
        if status in (401, 403):
            return Failure(str(status), message, passing=False, fatal=KEY_HINT)
        if status in (404, 405, 501):
            return Failure(str(status), message, passing=False, fatal=f"check teacher.model = {self._options.model!r}, or {ADDRESS_HINT}")
        if status == 402 or (status == 429 and error.code == "insufficient_quota"):
            return Failure(
                str(status), message, passing=False, fatal="the account behind this key has no credit left: top it up, then run again"
            )
        return Failure(str(status), message, passing=status in RETRIED_STATUS or status >= 500, wait_s=retry_after(error.response.headers))


def unreachable(failure: Failure) -> TeacherError:
    """The error for a failure that every other request would meet as well."""
    hint = failure.fatal or (
        ADDRESS_HINT if failure.outcome in ("connection", "timeout") else "look at the endpoint's state and log, then run again"
    )
    return TeacherError(failure.message, hint)


def _refused(error: BaseException) -> bool:
    """Whether a connection error is behind what the transport reports as a timeout."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectionError) and not isinstance(cause, TimeoutError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _server_message(error: APIStatusError) -> str:
    body = error.body
    text = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(text or error.response.reason_phrase or "no reason given").split())[:300]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: ``retry-after-ms``, or ``retry-after`` as seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif "retry-after" in headers:
            value = headers["retry-after"]
            try:
                seconds = float(value)
            except ValueError:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        else:
            return None
    except (ValueError, TypeError, OverflowError):
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
