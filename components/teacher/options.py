"""How to reach the teacher, and what it may cost."""

from __future__ import annotations

import os
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from components.core.errors import ParameterError, TeacherError
from components.core.options import Options
from components.core.redaction import redact

OFFLINE = "offline"
OFFLINE_URL = "TUTORLOOP_OFFLINE_TEACHER_URL"
KEY_NAMES = ("TUTORLOOP_TEACHER_API_KEY", "OPENAI_API_KEY")


class TeacherOptions(Options, frozen=True, kw_only=True):
    """The teacher's endpoint. Orca-Math used GPT-4-Turbo; everything else here is our choice."""

    base_url: str = "https://api.openai.com/v1"
    """Address of an OpenAI-compatible endpoint, up to and with ``/v1``; ``offline`` takes it from TUTORLOOP_OFFLINE_TEACHER_URL."""
    model: Annotated[str, Meta(min_length=1)] = "gpt-4-turbo"
    """Name of the model at that endpoint."""
    concurrency: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Requests in flight at most."""
    max_retries: Annotated[int, Meta(ge=0, le=50)] = 6
    """Further attempts after a failed one, for failures that can pass."""
    backoff_s: Annotated[float, Meta(ge=0)] = 0.5
    """Wait before the first further attempt, in seconds; doubles each time, with jitter, unless the server names a wait."""
    max_backoff_s: Annotated[float, Meta(ge=0)] = 30.0
    """Longest such wait, in seconds."""
    max_retry_after_s: Annotated[float, Meta(ge=0)] = 120.0
    """Longest wait that a server's Retry-After is granted, in seconds."""
    max_failures_in_row: Annotated[int, Meta(ge=1)] = 10
    """So many requests given up one after the other end the stage: the endpoint is down or refuses everything."""
    max_outage_s: Annotated[float, Meta(ge=0)] = 300.0
    """An endpoint that cannot be reached is asked again for so long, in seconds, however many attempts that takes."""
    timeout_s: Annotated[float, Meta(gt=0)] = 180.0
    """Longest time for one attempt, in seconds."""
    max_reply_tokens: Annotated[int, Meta(ge=1)] = 2048
    """Longest reply, in tokens."""
    reply_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name under which the endpoint takes that limit."""
    send_seed: bool = True
    """Send the sample's index as ``seed``; switch off for endpoints that refuse unknown parameters."""
    max_usd: Annotated[float, Meta(ge=0)] = 0.0
    """Dollars that one run may spend; 0 for no limit."""
    max_tokens: Annotated[int, Meta(ge=0)] = 0
    """Tokens (prompt and reply together) that one run may spend; 0 for no limit."""
    usd_per_million_prompt_tokens: Annotated[float, Meta(ge=0)] = 0.0
    """Price, for counting costs."""
    usd_per_million_completion_tokens: Annotated[float, Meta(ge=0)] = 0.0
    """Price, for counting costs."""

    def check(self) -> None:
        """Refuse values that contradict one another.

        Raises:
            ParameterError: A dollar limit without a price, or an address that is none.
        """
        if self.max_usd and not (self.usd_per_million_prompt_tokens or self.usd_per_million_completion_tokens):
            raise ParameterError(
                "teacher.max_usd", self.max_usd, "0, or set teacher.usd_per_million_prompt_tokens and _completion_tokens as well"
            )
        if self.base_url != OFFLINE and not self.base_url.startswith(("http://", "https://")):
            raise ParameterError("teacher.base_url", self.base_url, "an address such as https://host/v1, or offline")
        if "@" in urlsplit(self.base_url).netloc:
            raise ParameterError(
                "teacher.base_url", redact(self.base_url), "an address without credentials; put the key into " + KEY_NAMES[0]
            )

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Price of so many tokens, in dollars."""
        return (prompt_tokens * self.usd_per_million_prompt_tokens + completion_tokens * self.usd_per_million_completion_tokens) / 1e6


def endpoint_address(options: TeacherOptions) -> str:
    """The address to send requests to, without a trailing slash.

    Raises:
        ParameterError: As :meth:`TeacherOptions.check`.
        TeacherError: The offline teacher is wanted but nothing says where it listens.
    """
    options.check()
    if options.base_url != OFFLINE:
        return options.base_url.rstrip("/")
    address = os.environ.get(OFFLINE_URL, "").rstrip("/")
    if not address:
        raise TeacherError(
            f"the offline teacher's address is not known: {OFFLINE_URL} is not set",
            "start one with `tutorloop teacher` and set the variable to the address it prints",
        )
    return address if urlsplit(address).path.strip("/") else f"{address}/v1"


def api_key() -> str:
    """The key from the environment; a placeholder when there is none, since many local endpoints need none."""
    return next((os.environ[name] for name in KEY_NAMES if os.environ.get(name)), "none")
