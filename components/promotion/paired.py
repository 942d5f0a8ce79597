"""Paired comparison of two models on the same problems."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import binomtest

from components.promotion.records import PairedComparison

BOOTSTRAP_SEED = 20_240_214
"""The interval of the same results is the same in every run."""


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact McNemar test (McNemar 1947): a sign test on the problems that exactly one of the models solved.

    Args:
        only_first: Problems that only the first model solved.
        only_second: Problems that only the second model solved.

    Returns:
        The p-value; 1 when the models never differ.
    """
    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def bootstrap_interval(only_first: int, only_second: int, n: int, samples: int) -> tuple[float, float]:
    """95 % percentile interval of the paired difference of accuracies.

    Resampling problems with replacement gives multinomial counts of the three outcomes (only the first right, only the second
    right, both alike), so that these are drawn at once.

    Args:
        only_first: Problems that only the first model solved.
        only_second: Problems that only the second model solved.
        n: All problems.
        samples: Number of resamples.

    Returns:
        Lower and upper end, -1 to 1.
    """
    shares = [only_first / n, only_second / n, (n - only_first - only_second) / n]
    drawn = np.random.default_rng(BOOTSTRAP_SEED).multinomial(n, shares, size=samples)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def compare_paired(
    candidate: Mapping[tuple[str, str], bool], opponent: Mapping[tuple[str, str], bool], name: str, samples: int
) -> PairedComparison:
    """Compare two models that answered the same problems.

    Args:
        candidate: (benchmark, problem id) to whether the answer was right.
        opponent: The same for the model that it is compared with; must have the same keys.
        name: Name of the opponent.
        samples: Number of bootstrap resamples.

    Raises:
        ValueError: The problems differ, or there are none.
    """
    if candidate.keys() != opponent.keys() or not candidate:
        raise ValueError("a paired comparison needs the same problems on both sides, at least one")
    n = len(candidate)
    only_candidate = sum(right and not opponent[key] for key, right in candidate.items())
    only_opponent = sum(opponent[key] and not right for key, right in candidate.items())
    low, high = bootstrap_interval(only_candidate, only_opponent, n, samples)
    return PairedComparison(
        opponent=name,
        n=n,
        candidate_accuracy=sum(candidate.values()) / n,
        opponent_accuracy=sum(opponent.values()) / n,
        gain=(only_candidate - only_opponent) / n,
        low=low,
        high=high,
        p_value=mcnemar_p(only_candidate, only_opponent),
        only_candidate=only_candidate,
        only_opponent=only_opponent,
    )
