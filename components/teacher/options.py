"""How to reach the teacher, and what it may cost."""

from __future__ import annotations

import hashlib
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
LIMITS = ("max_usd", "max_tokens", "max_usd_per_day", "max_tokens_per_day")
DOLLAR_LIMITS = ("max_usd", "max_usd_per_day")


class Price(Options, frozen=True, kw_only=True):
    """Dollars per million tokens. Both are needed: a price that is half known would let a limit in dollars pass unnoticed."""

    prompt: Annotated[float, Meta(ge=0)]
    """Of a million tokens that are sent."""
    completion: Annotated[float, Meta(ge=0)]
    """Of a million tokens that come back, thinking among them."""


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
    """Wait before a further attempt, in seconds, with jitter, where the server names none; doubles each time while nobody is answered."""
    max_backoff_s: Annotated[float, Meta(ge=0)] = 30.0
    """Longest such wait, in seconds."""
    max_retry_after_s: Annotated[float, Meta(ge=0)] = 120.0
    """Longest wait that a server's Retry-After is granted, in seconds."""
    max_failures_in_row: Annotated[int, Meta(ge=1)] = 10
    """So many requests given up one after the other end the stage: the endpoint is down or refuses everything."""
    max_outage_s: Annotated[float, Meta(ge=0)] = 300.0
    """An endpoint that cannot be reached, or answers nothing but errors, is asked again for so long, in seconds; then the run ends with an
    error."""
    timeout_s: Annotated[float, Meta(gt=0)] = 180.0
    """Longest time for one attempt, in seconds."""
    deadline_s: Annotated[float, Meta(gt=0)] = 900.0
    """Longest time for one request with all its attempts and waits, in seconds; the time of an outage does not count."""
    requests_per_minute: Annotated[int, Meta(ge=0)] = 0
    """Requests that the account may send a minute: all processes of one response store that ask this model share it equally; 0 learns it
    from the endpoint's headers, where it tells."""
    tokens_per_minute: Annotated[int, Meta(ge=0)] = 0
    """Tokens (prompt and reply together) a minute, shared and learnt likewise."""
    max_reply_tokens: Annotated[int, Meta(ge=1)] = 2048
    """Longest reply, in tokens."""
    reply_limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name under which the endpoint takes that limit."""
    send_seed: bool = True
    """Send the sample's index as ``seed``; switch off for endpoints that refuse unknown parameters."""
    stream: bool = False
    """Ask for replies in pieces (server-sent events), for endpoints that answer in no other way."""
    stream_usage: bool = True
    """Ask for the token counts at the end of such a reply (``stream_options``); switch off for endpoints that refuse that."""
    max_usd: Annotated[float, Meta(ge=0)] = 0.0
    """Dollars that one run may spend; 0 for no limit."""
    max_tokens: Annotated[int, Meta(ge=0)] = 0
    """Tokens (prompt and reply together) that one run may spend; 0 for no limit."""
    max_usd_per_day: Annotated[float, Meta(ge=0)] = 0.0
    """Dollars that all runs of one response store may spend on one day (UTC); 0 for no limit."""
    max_tokens_per_day: Annotated[int, Meta(ge=0)] = 0
    """Tokens that all runs of one response store may spend on one day (UTC); 0 for no limit."""
    prices: dict[str, Price] = {}
    """Dollars per million tokens by name of the model, for counting costs; a table may hold models that are not asked."""

    def check(self, section: str) -> None:
        """Refuse values that contradict one another.

        Raises:
            ParameterError: A dollar limit for a model without a price, or an address that is none or holds credentials.
        """
        for name in DOLLAR_LIMITS:
            if getattr(self, name) and self.model not in self.prices:
                raise ParameterError(
                    f"{section}.{name}", getattr(self, name), f"0, unless the model {self.model!r} {self._price_wanted(section)}"
                )
        shown = redact(self.base_url)
        if self.base_url != OFFLINE and not self.base_url.startswith(("http://", "https://")):
            raise ParameterError(f"{section}.base_url", shown, "an address such as https://host/v1, or offline")
        if "@" in urlsplit(self.base_url).netloc:
            raise ParameterError(f"{section}.base_url", shown, "an address without credentials; put the key into " + KEY_NAMES[0])
        if urlsplit(self.base_url).query:
            raise ParameterError(
                f"{section}.base_url", shown.partition("?")[0] + "?...", "an address without a query; put a key into " + KEY_NAMES[0]
            )
        if "#" in self.base_url:
            raise ParameterError(
                f"{section}.base_url", shown.partition("#")[0] + "#...", "an address without a fragment, which is never sent to a server"
            )

    @property
    def teacher(self) -> str:
        """Digest of endpoint and model: whose requests and tokens a minute are counted together. An address may hold a secret."""
        return hashlib.sha256(f"{self.base_url.rstrip('/')} {self.model}".encode()).hexdigest()[:16]

    def usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Price of so many tokens, in dollars; 0 for a model without a price."""
        price = self.prices.get(self.model)
        return (prompt_tokens * price.prompt + completion_tokens * price.completion) / 1e6 if price else 0.0

    def _price_wanted(self, section: str) -> str:
        known = f" (it has those of {', '.join(sorted(self.prices))})" if self.prices else ""
        table = "{" + f'"{self.model}": {{prompt: 10, completion: 30}}' + "}"
        return f"has a price{known}: write `prices: {table}` in the section {section} of the profile, in dollars per million tokens"


def endpoint_address(options: TeacherOptions) -> str:
    """The address to send requests to, without a trailing slash.

    Raises:
        ParameterError: As :meth:`TeacherOptions.check`.
        TeacherError: The offline teacher is wanted but nothing says where it listens.
    """
    options.check("teacher")
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
