"""Measures of a pool of samples: Pass@N, PassRatio@N and the majority vote."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

from components.stats.proportions import mean


def pass_at_n(correct: int, pool: int, n: int) -> float:
    """Probability that at least one of ``n`` samples drawn from the pool is right: 1 - C(pool - c, n) / C(pool, n).

    The unbiased estimator of Chen et al., 2021 (Evaluating Large Language Models Trained on Code, equation 1). At ``n`` equal to
    the pool it is Xwin-Math's min(c, 1).

    Args:
        correct: Right samples in the pool.
        pool: Samples in the pool.
        n: Samples drawn.

    Raises:
        ValueError: ``n`` is not within 1 to ``pool``.
    """
    if not 1 <= n <= pool:
        raise ValueError(f"n = {n} is not within 1 to {pool}")
    return 1.0 - math.comb(pool - correct, n) / math.comb(pool, n)


def pass_ratio(pools: Sequence[Sequence[bool]]) -> float:
    """Mean share of right samples (PassRatio@N of Xwin-Math)."""
    return mean([sum(pool) / len(pool) for pool in pools])


def majority_correct(answers: Sequence[str | None], correct: Sequence[bool]) -> bool:
    """Whether the most frequent answer is right (self-consistency, Wang et al., 2022); of equals, the one met first.

    Args:
        answers: Canonical answers; None does not vote.
        correct: Whether each is right.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return False
    winner = max(votes, key=lambda answer: votes[answer])
    return correct[list(answers).index(winner)]


def majority_at_n(pools: Sequence[tuple[Sequence[str | None], Sequence[bool]]], n: int, shuffles: int) -> float:
    """Accuracy of the majority of ``n`` samples.

    Args:
        pools: For each problem its canonical answers and whether each is right.
        n: Samples that vote.
        shuffles: Random orders of each pool, the first ``n`` of which vote, averaged over; the whole pool needs only one.
    """
    total = 0.0
    for index, (answers, correct) in enumerate(pools):
        size = len(answers)
        rounds = 1 if n >= size else shuffles
        rng = random.Random(f"majority {index}")
        hits = 0
        for _ in range(rounds):
            picked = list(range(size)) if n >= size else rng.sample(range(size), n)
            hits += majority_correct([answers[place] for place in picked], [correct[place] for place in picked])
        total += hits / rounds
    return total / len(pools) if pools else 0.0


def best_of_n(pools: Sequence[tuple[Sequence[float], Sequence[bool]]], n: int) -> float:
    """Accuracy of the best-scored of ``n`` samples: its expectation over all draws of ``n`` from the pool (Cobbe et al., 2021).

    Of equal scores the one met first is the best.

    Args:
        pools: For each problem the scores of its samples and whether each is right.
        n: Samples drawn.

    Raises:
        ValueError: ``n`` is not within 1 to the size of each pool, a pool has not as many scores as samples, or a score is not finite.
    """
    return mean([_best_of_n(scores, correct, n) for scores, correct in pools]) if pools else 0.0


def _best_of_n(scores: Sequence[float], correct: Sequence[bool], n: int) -> float:
    size = len(correct)
    if len(scores) != size or not 1 <= n <= size:
        raise ValueError(f"n = {n} is not within 1 to {size}, or there are {len(scores)} scores for {size} samples")
    if not all(math.isfinite(score) for score in scores):
        raise ValueError("a score is not finite")
    ranked = sorted(range(size), key=lambda place: -scores[place])
    # The sample of rank r is the best of a draw that has it and n - 1 of those ranked after it.
    right = sum(math.comb(size - 1 - rank, n - 1) for rank, place in enumerate(ranked) if correct[place])
    return right / math.comb(size, n)


def sizes(pool: int) -> list[int]:
    """N for which Pass@N is reported: 1, 2, 4, ... and the pool itself."""
    return sorted({*(2**power for power in range(pool.bit_length()) if 2**power <= pool), pool}) if pool else []
