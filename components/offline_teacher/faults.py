"""Decides which fault, if any, a request meets."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from components.core.errors import ParameterError
from components.core.options import parse_options
from components.offline_teacher.knowledge import Knowledge
from components.offline_teacher.options import FaultPlan

HEADER = "X-Offline-Teacher-Faults"
"""A request's own faults: a JSON object of FaultPlan fields, laid over the current plan."""
_MINUTE_S = 60.0

Kind = Literal["none", "down", "http_500", "http_429", "garbage_json", "truncated", "sloppy"]


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Args:
        kind: The fault.
        delay_s: Time to wait first.
        retry_after_s: For ``http_429``.
    """

    kind: Kind
    delay_s: float = 0.0
    retry_after_s: float = 0.0


class FaultSource:
    """Keeps the plan, the rate limit's window and the end of a simulated outage.

    Which request meets which fault depends on the request's content and on how often it came, so that a run repeats however its
    requests interleave.

    Args:
        plan: The plan to start with.
        knowledge: For its chance.
        clock: Monotonic seconds.
    """

    def __init__(self, plan: FaultPlan, knowledge: Knowledge, clock: Callable[[], float] = time.monotonic) -> None:
        self.plan = plan
        self._knowledge = knowledge
        self._clock = clock
        self._attempts: Counter[str] = Counter()
        self._recent: deque[float] = deque()
        self._down_until = -math.inf

    def change(self, values: dict[str, object]) -> FaultPlan:
        """Lay values over the current plan; ``down_s`` starts an outage of so many seconds.

        Raises:
            ParameterError: Unknown name or value out of range.
        """
        values = dict(values)
        down_s = values.pop("down_s", None)
        plan = self._laid_over(values)
        if down_s is not None:
            if isinstance(down_s, bool) or not isinstance(down_s, int | float) or down_s < 0:
                raise ParameterError("faults.down_s", down_s, "a number of seconds, 0 or more")
            self._down_until = self._clock() + down_s
        self.plan = plan
        return plan

    @property
    def down(self) -> bool:
        """Whether an outage is on."""
        return self._clock() < self._down_until

    def next(self, digest: str, own: str | None = None) -> Fault:
        """The fault for this arrival of a request.

        Args:
            digest: The request's digest.
            own: Value of the request's fault header.

        Raises:
            ParameterError: The header is not a plan.
        """
        plan = self._laid_over(_decode_header(own)) if own else self.plan
        if self.down:
            return Fault("down")
        wait = self._over_limit(plan.requests_per_minute)
        if wait is not None:
            return Fault("http_429", retry_after_s=wait)
        if plan == FaultPlan():
            return Fault("none")
        self._attempts[digest] += 1
        chance = self._knowledge.chance("fault", digest, self._attempts[digest])
        delay = plan.latency_s * (math.exp(chance.gauss(0.0, plan.latency_sigma)) if plan.latency_sigma else 1.0)
        rates: tuple[tuple[Kind, float], ...] = (
            ("http_500", plan.http_500_rate),
            ("http_429", plan.http_429_rate),
            ("garbage_json", plan.garbage_json_rate),
            ("truncated", plan.truncated_rate),
            ("sloppy", plan.sloppy_rate),
        )
        kind: Kind = "none"
        for candidate, rate in rates:
            if chance.random() < rate:
                kind = candidate
                break
        return Fault(kind, delay, plan.retry_after_s)

    def _laid_over(self, values: dict[str, object]) -> FaultPlan:
        return parse_options(FaultPlan, msgspec.structs.asdict(self.plan) | values, "faults")

    def _over_limit(self, per_minute: int) -> float | None:
        """Seconds to wait when this request would be one too many; it is counted otherwise."""
        if not per_minute:
            return None
        now = self._clock()
        while self._recent and self._recent[0] <= now - _MINUTE_S:
            self._recent.popleft()
        if len(self._recent) >= per_minute:
            return self._recent[0] + _MINUTE_S - now
        self._recent.append(now)
        return None


def _decode_header(text: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ParameterError("faults", text, f"a JSON object of fault names and values ({error})") from error
