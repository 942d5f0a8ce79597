"""A circuit breaker: when nobody is at home, one request at a time knocks until somebody answers, and the others wait."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from components.core.errors import TeacherError
from components.teacher.http.failures import Failure, unreachable
from components.teacher.options import TeacherOptions

OPENS_AFTER = 10
"""Consecutive failures that open the circuit. A server that fails one request in ten at random has such a row once in 10^10 requests."""

OPENS_AFTER_REQUESTS = 2
"""Of so many requests at least: one that brings down whoever gets it says nothing about the others."""


class Circuit:
    """Closed while answers come; open from a row of failures until the next answer.

    Args:
        options: Back-off and the longest outage.
        name: The endpoint, for people.
        on_change: Told whether it is open, whenever that changes.
        clock: Seconds, from any start.
    """

    def __init__(
        self,
        options: TeacherOptions,
        name: str,
        on_change: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._name = name
        self._on_change = on_change
        self._clock = clock
        self.is_open = False
        """Whether requests wait."""
        self.given_up: Failure | None = None
        """What the last probe met, once the endpoint has been away for too long."""
        self._failures = 0
        self._failed_requests: set[int] = set()
        self._since = 0.0
        self._since_text = ""
        self._probing = False
        self._probes = 0
        self._next_probe = 0.0
        self._outages_s = 0.0

    @property
    def outages_s(self) -> float:
        """Time that outages have taken so far; what a request's deadline is to be put off by."""
        return self._outages_s + (self._clock() - self._since if self.is_open else 0.0)

    def ready_at(self) -> float | None:
        """When the next request may go: at once (0), at the next probe's time, or, with one under way, when that is over (None)."""
        if not self.is_open:
            return 0.0
        return None if self._probing else self._next_probe

    def started(self) -> bool:
        """A request goes out.

        Returns:
            Whether it is a probe.
        """
        self._probing = self.is_open
        return self._probing

    def answered(self) -> bool:
        """Somebody is at home.

        Returns:
            Whether that closed the circuit.
        """
        if not self._failures:
            return False
        was_open, self._outages_s = self.is_open, self.outages_s
        self.is_open = self._probing = False
        self._failures = self._probes = 0
        self._failed_requests.clear()
        self.given_up = None
        if was_open:
            self._on_change(False)
        return was_open

    def failed(self, failure: Failure, request: int, probe: bool) -> None:
        """An attempt met nobody.

        Args:
            failure: What it met.
            request: Which request it was for.
            probe: Whether it was a probe.
        """
        now = self._clock()
        if not self._failures:
            self._since = now
            self._since_text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._failures += 1
        if len(self._failed_requests) < OPENS_AFTER_REQUESTS:
            self._failed_requests.add(request)
        if probe:
            self._probing = False
            self._probe_failed(failure, now)
        elif not self.is_open and self._failures >= OPENS_AFTER and len(self._failed_requests) >= OPENS_AFTER_REQUESTS:
            self.open(failure)

    def cancelled(self, probe: bool) -> None:
        """An attempt was broken off by whoever asked."""
        self._probing = self._probing and not probe

    def silent_since(self, moment: float) -> bool:
        """Whether nothing has been answered since then."""
        return self._failures > 0 and self._since <= moment

    def open(self, failure: Failure) -> bool:
        """Take the endpoint for down.

        Returns:
            Whether it is to be waited for.
        """
        if self._options.max_outage_s and not self.is_open:
            self.is_open = True
            self._probes = 0
            self._next_probe = self._clock() + self._backoff()
            self._on_change(True)
            print(f"{failure.message}; asking again for up to {self._options.max_outage_s:g} s", flush=True)
        return self.is_open

    def error(self, failure: Failure) -> TeacherError:
        """What to tell those who have waited for nothing.

        Args:
            failure: What the last probe met.
        """
        return TeacherError(
            f"{self._name} has not answered since {self._since_text} ({self._clock() - self._since:.0f} s, {self._failures} attempts); "
            f"the last: {failure.message}",
            f"{unreachable(failure).hint}; everything paid for is stored: run again to go on from there, or raise teacher.max_outage_s",
        )

    def _probe_failed(self, failure: Failure, now: float) -> None:
        end = self._since + self._options.max_outage_s
        self._probes += 1
        if now >= end:
            self.given_up = failure
            self._next_probe = now
        else:
            self._next_probe = min(now + self._backoff(), end)

    def _backoff(self) -> float:
        ceiling = min(self._options.max_backoff_s, self._options.backoff_s * 2.0 ** min(self._probes, 30))
        return random.uniform(0.5, 1.0) * ceiling
