"""What a run and a day may cost, and what they have cost: by this process, by others at work, and before."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from components.core.errors import BudgetError
from components.teacher.options import TeacherOptions
from components.teacher.sharing.spending import DAY_S, Spending, day_of

CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English text, used only before an endpoint has counted."""


class Account(NamedTuple):
    """What one process has spent since it began, and what its requests in flight will probably cost.

    Attributes:
        run: Name of the run that it works for.
        spent: On that run.
        day: The day (UTC) that ``today`` is about, such as ``2026-11-22``.
        today: Spent on that day.
        held: Estimate for the requests in flight.
    """

    run: str
    spent: Spending
    day: str
    today: Spending
    held: Spending


class Limit(NamedTuple):
    """One of the limits that are set.

    Attributes:
        name: Name of the option.
        maximum: Its value.
        spent: Tokens or dollars spent so far, by all.
    """

    name: str
    maximum: float
    spent: float


NOTHING = Spending()


class Budget:
    """Tells whether one more request is affordable.

    A reply's cost is known only once it is there. Until then it counts as much as the largest so far, so that limits hold while many
    requests are in flight. Where nothing is known at all, the first reply is waited for before others are asked.

    Args:
        options: Limits and prices.
        run: Name of the run.
        clock: Seconds since 1970.

    Attributes:
        limited: Whether there is any limit.
        others: What the other processes at work say, by name.
    """

    def __init__(self, options: TeacherOptions, run: str, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._run = run
        self._clock = clock
        self.limited = bool(options.max_usd or options.max_tokens or options.max_usd_per_day or options.max_tokens_per_day)
        self._spent = self._today = Spending()
        self._day, self._midnight = "", 0.0
        self._turn_the_day()
        self._largest: Spending | None = None
        self._usual: Spending | None = None
        self._reserved: dict[str, Spending] = {}
        self._held = Spending()
        self.others: dict[str, Account] = {}
        self._before_run = self._before_today = Spending()
        self._before_day = self._day

    @property
    def account(self) -> Account:
        """What this process tells the others."""
        self._turn_the_day()
        return Account(self._run, self._spent, self._day, self._today, self._held)

    @property
    def today(self) -> Spending:
        """Spent today by all."""
        return self._totals()[1]

    def may_fit_later(self, estimate: Spending) -> bool:
        """Whether a request that does not fit now may do so once those in flight, of whichever process, have come in for less."""
        in_flight = bool(self._reserved) or any(account.held.tokens for account in self.others.values())
        return in_flight and all(limit.spent + cost <= limit.maximum for limit, cost in self._costs(estimate, estimate))

    def settle(self, run: Spending, day: str, on_that_day: Spending, departed: Collection[str]) -> None:
        """Take over what the response store says.

        Args:
            run: Spent on this run by processes that are not at work now.
            day: A day.
            on_that_day: Spent on it by all runs, likewise.
            departed: Processes that are no longer among the others.
        """
        self._before_run, self._before_day, self._before_today = run, day, on_that_day
        for name in departed:
            self.others.pop(name, None)

    def expect(self, usual: Spending) -> None:
        """Take a first guess of what a reply costs, until one has come.

        Args:
            usual: What others have cost on the average.
        """
        self._usual = usual

    def estimate(self, messages: Sequence[Mapping[str, str]]) -> Spending:
        """What a request will probably cost."""
        prompt = sum(len(message["content"]) for message in messages) / CHARACTERS_PER_TOKEN
        known = self._largest or self._usual or NOTHING
        prompt = max(prompt, known.prompt_tokens)
        return Spending(prompt, known.completion_tokens, self._options.usd(prompt, known.completion_tokens))

    def fits(self, estimate: Spending) -> bool:
        """Whether a request is affordable now, with everything that is in flight."""
        if not self.limited:
            return True
        if self._reserved and not (self._largest or self._usual):
            # The first reply tells what a reply costs.
            return False
        return all(planned <= limit.maximum for limit, planned in self._planned(estimate))

    def reserve(self, key: str, estimate: Spending) -> None:
        """Count a request that is about to be sent."""
        self._reserved[key] = estimate
        self._held = self._held.plus(estimate)

    def release(self, key: str) -> None:
        """The request is over, whatever came of it."""
        estimate = self._reserved.pop(key, NOTHING)
        # From nothing again when nothing is in flight: no rounding adds up.
        self._held = self._held.minus(estimate) if self._reserved else NOTHING

    def spend(self, spending: Spending) -> None:
        """Count a reply that was charged."""
        self._turn_the_day()
        self._spent = self._spent.plus(spending)
        self._today = self._today.plus(spending)
        largest = self._largest or spending
        self._largest = Spending(*map(max, largest, spending))

    def limits(self) -> list[Limit]:
        """The limits that are set, with what is spent so far."""
        return [limit for limit, _ in self._costs(NOTHING, NOTHING)]

    def error(self, estimate: Spending) -> BudgetError:
        """The error for a request that is not affordable any more."""
        told = []
        for limit, planned in self._planned(estimate):
            if planned > limit.maximum:
                amount = f"{limit.spent:.4f} of" if "usd" in limit.name else f"{limit.spent:.0f} of"
                unit = "dollars" if "usd" in limit.name else "tokens"
                told.append(f"{amount} teacher.{limit.name} = {limit.maximum:g} {unit}")
        daily = "; a daily limit is free again at midnight UTC" if any("per_day" in text for text in told) else ""
        return BudgetError(
            f"the teacher's budget is spent: {' and '.join(told)}, and the next request would go beyond",
            f"raise the limit and run again: everything paid for is stored and will not be asked again{daily}",
        )

    def _planned(self, more: Spending) -> list[tuple[Limit, float]]:
        """Each limit with what will be spent once ``more`` and what is in flight have come in."""
        run = day = more.plus(self._held)
        for account in self.others.values():
            day = day.plus(account.held)
            if account.run == self._run:
                run = run.plus(account.held)
        return [(limit, limit.spent + cost) for limit, cost in self._costs(run, day)]

    def _costs(self, run: Spending, day: Spending) -> list[tuple[Limit, float]]:
        """Each limit with its part of what a run or a day is about to cost."""
        options = self._options
        spent, today = self._totals()
        rows = (
            ("max_usd", options.max_usd, spent.usd, run.usd),
            ("max_tokens", options.max_tokens, spent.tokens, run.tokens),
            ("max_usd_per_day", options.max_usd_per_day, today.usd, day.usd),
            ("max_tokens_per_day", options.max_tokens_per_day, today.tokens, day.tokens),
        )
        return [(Limit(name, maximum, so_far), cost) for name, maximum, so_far, cost in rows if maximum]

    def _totals(self) -> tuple[Spending, Spending]:
        """Spent on the run and on the day, by all."""
        self._turn_the_day()
        run, day = self._before_run.plus(self._spent), self._today
        if self._before_day == self._day:
            day = day.plus(self._before_today)
        for account in self.others.values():
            if account.run == self._run:
                run = run.plus(account.spent)
            if account.day == self._day:
                day = day.plus(account.today)
        return run, day

    def _turn_the_day(self) -> None:
        now = self._clock()
        if now >= self._midnight:
            self._day, self._today = day_of(now), Spending()
            self._midnight = now - now % DAY_S + DAY_S
