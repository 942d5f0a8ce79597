"""How good is the judge? Precision and recall on responses whose verdict is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from components.core.records import Record
from components.grading.answers import is_correct
from components.judging.golden import GoldenRow


class Measure(Record, frozen=True, kw_only=True):
    """Quality of a judge."""

    n: int
    precision: float
    """Share of the responses called correct that are; 1 when none was called correct."""
    recall: float
    """Share of the correct responses that were called correct; an undecided one was not."""
    undecided: float
    """Share of the responses without a verdict."""


def measure(rows: Iterable[GoldenRow], time_limit_s: float = 5.0) -> Measure:
    """Precision and recall of the rules.

    Args:
        rows: Responses with true verdicts.
        time_limit_s: Limit of one symbolic comparison.
    """
    known = list(rows)
    return measure_verdicts(known, [is_correct(row.reference, row.response, row.alternatives, time_limit_s).correct for row in known])


def measure_verdicts(rows: Sequence[GoldenRow], verdicts: Sequence[bool | None]) -> Measure:
    """Precision and recall of any judge.

    Args:
        rows: Responses with true verdicts.
        verdicts: What the judge said of each, None for undecided.
    """
    pairs = list(zip(rows, verdicts, strict=True))
    called = [row.correct for row, verdict in pairs if verdict is True]
    found = [verdict is True for row, verdict in pairs if row.correct]
    return Measure(
        n=len(pairs),
        precision=sum(called) / len(called) if called else 1.0,
        recall=sum(found) / len(found) if found else 1.0,
        undecided=sum(verdict is None for verdict in verdicts) / len(pairs) if pairs else 0.0,
    )
