"""What one more request may cost, with what is in flight, what others spend and what was spent before."""

from __future__ import annotations

import calendar
from typing import Any

import pytest

from components.teacher.options import TeacherOptions
from components.teacher.sharing.budget import Account, Budget
from components.teacher.sharing.spending import Spending

NOON = float(calendar.timegm((2026, 11, 22, 12, 0, 0)))
DAY = "2026-11-22"


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def tokens(prompt: float, completion: float = 0.0) -> Spending:
    return Spending(prompt, completion, (prompt + completion) / 1000)


def budget(clock: Clock | None = None, **limits: Any) -> Budget:
    return Budget(TeacherOptions(**limits), "nightly", clock or Clock())


def other(run: str, spent: float, held: float = 0.0, day: str = DAY) -> Account:
    return Account(run, tokens(spent), day, tokens(spent), tokens(held))


def test_without_limits_everything_fits() -> None:
    unlimited = budget()
    unlimited.spend(tokens(1e12))
    assert not unlimited.limited
    assert unlimited.fits(tokens(1e12))


def test_the_first_reply_is_waited_for() -> None:
    limited = budget(max_tokens=1000)
    assert limited.fits(tokens(10))
    limited.reserve("a", tokens(10))
    assert not limited.fits(tokens(10))
    assert limited.may_fit_later(tokens(10))
    limited.spend(tokens(10, 20))
    limited.release("a")
    assert limited.fits(limited.estimate([]))


def test_a_first_guess_saves_the_wait_until_a_reply_is_known() -> None:
    limited = budget(max_tokens=100)
    limited.expect(tokens(10, 20))
    limited.reserve("a", limited.estimate([]))
    assert limited.fits(tokens(10, 20))
    limited.spend(tokens(5, 5))
    assert limited.estimate([])[:2] == (5, 5)


def test_what_is_in_flight_counts_as_the_largest_so_far() -> None:
    limited = budget(max_tokens=100)
    limited.spend(tokens(10, 20))
    assert limited.estimate([{"content": "x" * 8}])[:2] == (10, 20)
    assert limited.estimate([{"content": "x" * 80}])[:2] == (20, 20), "a longer prompt counts as what it is"
    limited.reserve("a", tokens(10, 20))
    assert limited.fits(tokens(10, 20))
    limited.reserve("b", tokens(10, 20))
    assert not limited.fits(tokens(10, 20))
    limited.release("a")
    limited.spend(tokens(5, 5))
    assert limited.fits(tokens(10, 20))


@pytest.mark.parametrize(
    ("limits", "others", "fits"),
    [
        ({"max_tokens": 100}, {"x": other("nightly", 60)}, False),
        ({"max_tokens": 100}, {"x": other("nightly", 40)}, True),
        ({"max_tokens": 100}, {"x": other("nightly", 40, held=30)}, False),
        ({"max_tokens": 100}, {"x": other("another run", 60)}, True),
        ({"max_tokens_per_day": 100}, {"x": other("another run", 60)}, False),
        ({"max_tokens_per_day": 100}, {"x": other("another run", 60, day="2026-11-21")}, True),
        ({"max_tokens_per_day": 100}, {"x": other("another run", 40, held=30)}, False),
        ({"max_tokens": 100}, {"x": other("another run", 40, held=90)}, True),
        ({"max_tokens_per_day": 100}, {"x": other("another run", 30), "y": other("third", 30)}, False),
        ({"max_tokens": 100, "max_tokens_per_day": 100}, {"x": other("nightly", 30), "y": other("third", 30)}, False),
    ],
)
def test_others_at_work_count(limits: dict[str, Any], others: dict[str, Account], fits: bool) -> None:
    limited = budget(**limits)
    limited.spend(tokens(10, 10))
    limited.others.update(others)
    assert limited.fits(tokens(10, 15)) is fits


def test_what_can_never_fit_is_not_waited_for() -> None:
    limited = budget(max_tokens=100)
    limited.others["x"] = other("nightly", 50, held=40)
    limited.expect(tokens(10))
    assert not limited.fits(tokens(20))
    assert limited.may_fit_later(tokens(20)), "what is in flight may cost less"
    assert not limited.may_fit_later(tokens(60))
    limited.others["x"] = other("nightly", 50)
    assert not limited.may_fit_later(tokens(60))


def test_what_was_spent_before_counts_until_midnight() -> None:
    clock = Clock()
    limited = budget(clock, max_tokens_per_day=100)
    limited.others["x"] = other("third", 50)
    limited.settle(Spending(), DAY, tokens(80), departed={"x"})
    limited.spend(tokens(10))
    assert not limited.fits(tokens(11))
    assert limited.fits(tokens(10))
    assert limited.limits() == [("max_tokens_per_day", 100, 90)]
    clock.now += 12 * 3600
    assert limited.fits(tokens(100))
    assert limited.account.day == "2026-11-23"
    assert limited.account.today == Spending()
    assert limited.account.spent == tokens(10)


def test_dollars_and_tokens_are_told_apart_in_the_error() -> None:
    priced = TeacherOptions(max_tokens=1000, max_tokens_per_day=90)
    limited = Budget(priced, "r", Clock())
    limited.spend(tokens(50, 30))
    error = limited.error(tokens(50, 30))
    assert "80 of teacher.max_tokens_per_day = 90 tokens" in error.message
    assert "teacher.max_tokens =" not in error.message
    assert "midnight UTC" in error.hint


def test_no_rounding_adds_up() -> None:
    limited = budget(max_tokens=1000)
    for number in range(1000):
        limited.reserve(str(number), Spending(0.1, 0.1, 0.1))
        limited.release(str(number))
    assert limited.account.held == Spending()
