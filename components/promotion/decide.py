"""The rule that makes a model the champion, or not, with its reason in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.core.records import ProblemResult, StageRecord
from components.promotion.options import PromotionOptions
from components.promotion.paired import compare_paired
from components.promotion.records import Decision, PairedComparison

Outcomes = Mapping[tuple[str, str], bool]
"""(benchmark, problem id) to whether the answer was right."""


def dev_outcomes(rows: Iterable[ProblemResult]) -> dict[tuple[str, str], bool]:
    """The development problems among a model's results; test problems are left out, so that no decision can depend on them."""
    return {(row.benchmark, row.problem_id): row.correct for row in rows if row.split == "dev"}


def decide(
    candidate: str,
    results: Outcomes,
    base_results: Outcomes,
    champion: str,
    champion_results: Outcomes,
    records: Iterable[StageRecord],
    options: PromotionOptions,
) -> Decision:
    """Decide about a candidate.

    Args:
        candidate: Its name within the run.
        results: Its results on development problems.
        base_results: Those of the base model M0.
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
    opponents = [("M0", base_results, "the base model")] + ([(champion, champion_results, "the champion")] if champion else [])
    for name, others, role in opponents:
        if others.keys() != results.keys():
            return decision(False, _not_comparable(role, name, results, others))
        comparisons.append(compare_paired(results, others, name, options.bootstrap_samples))
    if options.require_contamination_check and not any(record.stage == "contamination" for record in records):
        return decision(False, "the ledger shows no contamination check of the training rows.")
    base = comparisons[0]
    if base.gain < 0:
        return decision(False, f"{_figures(candidate, base, 'the base model')}: the candidate is worse than where it started.")
    if champion and options.require_gain_over_base and not _real(base, options.alpha, 0.0):
        return decision(False, f"{_figures(candidate, base, 'the base model')}: {_why_not(base, options.alpha, 0.0)}.")
    rival, role = comparisons[-1], "the champion" if champion else "the base model"
    figures = _figures(candidate, rival, role)
    if not _real(rival, options.alpha, options.min_gain):
        return decision(False, f"{figures}: {_why_not(rival, options.alpha, options.min_gain)}.")
    return decision(True, f"{figures}{'' if champion else '; there was no champion before'}.")


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


def _figures(candidate: str, comparison: PairedComparison, role: str) -> str:
    solved = round(comparison.candidate_accuracy * comparison.n)
    other = round(comparison.opponent_accuracy * comparison.n)
    return (
        f"{candidate} solves {solved} of {comparison.n} development problems, {role} {comparison.opponent} {other} "
        f"({comparison.gain * 100:+.1f} points, 95 % interval {comparison.low * 100:+.1f} to {comparison.high * 100:+.1f}, "
        f"p = {comparison.p_value:.2g})"
    )


def _not_comparable(role: str, name: str, results: Outcomes, others: Outcomes) -> str:
    missing, surplus = len(results.keys() - others.keys()), len(others.keys() - results.keys())
    return (
        f"not comparable: {role} {name} was not measured on the same development problems "
        f"({missing} of {len(results)} missing, {surplus} others); evaluate both on the same benchmarks."
    )
