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
    method: str = "newcombe"
    """How the interval was made; ``newcombe`` treats the two models' results as independent."""

    @property
    def clear(self) -> bool:
        """True when the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def is_dev(benchmark: str) -> bool:
    """Whether a benchmark holds the development problems of its set: evaluation gives these names that end in ``-dev``."""
    return benchmark.endswith("-dev")


def difference(first: Score, second: Score) -> Difference:
    """Difference of two accuracies with its 95 % interval.

    The ledger holds no per-problem results, so the two are treated as independent (Newcombe 1998, hybrid score method, built from
    the two Wilson intervals). Both models answered the same problems, which makes the true interval narrower: this one errs on the
    side of "could be chance".

    Args:
        first: Score of the model that should be better.
        second: Score of the model that it is compared with, on the same benchmark.

    Returns:
        The difference, accuracies and interval as fractions (not per cent).
    """
    gain = first.pass_at_1 - second.pass_at_1
    down = math.hypot(first.pass_at_1 - first.low, second.high - second.pass_at_1)
    up = math.hypot(first.high - first.pass_at_1, second.pass_at_1 - second.low)
    return Difference(
        benchmark=first.benchmark,
        first=first.model,
        second=second.model,
        n=first.n,
        first_accuracy=first.pass_at_1,
        second_accuracy=second.pass_at_1,
        gain=gain,
        low=max(-1.0, gain - down),
        high=min(1.0, gain + up),
    )
