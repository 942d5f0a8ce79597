"""Means and intervals of proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


def wilson_interval(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Score interval for a proportion (Wilson, 1927): honest also near 0 and 1 and for few trials.

    scipy has it too; this one runs in the images that generate, which have no scipy.

    Args:
        successes: Right answers.
        trials: Problems.
        z: Normal quantile.

    Returns:
        Lower and upper end; (0, 1) for no trials.
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    centre = share + z * z / (2 * trials)
    scale = 1 + z * z / trials
    # Rounding must not push an end past the share itself: at none or all right the two are equal.
    return max(0.0, min(share, (centre - spread) / scale)), min(1.0, max(share, (centre + spread) / scale))


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 for nothing."""
    return sum(values) / len(values) if values else 0.0
