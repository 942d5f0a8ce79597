"""How many requests and tokens a minute: as the options say, or as the endpoint's response headers tell."""

from __future__ import annotations

import datetime
import math
import re
import time
from collections.abc import Mapping
from typing import NamedTuple

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNIT_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)

_NAMES = {
    unit: [
        (f"x-ratelimit-remaining-{unit}", f"x-ratelimit-limit-{unit}", f"x-ratelimit-reset-{unit}"),
        (f"anthropic-ratelimit-{unit}-remaining", f"anthropic-ratelimit-{unit}-limit", f"anthropic-ratelimit-{unit}-reset"),
    ]
    for unit in ("requests", "tokens")
}
# The draft does not say what time its limit is for.
_NAMES["requests"].append(("ratelimit-remaining", "", "ratelimit-reset"))


class Gcra:
    """The generic cell rate algorithm: a leaky bucket in one number, the time at which it is empty again.

    It needs no timer and no list of past requests, takes costs of any size, and can be told afterwards what something really cost.

    Args:
        per_minute: Units (requests or tokens) a minute.
        burst: Units that may come at once, after a pause.
    """

    def __init__(self, per_minute: float, burst: float) -> None:
        self._empty_at = -math.inf
        self.change(per_minute, burst)

    def change(self, per_minute: float, burst: float) -> None:
        """Another rate from now on; what was taken stays taken."""
        self._burst = burst
        self.per_minute = per_minute
        self._unit_s = 60.0 / per_minute

    def ready_at(self, now: float, cost: float) -> float:
        """When something of this cost may go; ``now`` or earlier when it may at once. A cost beyond the burst needs an empty bucket."""
        return max(now, self._empty_at + min((cost - self._burst) * self._unit_s, 0.0))

    def take(self, now: float, cost: float) -> None:
        """Something of this cost goes now."""
        self._empty_at = max(self._empty_at, now) + cost * self._unit_s

    def correct(self, more: float) -> None:
        """What was taken before has cost so much more than was thought; less, when negative."""
        self._empty_at += more * self._unit_s

    def left(self, now: float, units: float) -> None:
        """The endpoint says how much is left of a full minute's units: what others have used counts as well."""
        self._empty_at = max(self._empty_at, now + (self.per_minute - units) * self._unit_s)


class Told(NamedTuple):
    """What response headers say about one limit; None for what they do not say.

    Attributes:
        limit: Units a minute.
        remaining: Units left.
        reset_s: Seconds until there is room again.
    """

    limit: float | None
    remaining: float | None
    reset_s: float | None


def told_by(headers: Mapping[str, str], unit: str) -> Told | None:
    """What response headers say about a limit: OpenAI's names, Anthropic's, and those of the IETF's draft.

    Args:
        headers: Response headers; names in any case.
        unit: ``requests`` or ``tokens``.
    """
    for remaining_name, limit_name, reset_name in _NAMES[unit]:
        remaining = headers.get(remaining_name)
        if remaining is not None:
            return Told(_number(headers.get(limit_name)), _number(remaining), duration_s(headers.get(reset_name)))
    return None


def duration_s(value: str | None) -> float | None:
    """Seconds from a duration as endpoints write it: ``20ms``, ``6m0s``, ``1.5``, or a time of day (RFC 3339) in the future."""
    if not value:
        return None
    plain = _number(value)
    if plain is not None:
        return plain
    parts = _DURATION.fullmatch(value.strip())
    if parts is not None:
        return sum(float(number) * unit for number, unit in zip(parts.groups(), _UNIT_S, strict=True) if number)
    try:
        return max(datetime.datetime.fromisoformat(value.strip()).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) and number >= 0 else None
