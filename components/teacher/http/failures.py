"""Why an attempt brought no reply: in the words of the run, and as the exception that the ``openai`` package has for it."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from components.core.errors import TeacherError
from components.core.redaction import redact
from components.teacher.http.completions import TokenCounts

if TYPE_CHECKING:
    import openai

KEY_HINT = "set TUTORLOOP_TEACHER_API_KEY (or OPENAI_API_KEY) to a key that this endpoint accepts for this model"
ADDRESS_HINT = "check teacher.base_url (host, port, and the path, which usually ends with /v1) and that the endpoint runs"

GONE = ("connection", "502", "503", "504")
"""Outcomes that say that nobody is at home: a restart, a lost node."""


class ReplyError(TeacherError):
    """This one request brought no usable reply; others may."""


@dataclass(frozen=True)
class HttpReply:
    """What came over the wire.

    Attributes:
        status: HTTP status.
        reason: Its words.
        headers: Response headers; names in any case.
        body: Response body.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Failure:
    """Why an attempt brought no reply.

    Attributes:
        outcome: Short name for the metrics.
        message: For people; holds no secret.
        passing: Whether another attempt may succeed.
        fatal: What to do, when every other request would fail as well; empty otherwise.
        wait_s: Seconds that the server asks to wait; None when it does not say.
        usage: Tokens that the endpoint charged all the same; None when it does not say.
        reply: The HTTP response; None when there was none.
        address: Where the request went.
    """

    outcome: str
    message: str
    passing: bool = True
    fatal: str = ""
    wait_s: float | None = None
    usage: TokenCounts | None = None
    reply: HttpReply | None = None
    address: str = ""

    @property
    def away(self) -> bool:
        """Whether this is what an endpoint does that is down: no connection, no answer, an error of its own."""
        return self.outcome in ("connection", "timeout") or (self.reply is not None and self.reply.status >= 500)

    @property
    def error(self) -> openai.APIError:
        """The ``openai`` package's exception for it. The package takes a second to import: ask only when it is raised."""
        import httpx2
        import openai

        # Made anew and without its headers, which hold the key.
        request = httpx2.Request("POST", self.address or "http://unknown")
        if self.reply is None:
            return (
                openai.APITimeoutError(request)
                if self.outcome == "timeout"
                else openai.APIConnectionError(message=self.message, request=request)
            )
        body = _redacted_body(self.reply.body)
        response = httpx2.Response(
            self.reply.status,
            headers=[(name, value) for name, value in redact(dict(self.reply.headers)).items() if name.lower() not in _CODINGS],
            content=body.encode(),
            request=request,
        )
        if self.reply.status < 400:
            return openai.APIResponseValidationError(response, _json(body), message=self.message)
        kind = _STATUS_ERRORS.get(self.reply.status, "InternalServerError" if self.reply.status >= 500 else "APIStatusError")
        decoded = _json(body)
        detail = decoded.get("error", decoded) if isinstance(decoded, dict) else decoded
        error: openai.APIStatusError = getattr(openai, kind)(self.message, response=response, body=detail)
        return error


_CODINGS = ("content-encoding", "content-length", "transfer-encoding")
"""Headers of how the body came over the wire: it is decoded by now."""

_STATUS_ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}


def unreachable(failure: Failure) -> TeacherError:
    """The error for a failure that every other request would meet as well."""
    hint = failure.fatal or (
        ADDRESS_HINT if failure.outcome in ("connection", "timeout") else "look at the endpoint's state and log, then run again"
    )
    return TeacherError(failure.message, hint)


def status_failure(name: str, model: str, reply: HttpReply, address: str) -> Failure:
    """The failure that a status other than 2xx is.

    Args:
        name: The endpoint, for people.
        model: Name of the model.
        reply: What came.
        address: Where the request went.
    """
    status = reply.status
    said, code = _server_message(reply)
    message = f"{name} answered HTTP {status}: {said}"
    outcome, fatal, passing = str(status), "", False
    if status in (401, 403):
        fatal = KEY_HINT
    elif status in (404, 405, 501):
        fatal = f"check teacher.model = {model!r}, or {ADDRESS_HINT}"
    elif status < 400:
        # A key is for the host that it was given for, and most servers turn a redirected POST into a GET.
        fatal = f"set teacher.base_url to the address that it redirects to: {redact(reply.headers.get('location', 'it names none'))}"
    elif status == 402 or (status == 429 and code == "insufficient_quota"):
        fatal = "the account behind this key has no credit left: top it up, then run again"
    else:
        passing = status in (408, 409, 425, 429) or status >= 500
    return Failure(outcome, message, passing, fatal, retry_after(reply.headers), None, reply, address)


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


def _server_message(reply: HttpReply) -> tuple[str, str]:
    """The server's own words, and its code for the error."""
    decoded = _json(reply.body.decode(errors="replace"))
    # Servers made with FastAPI say it under ``detail``.
    detail = decoded.get("error", decoded.get("detail", decoded)) if isinstance(decoded, dict) else None
    text = detail.get("message") if isinstance(detail, dict) else detail
    code = detail.get("code") if isinstance(detail, dict) else ""
    return redact(" ".join(str(text or reply.reason or "no reason given").split())[:300]), str(code)


def _redacted_body(body: bytes) -> str:
    return str(redact(body.decode(errors="replace")))


def _json(text: str) -> Any:
    """The value that the text is the JSON of; the text itself when it is none."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
