"""What a run may spend, and what it has spent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from components.core.errors import BudgetError
from components.teacher.options import TeacherOptions

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English text, used only before an endpoint has counted."""


class Budget:
    """Admits requests as long as what is spent and what those in flight will probably cost stay below the limits.

    Args:
        options: Limits and prices.
    """

    def __init__(self, options: TeacherOptions) -> None:
        self._options = options
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._answered = 0
        self._reserved: dict[int, float] = {}
        self._changed = asyncio.Event()

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self._options.max_usd or self._options.max_tokens)

    @property
    def usd(self) -> float:
        """Dollars spent."""
        return self._options.usd(self.prompt_tokens, self.completion_tokens)

    @property
    def used(self) -> float:
        """Share of the tighter limit that is spent, 0 to 1; 0 without any limit."""
        tokens = (self.prompt_tokens + self.completion_tokens) / self._options.max_tokens if self._options.max_tokens else 0.0
        return max(tokens, self.usd / self._options.max_usd if self._options.max_usd else 0.0)

    def add(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Count a request that was answered."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self._answered += 1

    async def admit(self, messages: Sequence[dict[str, str]]) -> int:
        """Wait until a request may go out.

        Returns:
            A ticket for :meth:`release`.

        Raises:
            BudgetError: Nothing is in flight any more and the request would exceed a limit.
        """
        prompt = sum(len(message["content"]) for message in messages) / CHARACTERS_PER_TOKEN
        while self.limited and not self._fits(prompt):
            if not self._reserved:
                raise BudgetError(
                    f"the teacher's budget is spent: {self._spent()}",
                    "raise the limit and run again: everything paid for is stored and will not be asked again",
                )
            self._changed.clear()
            await self._changed.wait()
        ticket = max(self._reserved, default=0) + 1
        self._reserved[ticket] = prompt
        return ticket

    def release(self, ticket: int) -> None:
        """The request of this ticket is over, whatever came of it."""
        del self._reserved[ticket]
        self._changed.set()

    def _fits(self, prompt_tokens: float) -> bool:
        """Whether one more request is affordable if it and those in flight cost what requests have cost so far."""
        if self._reserved and not self._answered:
            # The first reply tells what a reply costs.
            return False
        answered = max(self._answered, 1)
        pending = [prompt_tokens, *self._reserved.values()]
        prompt = self.prompt_tokens + sum(max(tokens, self.prompt_tokens / answered) for tokens in pending)
        completion = self.completion_tokens + len(pending) * self.completion_tokens / answered
        if self._options.max_tokens and prompt + completion > self._options.max_tokens:
            return False
        return not self._options.max_usd or self._options.usd(prompt, completion) <= self._options.max_usd

    def _spent(self) -> str:
        parts = []
        if self._options.max_tokens:
            parts.append(f"{self.prompt_tokens + self.completion_tokens} of teacher.max_tokens = {self._options.max_tokens} tokens")
        if self._options.max_usd:
            parts.append(f"{self.usd:.4f} of teacher.max_usd = {self._options.max_usd:g} dollars")
        return " and ".join(parts) + ", and the next request would go beyond"
