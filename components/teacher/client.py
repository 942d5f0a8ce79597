"""The one client of every stage that talks to a language model."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from components.core.errors import TeacherError
from components.core.records import Usage
from components.core.stage import StageRun
from components.core.store import Store, open_store
from components.teacher.budget import CHARACTERS_PER_TOKEN, Budget
from components.teacher.endpoint import Endpoint, Failure, decode_completion, unreachable
from components.teacher.metrics import TeacherMetrics
from components.teacher.options import TeacherOptions
from components.teacher.responses import ResponseStore, request_key

GONE = ("connection", "502", "503", "504")
AWAY = (*GONE, "timeout")
"""Outcomes that say that nobody is at home: a restart, a lost node."""

LAST_WAIT_S = 10.0
"""At an interrupt, requests in flight get so long to bring home what is paid for."""


class ReplyError(TeacherError):
    """This one request brought no usable reply; others may."""


@dataclass(frozen=True)
class Reply:
    """What the teacher said.

    Attributes:
        text: The text, stripped.
        finish_reason: ``stop``, ``length``, or what else the endpoint reports.
        cached: Whether nothing was sent for it.
        prompt_tokens: Tokens of the request.
        completion_tokens: Tokens of the reply.
    """

    text: str
    finish_reason: str
    cached: bool
    prompt_tokens: int
    completion_tokens: int


class Teacher:
    """An asynchronous context manager around one endpoint, one response store and one budget.

    Any number of coroutines may call :meth:`chat` at once; ``options.concurrency`` of their requests are in flight. A request is
    answered from the store when it has been answered before, in this run or any other; equal requests that are in flight at the
    same time are sent once. Each reply is stored before it is returned.

    Args:
        options: Endpoint, limits and prices.
        responses: The response store's address (a folder or ``s3://bucket/prefix``).
        task: The task that asks, for the labels of the metrics.

    Environment:
        TUTORLOOP_RUN: Name of the run. Its processes share one budget through the response store; without it each has its own.
    """

    def __init__(self, options: TeacherOptions, responses: str, task: StageRun | None = None) -> None:
        options.check()
        self.options = options
        self._address = responses
        self._metrics = TeacherMetrics(task)
        self._budget = Budget(options)
        self._counts: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(options.concurrency)
        self._running: dict[str, asyncio.Task[Reply]] = {}
        self._failures_in_row = 0
        self._away_since: float | None = None

    async def __aenter__(self) -> Teacher:
        self._endpoint = Endpoint(self.options)
        run = os.environ.get("TUTORLOOP_RUN") or f"manual-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
        store: Store = await asyncio.to_thread(open_store, self._address)
        self._responses = ResponseStore(store, run)
        await asyncio.to_thread(self._responses.load)
        if self._budget.limited:
            for raw in self._responses.replies_of_run():
                self._budget.add(*_tokens(raw, []))
            self._metrics.budget(self._budget.used)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._running:
            _, unfinished = await asyncio.wait(self._running.values(), timeout=LAST_WAIT_S)
            for task in unfinished:
                task.cancel()
        await self._endpoint.close()
        self._responses.close()

    @property
    def usage(self) -> Usage:
        """What this client has asked for so far."""
        prompt, completion = self._counts["prompt_tokens"], self._counts["completion_tokens"]
        return Usage(
            requests=self._counts["requests"],
            cache_hits=self._counts["cache_hits"],
            retries=self._counts["retries"],
            failures=self._counts["failures"],
            prompt_tokens=prompt,
            completion_tokens=completion,
            usd=round(self.options.usd(prompt, completion), 6),
        )

    async def chat(
        self, messages: Sequence[dict[str, str]], *, temperature: float, top_p: float = 1.0, max_tokens: int | None = None, sample: int = 0
    ) -> Reply:
        """Get the teacher's reply to a chat.

        Args:
            messages: ``role`` and ``content`` of each message.
            temperature: 0 for the most likely reply.
            top_p: Nucleus of the sampling.
            max_tokens: Longest reply; ``options.max_reply_tokens`` when None.
            sample: Index among several replies to the same chat.

        Raises:
            ReplyError: This request failed for good; others may succeed.
            BudgetError: The budget is spent; what was in flight is stored.
            TeacherError: The endpoint is unreachable, refuses the key, or fails again and again.
            StoreError: The reply could not be stored.
        """
        parameters: dict[str, float | int | str] = {
            "temperature": float(temperature),
            "top_p": float(top_p),
            "max_tokens": max_tokens or self.options.max_reply_tokens,
        }
        key = request_key(self.options.model, messages, parameters, sample)
        stored = self._responses.get(key)
        if stored is not None:
            self._count_hit()
            return _reply(stored, messages, cached=True)
        task = self._running.get(key)
        if task is not None:
            reply = await asyncio.shield(task)
            self._count_hit()
            return replace(reply, cached=True)
        task = asyncio.create_task(self._ask(key, messages, parameters, sample))
        self._running[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: str, task: asyncio.Task[Reply]) -> None:
        del self._running[key]
        if not task.cancelled():
            # Marks the exception as seen when the caller was cancelled meanwhile.
            task.exception()

    def _count_hit(self) -> None:
        self._counts["cache_hits"] += 1
        self._metrics.cache_hits.inc()

    async def _ask(self, key: str, messages: Sequence[dict[str, str]], parameters: Mapping[str, Any], sample: int) -> Reply:
        ticket = await self._budget.admit(messages)
        try:
            raw = await self._attempts(self._body(messages, parameters, sample))
            prompt, completion = _tokens(raw, messages)
            self._budget.add(prompt, completion)
            if self._budget.limited:
                self._metrics.budget(self._budget.used)
            self._counts.update(requests=1, prompt_tokens=prompt, completion_tokens=completion)
            self._metrics.prompt_tokens.inc(prompt)
            self._metrics.completion_tokens.inc(completion)
            self._metrics.dollars.inc(self.options.usd(prompt, completion))
            await self._responses.put(key, raw)
        finally:
            self._budget.release(ticket)
        return _reply(raw, messages, cached=False)

    def _body(self, messages: Sequence[dict[str, str]], parameters: Mapping[str, Any], sample: int) -> dict[str, Any]:
        body = {
            "model": self.options.model,
            "messages": list(messages),
            "temperature": parameters["temperature"],
            "top_p": parameters["top_p"],
        }
        body[self.options.reply_limit_name] = parameters["max_tokens"]
        if self.options.send_seed:
            body["seed"] = sample
        return body

    async def _attempts(self, body: Mapping[str, Any]) -> bytes:
        """Send a request until it is answered or given up."""
        attempt = 0
        while True:
            result = await self._attempt(body)
            if isinstance(result, bytes):
                self._failures_in_row = 0
                return result
            if not self._may_pass(result, attempt):
                raise self._give_up(result, attempt)
            attempt += 1
            self._counts["retries"] += 1
            self._metrics.retries.inc()
            await asyncio.sleep(self._wait(result, attempt))

    async def _attempt(self, body: Mapping[str, Any]) -> bytes | Failure:
        async with self._slots:
            started = time.monotonic()
            with self._metrics.in_flight.track_inprogress():
                result = await self._endpoint.complete(body)
        self._metrics.latency.observe(time.monotonic() - started)
        self._note_outage(result)
        self._metrics.attempt("answered" if isinstance(result, bytes) else result.outcome)
        return result

    def _note_outage(self, result: bytes | Failure) -> None:
        if isinstance(result, bytes) or result.outcome not in AWAY:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = time.monotonic()
            print(f"{result.message}; asking again for up to {self.options.max_outage_s:g} s", flush=True)

    def _may_pass(self, failure: Failure, attempt: int) -> bool:
        """Whether another attempt is worth it."""
        if not failure.passing or attempt < self.options.max_retries:
            return failure.passing
        return self._away_since is not None and time.monotonic() - self._away_since < self.options.max_outage_s

    def _wait(self, failure: Failure, attempt: int) -> float:
        """Seconds before the next attempt. Jitter keeps requests that failed together from coming back together."""
        if failure.wait_s is not None:
            return min(failure.wait_s, self.options.max_retry_after_s) * random.uniform(1.0, 1.25)
        ceiling = min(self.options.max_backoff_s, self.options.backoff_s * 2.0 ** min(attempt - 1, 30))
        return random.uniform(0.5, 1.0) * ceiling

    def _give_up(self, failure: Failure, retries: int) -> TeacherError:
        self._counts["failures"] += 1
        self._failures_in_row += 1
        if failure.fatal:
            return unreachable(failure)
        tried = f" (after {retries} retries)" if retries else ""
        if failure.outcome in GONE and self.options.max_outage_s:
            # Not this request's fault: a row that is dropped for it would never be asked again.
            return unreachable(failure)
        if self._failures_in_row >= self.options.max_failures_in_row:
            error = unreachable(failure)
            return TeacherError(
                f"{error.message}{tried}; the last {self._failures_in_row} requests all failed", f"{error.hint}; replies so far are stored"
            )
        return ReplyError(f"{failure.message}{tried}")


def _tokens(raw: bytes, messages: Sequence[dict[str, str]]) -> tuple[int, int]:
    """Tokens of request and reply: the endpoint's count, or an estimate when it gives none."""
    completion = decode_completion(raw)
    if completion.usage is not None:
        return completion.usage.prompt_tokens, completion.usage.completion_tokens
    prompt = sum(len(message["content"]) for message in messages)
    return -(-prompt // CHARACTERS_PER_TOKEN), -(-len(completion.text) // CHARACTERS_PER_TOKEN)


def _reply(raw: bytes, messages: Sequence[dict[str, str]], cached: bool) -> Reply:
    completion = decode_completion(raw)
    return Reply(completion.text, completion.choices[0].finish_reason or "stop", cached, *_tokens(raw, messages))
