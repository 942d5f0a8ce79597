"""Sends a request until it is answered or given up: pacing, attempts, back-off, deadline, outages."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.core.errors import TeacherError
from components.core.redaction import redact
from components.teacher.http.completions import TokenCounts
from components.teacher.http.endpoint import Answer, Endpoint
from components.teacher.http.failures import GONE, Failure, ReplyError, unreachable
from components.teacher.metrics import TeacherMetrics
from components.teacher.options import TeacherOptions, endpoint_address
from components.teacher.pacing.circuit import Circuit
from components.teacher.pacing.pacer import Pacer, Permit


@dataclass
class _Request:
    """How far a request has come.

    Attributes:
        number: Its number.
        tokens: What it will probably cost.
        started: When its first attempt went out.
        outages_s: Time that outages had taken by then.
        attempts: Attempts so far.
        failures: Those that count against the retries.
        first_failure: When an attempt first met nobody.
        answers: Answers that others had got at the last failure, before it when the first attempt went out.
        probed: Whether the last attempt was a probe.
        last: What the last attempt met.
    """

    number: int
    tokens: int
    started: float = 0.0
    outages_s: float = 0.0
    attempts: int = 0
    failures: int = 0
    first_failure: float = 0.0
    answers: int = 0
    probed: bool = False
    last: Failure | None = None


class Sender:
    """Sends any number of requests at once. To be made where an event loop runs.

    Args:
        options: Endpoint and limits.
        metrics: Told of every attempt.
        on_unusable: Told what a reply without a usable text was charged for.
        clock: Seconds from any start, as fast as the event loop's clock.
        sharers: How many processes share the limits a minute of the options, this one among them.

    Attributes:
        attempting: Tasks whose request is with the endpoint just now.
        retries: Further attempts after a failed one, so far.
        failures: Requests given up, so far.
    """

    def __init__(
        self,
        options: TeacherOptions,
        metrics: TeacherMetrics,
        on_unusable: Callable[[TokenCounts], None],
        clock: Callable[[], float] = time.monotonic,
        sharers: Callable[[], int] = lambda: 1,
    ) -> None:
        self.attempting: set[asyncio.Task[Any] | None] = set()
        self.retries = 0
        self.failures = 0
        self._options = options
        self._metrics = metrics
        self._on_unusable = on_unusable
        self._clock = clock
        self._circuit = Circuit(options, redact(endpoint_address(options)), metrics.circuit, clock)
        self._pacer = Pacer(options, self._circuit, metrics.window, clock, sharers)
        self._endpoint = Endpoint(options, self._pacer.observe)
        self._numbers = itertools.count()
        self._answers = 0
        self._failures_in_row = 0
        self._stopped = False

    def stop(self) -> None:
        """Start no attempt any more; those under way come to their end."""
        self._stopped = True

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def send(self, body: bytes, tokens: int) -> Answer:
        """Send a request until it is answered.

        Args:
            body: Its JSON.
            tokens: What it will probably cost, prompt and reply, for the limit of tokens a minute.

        Returns:
            The reply.

        Raises:
            ReplyError: This request failed for good; others may succeed.
            TeacherError: Every other request would fail as well.
        """
        request = _Request(next(self._numbers), tokens)
        while True:
            result = await self._attempt(body, request)
            if isinstance(result, Answer):
                self._failures_in_row = 0
                return result
            error = self._error(result, request)
            wait_s = self._wait(result, request)
            request.answers = self._answers
            if error is None and wait_s >= self._time_left(request):
                error = self._late(result, request)
            if error is not None:
                self.failures += 1
                raise error from await _cause(result)
            if self._stopped:
                raise _interrupted()
            self.retries += 1
            self._metrics.retries.inc()
            if wait_s:
                await asyncio.sleep(wait_s)

    async def _attempt(self, body: bytes, request: _Request) -> Answer | Failure:
        """One attempt, as soon as it may go."""
        permit = await self._permit(request)
        started = self._clock()
        if not request.attempts:
            request.started, request.outages_s, request.answers = started, self._circuit.outages_s, self._answers
        request.attempts += 1
        request.probed = permit.probe
        time_left = self._time_left(request)
        in_time = time_left >= self._options.timeout_s
        self._metrics.in_flight.inc()
        task = asyncio.current_task()
        self.attempting.add(task)
        try:
            result = await self._endpoint.complete(body, self._options.timeout_s if in_time else max(time_left, 0.001))
        except BaseException:
            self._circuit.cancelled(permit.probe)
            self._pacer.cancel()
            raise
        finally:
            self._metrics.in_flight.dec()
            self.attempting.discard(task)
        self._metrics.latency.observe(self._clock() - started)
        if isinstance(result, Answer):
            self._metrics.attempt("answered")
            self._answers += 1
            usage = result.completion.usage
            self._at_home(permit, False, None, usage.prompt_tokens + usage.completion_tokens if usage is not None else None)
        else:
            self._metrics.attempt(result.outcome)
            request.last = result
            self._failed(result, request, permit, in_time)
        return result

    async def _permit(self, request: _Request) -> Permit:
        """Wait for leave to go; the deadline runs from the first attempt."""
        if self._stopped:
            raise _interrupted()
        try:
            if request.last is None:
                return await self._pacer.enter(request.tokens)
            while self._time_left(request) > 0:
                with contextlib.suppress(TimeoutError):
                    # The deadline stands still in an outage: less than this would only ask again and again.
                    async with asyncio.timeout(max(self._time_left(request), 1.0)):
                        return await self._pacer.enter(request.tokens, again=True, probed=request.probed)
        except TeacherError as error:
            self.failures += 1
            raise error from await _cause(self._circuit.given_up)
        self.failures += 1
        raise self._late(request.last, request) from await _cause(request.last)

    def _failed(self, failure: Failure, request: _Request, permit: Permit, in_time: bool) -> None:
        """Draw the conclusions that concern other requests as well."""
        if failure.usage is not None:
            self._on_unusable(failure.usage)
        if not failure.away:
            refused = failure.outcome == "429" and not failure.fatal
            self._at_home(permit, refused, failure.wait_s, 0 if refused else None)
            return
        if not in_time and failure.outcome == "timeout":
            # It was not given the time to answer.
            self._circuit.cancelled(permit.probe)
        else:
            self._circuit.failed(failure, request.number, permit.probe)
            request.first_failure = request.first_failure or self._clock()
        self._pacer.cancel()
        if self._circuit.given_up is not None:
            self._pacer.flush(self._circuit.given_up)

    def _at_home(self, permit: Permit, refused: bool, wait_s: float | None, spent_tokens: int | None) -> None:
        self._pacer.leave(permit, refused, wait_s, spent_tokens)
        if self._circuit.answered():
            self._pacer.restart()

    def _error(self, failure: Failure, request: _Request) -> TeacherError | None:
        """The error to give the request up with; None when another attempt is worth it."""
        if failure.fatal:
            return unreachable(failure)
        if failure.away and self._circuit.given_up is not None:
            return self._circuit.error(self._circuit.given_up)
        if not failure.passing:
            return self._given_up(failure.message, failure, request)
        if self._counts(failure, request):
            request.failures += 1
        if request.failures <= self._options.max_retries:
            return None
        if failure.outcome in GONE and self._circuit.silent_since(request.first_failure) and self._circuit.open(failure):
            # Not this request's fault: a row that is dropped for it would never be asked again.
            return None
        return self._given_up(failure.message, failure, request)

    def _counts(self, failure: Failure, request: _Request) -> bool:
        """Whether a failed attempt is one of those that a request has."""
        if failure.outcome == "429":
            # The endpoint is busy with the others: their turn, then ours.
            return self._answers == request.answers
        return not (request.probed or (failure.away and self._circuit.is_open))

    def _given_up(self, message: str, failure: Failure, request: _Request) -> TeacherError:
        self._failures_in_row += 1
        retries = request.attempts - 1
        message += f" (after {retries} retries)" if retries else ""
        if self._failures_in_row < self._options.max_failures_in_row:
            return ReplyError(message)
        return TeacherError(
            f"{message}; the last {self._failures_in_row} requests all failed",
            f"{unreachable(failure).hint}; replies so far are stored",
        )

    def _late(self, failure: Failure, request: _Request) -> TeacherError:
        late = f"no answer within teacher.deadline_s = {self._options.deadline_s:g} s; the last attempt: {failure.message}"
        return self._given_up(late, failure, request)

    def _time_left(self, request: _Request) -> float:
        """Seconds that the request's deadline leaves; outages do not count."""
        return self._options.deadline_s - (self._clock() - request.started) + (self._circuit.outages_s - request.outages_s)

    def _wait(self, failure: Failure, request: _Request) -> float:
        """Seconds before the next attempt. Jitter keeps requests that failed together from coming back together."""
        if failure.away and self._circuit.is_open:
            # The circuit says who goes next, and when.
            return 0.0
        if failure.wait_s is not None:
            return min(failure.wait_s, self._options.max_retry_after_s) * random.uniform(1.0, 1.25)
        # Where others have been answered since the last failure the endpoint is well: a longer wait would only make the last rows late.
        doublings = min(request.attempts - 1, 30) if self._answers == request.answers else 0
        ceiling = min(self._options.max_backoff_s, self._options.backoff_s * 2.0**doublings)
        return random.uniform(0.5, 1.0) * ceiling


def _interrupted() -> TeacherError:
    return TeacherError("the work was interrupted", "run again: everything that was paid for is stored")


async def _cause(failure: Failure | None) -> Exception | None:
    if failure is None:
        return None
    # A module that is still being imported is in the table already, without what it will hold.
    if not hasattr(sys.modules.get("openai"), "AsyncOpenAI"):
        # It takes a second, and other requests are in flight.
        await asyncio.to_thread(importlib.import_module, "openai")
    return failure.error
