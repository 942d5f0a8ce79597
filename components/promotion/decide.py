"""The rule that makes a model the champion, or not, with its reason in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.core.records import ProblemResult, StageRecord
from components.promotion.options import PromotionOptions
from components.promotion.records import Decision, PairedComparison
from components.stats.paired import bootstrap_interval, mcnemar_p

Outcomes = Mapping[tuple[str, str], bool]
"""(benchmark, problem id) to whether the answer was right."""


WORDS = {"base": "the base model", "champion": "the champion"}
"""What an opponent is called."""


def dev_outcomes(rows: Iterable[ProblemResult]) -> dict[tuple[str, str], bool]:
    """The development problems among a model's results; test problems are left out, so that no decision can depend on them."""
    return {(row.benchmark, row.problem_id): row.correct for row in rows if row.split == "dev"}


def decide(
    candidate: str,
    base: str,
    results: Outcomes,
    base_results: Outcomes,
    champion: str,
    champion_results: Outcomes,
    records: Iterable[StageRecord],
    options: PromotionOptions,
) -> Decision:
    """Decide about a candidate.

    Args:
        candidate: Its id within the run.
        base: Id of the base model.
        results: Its results on development problems.
        base_results: Those of the base model.
        champion: Version name of the champion; empty when there is none.
        champion_results: Results of the champion; empty when there is none.
        records: The run's ledger.
        options: The rule.
    """
    comparisons: list[PairedComparison] = []

    def decision(promoted: bool, reason: str) -> Decision:
        return Decision(
            promoted=promoted,
            reason=reason,
            candidate=candidate,
            champion=champion,
            comparisons=comparisons,
            alpha=options.alpha,
            min_gain=options.min_gain,
        )

    if not results:
        return decision(False, "there are no development problems among the benchmarks (rows with split dev), so nothing can be decided.")
    opponents = [("base", base, base_results)] + ([("champion", champion, champion_results)] if champion else [])
    for role, name, others in opponents:
        if others.keys() != results.keys():
            return decision(False, _not_comparable(WORDS[role], name, results, others))
        comparisons.append(compare_paired(results, others, name, options.bootstrap_samples, role))
    if options.require_contamination_check and not any(record.stage == "contamination" for record in records):
        return decision(False, "the ledger shows no contamination check of the training rows.")
    start = comparisons[0]
    if start.gain < 0:
        return decision(False, f"{_figures(candidate, start)}: the candidate is worse than where it started.")
    if champion and options.require_gain_over_base and not _real(start, options.alpha, 0.0):
        return decision(False, f"{_figures(candidate, start)}: {_why_not(start, options.alpha, 0.0)}.")
    rival = comparisons[-1]
    figures = _figures(candidate, rival)
    if not _real(rival, options.alpha, options.min_gain):
        return decision(False, f"{figures}: {_why_not(rival, options.alpha, options.min_gain)}.")
    return decision(True, f"{figures}{'' if champion else '; there was no champion before'}.")


def compare_paired(
    candidate: Mapping[tuple[str, str], bool], opponent: Mapping[tuple[str, str], bool], name: str, samples: int, role: str = "base"
) -> PairedComparison:
    """Compare two models that answered the same problems.

    Args:
        candidate: (benchmark, problem id) to whether the answer was right.
        opponent: The same for the model that it is compared with; must have the same keys.
        name: Name of the opponent.
        samples: Number of bootstrap resamples.
        role: ``base`` or ``champion``: what the opponent is.

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
        role=role,
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


def _real(comparison: PairedComparison, alpha: float, min_gain: float) -> bool:
    return comparison.gain > min_gain and comparison.p_value <= alpha


def _why_not(comparison: PairedComparison, alpha: float, min_gain: float) -> str:
    if not (comparison.only_candidate or comparison.only_opponent):
        return "the two answer every development problem alike"
    if comparison.gain <= 0:
        return "no gain"
    if comparison.p_value > alpha:
        return f"such a gain can be chance (alpha {alpha:g})"
    return f"the gain is not above {min_gain * 100:g} points"


def _figures(candidate: str, comparison: PairedComparison) -> str:
    solved = round(comparison.candidate_accuracy * comparison.n)
    other = round(comparison.opponent_accuracy * comparison.n)
    return (
        f"{candidate} solves {solved} of {comparison.n} development problems, {WORDS[comparison.role]} {comparison.opponent} {other} "
        f"({comparison.gain * 100:+.1f} points, 95 % interval {comparison.low * 100:+.1f} to {comparison.high * 100:+.1f}, "
        f"p = {comparison.p_value:.2g})"
    )


def _not_comparable(role: str, name: str, results: Outcomes, others: Outcomes) -> str:
    missing, surplus = len(results.keys() - others.keys()), len(others.keys() - results.keys())
    return (
        f"not comparable: {role} {name} was not measured on the same development problems "
        f"({missing} of {len(results)} missing, {surplus} others); evaluate both on the same benchmarks."
    )
