"""Intervals of differences between two accuracies."""

from __future__ import annotations

import math

from components.core.records import Record, Score


class Difference(Record, frozen=True, kw_only=True):
    """How much better one model is than another on one benchmark."""

    benchmark: str
    first: str
    """Name of the model that should be better."""
    second: str
    n: int
    """Number of problems of the first model's score."""
    first_accuracy: float
    second_accuracy: float
    gain: float
    """Accuracy of the first minus accuracy of the second, -1 to 1."""
    low: float
    """Lower end of the 95 % interval of the gain."""
    high: float
    method: str
    """``paired``, or ``independent`` where the scores do not say which problems were solved."""

    @property
    def clear(self) -> bool:
        """True when the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def difference(first: Score, second: Score) -> Difference:
    """Difference of two accuracies with its 95 % interval (Newcombe 1998, hybrid score method, from the two Wilson intervals).

    Both models answered the same problems, so the interval is for paired proportions; where a score does not say which problems were
    solved, they are treated as independent, which errs on the side of "could be chance".

    Args:
        first: Score of the model that should be better.
        second: Score of the model that it is compared with, on the same benchmark.

    Returns:
        The difference, accuracies and interval as fractions (not per cent).
    """
    gain = first.pass_at_1 - second.pass_at_1
    paired = bool(first.correct) and len(first.correct) == len(second.correct)
    correlation = _correlation(first.correct, second.correct) if paired else 0.0
    below = (first.pass_at_1 - first.low, second.high - second.pass_at_1)
    above = (first.high - first.pass_at_1, second.pass_at_1 - second.low)
    return Difference(
        benchmark=first.benchmark,
        first=first.model,
        second=second.model,
        n=first.n,
        first_accuracy=first.pass_at_1,
        second_accuracy=second.pass_at_1,
        gain=gain,
        low=max(-1.0, gain - _joined(*below, correlation)),
        high=min(1.0, gain + _joined(*above, correlation)),
        method="paired" if paired else "independent",
    )


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def _correlation(first: str, second: str) -> float:
    """Phi coefficient of the fourfold table of two models' results, with Newcombe's continuity correction (his method 10)."""
    pairs = list(zip(first, second, strict=True))
    both, neither = pairs.count(("1", "1")), pairs.count(("0", "0"))
    only_first, only_second = pairs.count(("1", "0")), pairs.count(("0", "1"))
    product = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not product:
        return 0.0
    agreement = float(both * neither - only_first * only_second)
    if agreement > 0:
        agreement = max(agreement - len(pairs) / 2, 0.0)
    return agreement / math.sqrt(product)
