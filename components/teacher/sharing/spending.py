"""What requests have cost."""

from __future__ import annotations

import time
from typing import NamedTuple

DAY_S = 86_400


def day_of(seconds: float) -> str:
    """The day (UTC) of a time in seconds since 1970, such as ``2026-11-22``."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


class Spending(NamedTuple):
    """Tokens and dollars of some requests.

    Attributes:
        prompt_tokens: Tokens sent.
        completion_tokens: Tokens received.
        usd: What the endpoint charges for both.
    """

    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    usd: float = 0.0

    @property
    def tokens(self) -> float:
        """Prompt and reply together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: Spending) -> Spending:
        """Both together."""
        return Spending(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens, self.usd + other.usd)

    def minus(self, other: Spending) -> Spending:
        """This without the other."""
        return Spending(self.prompt_tokens - other.prompt_tokens, self.completion_tokens - other.completion_tokens, self.usd - other.usd)

    def over(self, requests: int) -> Spending:
        """The share of one of so many requests."""
        return Spending(self.prompt_tokens / requests, self.completion_tokens / requests, self.usd / requests)
