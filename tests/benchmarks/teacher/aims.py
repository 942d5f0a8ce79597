"""What TutorLoop's client shall reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.benchmarks.teacher.race import Race, against_bare, against_ideal, cpu_ms, good, median
from tests.benchmarks.teacher.scenarios import Result

OURS = "tutorloop"
RIVALS = ("openai-aiohttp", "openai", "curator", "distilabel-llm", "distilabel")
KEPT = ("kill at half", "run again", "one row edited", "other order", "100 new rows", "one of three prompts", "four processes")


class Aim(NamedTuple):
    """A line of the table."""

    text: str
    limit: str
    value: str
    met: str


def aims(race: Race) -> Iterator[Aim]:
    """Those of which something was measured, as medians over the repetitions."""
    # Of rates, not of times.
    if ratio := against_bare(race, OURS, "throughput"):
        yield _aim("throughput, × bare pool", "at least", 0.9, 1 / ratio)
    yield from _ahead(race, "seconds for all requests, below the fastest of openai-python, curator and distilabel", lambda run: run.seconds)
    yield from _ahead(race, "CPU ms per request, below the least of them", cpu_ms)
    yield from _ahead(race, "the same with the interpreter's start and imports", lambda run: 1000 * run.cpu_s / run.needed)
    if ratio := against_bare(race, OURS, "long tail"):
        yield _aim("long tail, × bare pool", "at most", 1.03, ratio)
    for scenario in ("10 % HTTP 500", "5 % HTTP 429"):
        if ratio := median(race, OURS, scenario, against_ideal):
            yield _aim(f"{scenario}, × ideal", "at most", 1.2, ratio)
    if runs := [each for each in race.results if each.client == OURS]:
        yield _aim("rows lost or runs that failed, in all scenarios", "at most", 0, sum(run.lost + bool(run.problem) for run in runs))
    if runs := [run for scenario in KEPT for run in good(race, OURS, scenario)]:
        yield _aim("paid twice after kills, edits and new orders, and by four processes", "at most", 0, sum(run.paid_twice for run in runs))


def _ahead(race: Race, text: str, value: Callable[[Result], float]) -> Iterator[Aim]:
    ours = median(race, OURS, "throughput", value)
    theirs = [each for rival in RIVALS if (each := median(race, rival, "throughput", value)) is not None]
    if ours is not None and theirs:
        yield _aim(text, "below", min(theirs), ours)


def _aim(text: str, bound: str, limit: float, value: float) -> Aim:
    met = {"at least": value >= limit, "at most": value <= limit, "below": value < limit}[bound]
    return Aim(text, f"{bound} {_number(limit)}", _number(value), "yes" if met else "no")


def _number(value: float) -> str:
    return f"{value:g}" if value == round(value, 2) else f"{value:.2f}"
