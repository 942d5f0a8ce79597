"""How many requests are in flight, and how fast they go out."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from components.teacher.http.failures import Failure
from components.teacher.options import TeacherOptions
from components.teacher.pacing.circuit import Circuit
from components.teacher.pacing.rates import Gcra, told_by
from components.teacher.pacing.window import STORM, TOLERANCE, Window


class Permit(NamedTuple):
    """Leave to send one attempt.

    Attributes:
        epoch: Storms before it; what is told of an earlier one is not news.
        probe: Whether it goes to see if anybody is at home.
        tokens: Tokens that it was thought to cost.
    """

    epoch: int
    probe: bool
    tokens: int


class _Waiter(NamedTuple):
    future: asyncio.Future[Permit]
    tokens: int


class Pacer:
    """Lets attempts go: as many as the window has room for, as fast as the limits allow, first come, first served.

    Args:
        options: Concurrency and limits.
        circuit: Says when nobody is at home.
        on_window: Told the window's size when it changes.
        clock: Seconds from any start, as fast as the event loop's clock.
        sharers: How many processes share the limits of the options, this one among them.
    """

    def __init__(
        self,
        options: TeacherOptions,
        circuit: Circuit,
        on_window: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sharers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._options = options
        self._sharers = sharers
        self._divided_by = 1
        self._circuit = circuit
        self._on_window = on_window
        self._clock = clock
        self.window = Window(options.concurrency)
        self._told_window = options.concurrency
        on_window(options.concurrency)
        self._in_flight = 0
        self._epoch = 0
        self._held_until = 0.0
        self._longest_wait_s = 0.0
        self._storms = 0
        self._requests = _limit(options.requests_per_minute)
        self._tokens = _limit(options.tokens_per_minute)
        self._pace: Gcra | None = None
        self._last_storm: float | None = None
        self._answers = 0
        self._again: deque[_Waiter] = deque()
        self._new: deque[_Waiter] = deque()
        self._probed: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, tokens: int, *, again: bool = False, probed: bool = False) -> Permit:
        """Wait for leave to send an attempt.

        Args:
            tokens: What it will probably cost.
            again: A further attempt: it goes before new requests.
            probed: The last attempt was a probe: as long as nobody is at home, others go first.

        Raises:
            TeacherError: Nobody has been at home for too long.
        """
        if again and self._circuit.given_up is not None:
            raise self._circuit.error(self._circuit.given_up)
        if not (self._again or self._new or self._probed) and self._ready_at(tokens) == 0.0:
            return self._admit(tokens)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tokens)
        (self._probed if probed and self._circuit.is_open else self._again if again else self._new).append(waiter)
        self._pump()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and not waiter.future.exception():
                self._circuit.cancelled(waiter.future.result().probe)
                self.cancel()
            raise

    def leave(self, permit: Permit, refused: bool, wait_s: float | None = None, spent_tokens: int | None = None) -> None:
        """An attempt has ended.

        Args:
            permit: What it went out with.
            refused: Whether the endpoint takes no more for now (HTTP 429).
            wait_s: What it asks to wait.
            spent_tokens: What it has cost; None when nobody says.
        """
        if spent_tokens is not None and self._tokens is not None:
            self._tokens.correct(spent_tokens - permit.tokens)
        if permit.epoch == self._epoch:
            if refused:
                self._longest_wait_s = max(self._longest_wait_s, wait_s or 0.0)
            else:
                self._storms = 0
                self._answers += 1
            share = self.window.outcome(refused)
            if share is not None:
                self._end_round(share)
            if self.window.size != self._told_window:
                self._told_window = self.window.size
                self._on_window(self._told_window)
        self._free()

    def cancel(self) -> None:
        """An attempt was broken off by whoever asked, or met nobody: it says nothing about limits."""
        self._free()

    def restart(self) -> None:
        """Somebody is at home again: go slowly at first."""
        self._epoch += 1
        self.window.restart()
        self._again.extendleft(reversed(self._probed))
        self._probed.clear()
        self._pump()

    def flush(self, failure: Failure) -> None:
        """Nobody will answer: everybody who waits is told."""
        for queue in (self._again, self._probed, self._new):
            for waiter in queue:
                if not waiter.future.done():
                    waiter.future.set_exception(self._circuit.error(failure))
            queue.clear()

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn from a response's headers what is left."""
        now = 0.0
        for unit in ("requests", "tokens"):
            told = told_by(headers, unit)
            if told is None or told.remaining is None:
                continue
            now = now or self._clock()
            if told.limit and not getattr(self._options, f"{unit}_per_minute"):
                self._learn(unit, told.limit, told.remaining, now)
            if told.remaining < 1 and told.reset_s and not told.limit:
                # Where the limit is known its pace says when the next one may go: the reset is when all of it is free again.
                self._hold(now, told.reset_s)

    def _learn(self, unit: str, limit: float, remaining: float, now: float) -> None:
        gcra: Gcra | None = getattr(self, f"_{unit}")
        if gcra is None or gcra.per_minute != limit:
            # The endpoint's own bucket holds a whole minute's units.
            gcra = Gcra(limit, limit)
            setattr(self, f"_{unit}", gcra)
        gcra.left(now, remaining)

    def _end_round(self, share: float) -> None:
        if share > STORM:
            self._storm()
        elif self._pace is not None:
            self._pace.change(self._pace.per_minute * (1 - share / 2 if share > TOLERANCE else 1 + TOLERANCE - share), 1)
        self._longest_wait_s = 0.0

    def _storm(self) -> None:
        """Nothing goes before the time that the endpoint asks for; where it asks for none, the wait doubles each time."""
        now = self._clock()
        self._epoch += 1
        self._storms += 1
        backoff = min(self._options.max_backoff_s, self._options.backoff_s * 2.0 ** min(self._storms - 1, 30))
        self._hold(now, self._longest_wait_s or backoff)
        if self._requests is None and self._answers and self._last_storm is not None:
            # An endpoint that does not tell its limit shows it: by what it answers from one storm to the next.
            self._pace = Gcra(60 * self._answers / max(now - self._last_storm, 0.001), 1)
        self._last_storm, self._answers = now, 0

    def _hold(self, now: float, seconds: float) -> None:
        seconds = min(seconds, self._options.max_retry_after_s) * random.uniform(1.0, 1.1)
        self._held_until = max(self._held_until, now + seconds)

    def _free(self) -> None:
        self._in_flight -= 1
        if self._again or self._new or self._probed:
            self._pump()

    def _ready_at(self, tokens: int) -> float:
        """When the next attempt may go by the clock: 0 for now, infinity for when another one has ended."""
        if self._in_flight >= self.window.size and not self._circuit.is_open:
            return math.inf
        probe_at = self._circuit.ready_at()
        if probe_at is None:
            return math.inf
        requests = self._requests or self._pace
        if not probe_at and not self._held_until and requests is None and self._tokens is None:
            return 0.0
        self._share()
        now = self._clock()
        at = max(probe_at, self._held_until)
        if self._held_until <= now:
            self._held_until = 0.0
        if requests is not None:
            at = max(at, requests.ready_at(now, 1))
        if self._tokens is not None:
            at = max(at, self._tokens.ready_at(now, tokens))
        return at if at > now else 0.0

    def _share(self) -> None:
        """Give each of the processes at work an equal part of the limits of the options."""
        if (sharers := self._sharers()) == self._divided_by:
            return
        self._divided_by = sharers
        for limit, gcra in ((self._options.requests_per_minute, self._requests), (self._options.tokens_per_minute, self._tokens)):
            if limit and gcra is not None:
                gcra.change(*_rate(limit / sharers))

    def _admit(self, tokens: int) -> Permit:
        self._in_flight += 1
        requests = self._requests or self._pace
        if requests is not None:
            requests.take(self._clock(), 1)
        if self._tokens is not None:
            self._tokens.take(self._clock(), tokens)
        return Permit(self._epoch, self._circuit.started(), tokens)

    def _pump(self) -> None:
        """Let those go who may, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for queue in (self._again, self._new, self._probed):
            while queue:
                waiter = queue[0]
                if waiter.future.done():
                    queue.popleft()
                    continue
                at = self._ready_at(waiter.tokens)
                if at:
                    if at < math.inf:
                        self._timer = asyncio.get_running_loop().call_later(max(at - self._clock(), 0.0), self._pump)
                    return
                queue.popleft()
                waiter.future.set_result(self._admit(waiter.tokens))


def _limit(per_minute: int) -> Gcra | None:
    """A limit from the options."""
    return Gcra(*_rate(per_minute)) if per_minute else None


def _rate(per_minute: float) -> tuple[float, float]:
    """Rate and burst: at most a second's worth at once."""
    return per_minute, max(per_minute / 60, 1.0)
