"""Paired comparisons: two models on the same problems, two arms with the same seeds.

scipy is imported where it is used: the images that generate hold this folder and have no scipy.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

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
    from scipy.stats import binomtest

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
    import numpy as np

    shares = [only_first / n, only_second / n, (n - only_first - only_second) / n]
    drawn = np.random.default_rng(BOOTSTRAP_SEED).multinomial(n, shares, size=samples)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [0.025, 0.975])
    return float(low), float(high)


def paired_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Mean of ``first - second`` over seeds, with its 95 % interval by Student's t (infinite for a single seed).

    Args:
        first: Accuracies of the model or arm that should be better, one a seed.
        second: Those of the other, in the same order.

    Returns:
        Mean, lower and upper end.

    Raises:
        ValueError: The numbers of seeds differ.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, -math.inf, math.inf
    from scipy.stats import t as student_t

    half = float(student_t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half
