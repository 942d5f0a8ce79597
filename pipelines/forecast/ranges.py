"""What a dry run tells: an estimate with its ranges, whatever the method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from components.core.records import Usage

Progress = Callable[[int, int], None]
"""Called with the numbers of units that are done and wanted."""
RESAMPLES = 200
"""Draws with replacement from the sample; the range is that of nine tenths of the estimates they lead to."""


class Figure(NamedTuple):
    """An estimate with its range."""

    value: float
    low: float
    high: float


class StageForecast(NamedTuple):
    """What one stage asks for.

    Attributes:
        requests: In all.
        prompt_tokens: Sent.
        reply_tokens: Received.
        usd: Price.
        seconds: Time for what is not stored yet; None when the sample sent nothing, so that no time is known.
        bound: What the time depends on.
        stored_ratio: Share of the requests that the response store had before the sample, 0 to 1.
    """

    requests: Figure
    prompt_tokens: Figure
    reply_tokens: Figure
    usd: Figure
    seconds: float | None
    bound: str
    stored_ratio: float


class LimitForecast(NamedTuple):
    """How a limit compares with what the run will be charged.

    Attributes:
        name: Its dotted name.
        maximum: Its value.
        needed: What the run needs of it, with what is stored taken off.
        verdict: ``within``, ``may be exceeded`` or ``exceeded``.
    """

    name: str
    maximum: float
    needed: Figure
    verdict: str


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a dry run tells.

    Attributes:
        seeds: Seed problems of the run.
        problems: Training problems, before any filter drops some.
        units: What the sample took, by kind, and how many of each.
        titles: Kind of unit to its name for people.
        remarks: Sentences about the sample that only the method knows.
        kept_ratio: Share of what the sample's conversations and solutions brought that is kept, by stage.
        sample: What the sample asked for; ``cache_hits`` were stored.
        stopped: Why the sample was not taken whole; empty when it was.
        stages: By name.
        limits: Those that are set.
    """

    seeds: int
    problems: Figure
    units: dict[str, int]
    titles: dict[str, str]
    remarks: list[str] = []
    kept_ratio: dict[str, float]
    sample: Usage
    stopped: str
    stages: dict[str, StageForecast]
    limits: list[LimitForecast]

    @property
    def usd(self) -> Figure:
        """Price of all requests."""
        return total(stage.usd for stage in self.stages.values())


def figure(values: Sequence[float]) -> Figure:
    """The first value, and the range of nine tenths of the others."""
    middle, *others = values
    ranked = sorted(others)
    return Figure(middle, min(middle, ranked[len(ranked) // 20]), max(middle, ranked[-1 - len(ranked) // 20]))


def total(figures: Iterable[Figure]) -> Figure:
    columns = list(zip(*figures, strict=True))
    return Figure(*(sum(column) for column in columns))
