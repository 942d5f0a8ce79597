"""The one client of every stage that talks to a language model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import msgspec

from components.core.errors import StoreError
from components.core.records import Usage
from components.core.redaction import environment_secrets, redact_json
from components.core.stage import StageRun
from components.core.store import open_store
from components.teacher.http.completions import Completion, TokenCounts, decode_completion
from components.teacher.http.failures import ReplyError
from components.teacher.http.requests import request_body
from components.teacher.metrics import TeacherMetrics
from components.teacher.options import TeacherOptions
from components.teacher.pacing.sender import Sender
from components.teacher.responses.keys import canonical_request, key_of
from components.teacher.responses.store import ResponseStore
from components.teacher.sharing.budget import CHARACTERS_PER_TOKEN, Budget
from components.teacher.sharing.claims import BEAT_S, GRANTED, HELD, POLL_S, Claims
from components.teacher.sharing.shared_log import open_log
from components.teacher.sharing.spending import Spending, day_of

__all__ = ["Reply", "ReplyError", "Teacher"]

LAST_WAIT_S = 10.0
"""At an interrupt, requests in flight get so long to bring home what is paid for."""
CLAIMS = "claims"
"""Key of the log in which the processes of a response store tell what they ask."""


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

    Any number of coroutines may call :meth:`chat` at once; ``options.concurrency`` of their requests are in flight at most. A request
    is answered from the store when it has been answered before, in this run or any other; equal requests are sent once, also when
    several processes want them at the same time. Each reply is stored before it is returned.

    Args:
        options: Endpoint, limits and prices.
        responses: The response store's address (a folder or ``s3://bucket/prefix``).
        task: The task that asks, for the labels of the metrics.

    Environment:
        TUTORLOOP_RUN: Name of the run. Its processes share one budget through the response store; without it each has its own.
    """

    def __init__(self, options: TeacherOptions, responses: str, task: StageRun | None = None) -> None:
        options.check("teacher")
        self.options = options
        self._address = responses
        self._metrics = TeacherMetrics(task)
        self._secrets = environment_secrets()
        self._counts: Counter[str] = Counter()
        self._task = task
        self._running: dict[str, asyncio.Task[Reply]] = {}
        self._hearing: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._released = asyncio.Event()
        self._storing: set[asyncio.Task[Any] | None] = set()
        self._unusable: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Teacher:
        self._run = os.environ.get("TUTORLOOP_RUN") or f"manual-{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:8]}"
        self._writer = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:12]}"
        self._budget = Budget(self.options, self._run)
        store = await asyncio.to_thread(open_store, self._address)
        async with contextlib.AsyncExitStack() as stack:
            self._sender = Sender(self.options, self._metrics, self._note_unusable, sharers=lambda: self._claims.sharers)
            if self._task is not None:
                self._task.asking = lambda: self.usage
            stack.push_async_callback(self._sender.close)
            log = await asyncio.to_thread(open_log, store, CLAIMS)
            self._claims = Claims(log, self._writer, self._budget, self.options.teacher, lambda key: self._responses.known(key))
            # What others store from now on is claimed where this process reads it; everything before is in the index.
            await self._claims.join()
            # The log still has their accounts; the store, as it is loaded after this, has what they have spent.
            departed = self._claims.departed()
            stack.push_async_callback(self._claims.leave)
            self._responses = ResponseStore(store, self._run, self._writer)
            stack.push_async_callback(asyncio.to_thread, self._responses.close)
            await asyncio.to_thread(self._responses.load)
            self._settle_budget(departed)
            if (everything := self._responses.spent()).tokens:
                self._budget.expect(everything.over(len(self._responses) or 1))
            self._beating = asyncio.create_task(self._beat())
            self._resources = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._beating.cancel()
        self._sender.stop()
        try:
            await self._bring_home()
        finally:
            try:
                await self._resources.aclose()
            except StoreError:
                # A store that cannot be told good-bye must not hide why the work ended.
                if error is None:
                    raise

    async def _bring_home(self) -> None:
        """Wait for what the endpoint has been asked, and break the rest off."""
        charged = self._sender.attempting | self._storing
        helpers = [task for task in (self._beating, self._hearing) if task is not None]
        for task in [*helpers, *(task for task in self._running.values() if task not in charged)]:
            task.cancel()
        waited_for: set[asyncio.Task[Any]] = {*self._running.values(), *self._unusable, *helpers}
        _, late = await asyncio.wait(waited_for, timeout=LAST_WAIT_S)
        for task in late:
            task.cancel()

    @property
    def workers(self) -> int:
        """Items to have under way at once: more than may be in flight, so that those that wait before another attempt, or for another
        process's reply, leave no place in flight empty."""
        return 2 * self.options.concurrency

    @property
    def spent_today(self) -> Spending:
        """What all processes of the response store have spent today (UTC)."""
        return self._budget.today

    @property
    def usage(self) -> Usage:
        """What this client has asked for so far."""
        prompt, completion = self._counts["prompt_tokens"], self._counts["completion_tokens"]
        return Usage(
            requests=self._counts["requests"],
            cache_hits=self._counts["cache_hits"],
            retries=self._sender.retries,
            failures=self._sender.failures,
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
        canonical = canonical_request(self.options.model, messages, parameters, sample)
        key = key_of(canonical)
        task = self._running.get(key)
        if task is None:
            if (stored := await self._responses.get(key)) is not None:
                return self._from_store(stored, messages)
            task = self._running.get(key)
        if task is not None:
            reply = await asyncio.shield(task)
            self._count_hit()
            return replace(reply, cached=True)
        task = asyncio.create_task(self._answer(key, canonical, messages, request_body(self.options, messages, parameters, sample)))
        self._running[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: str, task: asyncio.Task[Reply]) -> None:
        del self._running[key]
        if not task.cancelled():
            # Marks the exception as seen when the caller was cancelled meanwhile.
            task.exception()

    async def _answer(self, key: str, canonical: bytes, messages: Sequence[dict[str, str]], body: Mapping[str, Any]) -> Reply:
        """The reply of the endpoint or, when another process has asked meanwhile, of the store."""
        told = False
        while True:
            estimate = self._budget.estimate(messages)
            outcome = await self._claims.take(key, estimate)
            if outcome == GRANTED:
                return await self._ask(key, canonical, messages, msgspec.json.encode(body), estimate)
            if outcome == HELD:
                if not told:
                    self._metrics.shared_waits.inc()
                told = True
                await self._wait_for_holder(key)
                if (stored := await self._responses.get(key)) is not None:
                    return self._from_store(stored, messages)
            elif self._budget.may_fit_later(estimate):
                await self._wait_for_release()
            elif not self._budget.fits(estimate):
                raise self._budget.error(estimate)

    async def _ask(self, key: str, canonical: bytes, messages: Sequence[dict[str, str]], body: bytes, estimate: Spending) -> Reply:
        try:
            answer = await self._sender.send(body, int(estimate.tokens))
            # A teacher may say anything, the key that it was sent included.
            raw = redact_json(answer.raw, self._secrets)
            completion = answer.completion if raw is answer.raw else decode_completion(raw)
            tokens = _tokens(completion, messages)
            spending = self._count_cost(*tokens)
            self._counts["requests"] += 1
            self._storing.add(asyncio.current_task())
            await self._responses.put(key, canonical, raw, spending)
        except Exception:
            # The store's own error would hide the first one.
            with contextlib.suppress(StoreError):
                await self._claims.settle(key, stored=False)
            raise
        finally:
            self._storing.discard(asyncio.current_task())
            self._budget.release(key)
            if self._budget.limited:
                self._released.set()
                self._released = asyncio.Event()
        await self._claims.settle(key, stored=True)
        return _reply(completion, *tokens, cached=False)

    def _count_cost(self, prompt: int, completion: int) -> Spending:
        spending = Spending(prompt, completion, self.options.usd(prompt, completion))
        self._budget.spend(spending)
        self._counts["prompt_tokens"] += prompt
        self._counts["completion_tokens"] += completion
        self._metrics.prompt_tokens.inc(prompt)
        self._metrics.completion_tokens.inc(completion)
        if spending.usd:
            self._metrics.dollars.inc(spending.usd)
        if self._budget.limited:
            self._show_budget()
        return spending

    def _note_unusable(self, usage: TokenCounts) -> None:
        """A reply that holds no text was charged all the same."""
        task = asyncio.create_task(self._store_spending(self._count_cost(usage.prompt_tokens, usage.completion_tokens)))
        self._unusable.add(task)
        task.add_done_callback(self._unusable.discard)

    async def _store_spending(self, spending: Spending) -> None:
        # Without a store the next reply cannot be stored either, and says so.
        with contextlib.suppress(StoreError):
            await self._responses.put_spending(spending)

    def _show_budget(self) -> None:
        for limit in self._budget.limits():
            self._metrics.budget(limit.name, limit.spent / limit.maximum, max(0.0, limit.maximum - limit.spent))

    def _from_store(self, raw: bytes, messages: Sequence[dict[str, str]]) -> Reply:
        self._count_hit()
        completion = decode_completion(raw)
        return _reply(completion, *_tokens(completion, messages), cached=True)

    def _count_hit(self) -> None:
        self._counts["cache_hits"] += 1
        self._metrics.cache_hits.inc()

    async def _wait_for_holder(self, key: str) -> None:
        """Wait until another process's reply may be in the store, or the key is free again."""
        if self._claims.asking(key):
            await self._hear()
            return
        # A look that is under way may have passed the place where the reply is now: what counts is one that begins after it was stored.
        if self._hearing is not None and not self._hearing.done():
            await asyncio.shield(self._hearing)
        await self._hear()
        if not self._responses.known(key) and not self._claims.asking(key):
            self._claims.forget(key)

    async def _wait_for_release(self) -> None:
        """Wait until what requests in flight cost is known better."""
        released = self._released
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_S):
                await released.wait()
                return
        await self._hear()

    async def _hear(self) -> None:
        """Take in what the other processes have done; at most once in :data:`POLL_S`, for all that wait."""
        if self._hearing is None or self._hearing.done():
            self._hearing = asyncio.create_task(self._take_in_news())
        await asyncio.shield(self._hearing)

    async def _take_in_news(self) -> None:
        await asyncio.sleep(self._heard_at + POLL_S - time.monotonic())
        self._heard_at = time.monotonic()
        await self._claims.look()
        if gap := self._claims.gap:
            departed = self._claims.departed()
            await self._responses.refresh()
            # Some that are not among them may have come and gone unheard.
            self._settle_budget(departed - self._claims.others)
            self._claims.dealt_with(departed)
            self._claims.close_gap(gap)
        else:
            await self._responses.refresh(self._claims.others)
        await self._say_farewell()

    async def _say_farewell(self) -> None:
        """What processes that are gone have spent counts as the store has it."""
        if departed := self._claims.departed():
            await self._responses.refresh(departed)
            self._settle_budget(departed - self._claims.others)
            self._claims.dealt_with(departed)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            # A store that is away is told by those who need it.
            with contextlib.suppress(StoreError):
                await self._claims.beat()
                await self._claims.look()
                await self._say_farewell()

    def _settle_budget(self, departed: Collection[str] = ()) -> None:
        here, day = self._claims.others | {self._writer}, day_of(time.time())
        self._budget.settle(self._responses.spent(run=self._run, without=here), day, self._responses.spent(day=day, without=here), departed)
        self._show_budget()


def _tokens(completion: Completion, messages: Sequence[dict[str, str]]) -> tuple[int, int]:
    """Tokens of request and reply: the endpoint's count, or an estimate when it gives none."""
    if completion.usage is not None:
        return completion.usage.prompt_tokens, completion.usage.completion_tokens
    prompt = sum(len(message["content"]) for message in messages)
    return -(-prompt // CHARACTERS_PER_TOKEN), -(-completion.characters // CHARACTERS_PER_TOKEN)


def _reply(completion: Completion, prompt: int, reply: int, cached: bool) -> Reply:
    return Reply(completion.text, completion.choices[0].finish_reason or "stop", cached, prompt, reply)
