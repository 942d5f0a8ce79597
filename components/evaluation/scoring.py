"""From per-problem results to scores per benchmark, per source and per number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from components.core.records import Problem, ProblemResult, Score
from components.stats.pools import majority_at_n, pass_at_n, pass_ratio, sizes
from components.stats.proportions import mean, wilson_interval


def benchmark_name(problem: Problem) -> str:
    """Name of the benchmark that a problem belongs to: its source, ending in ``-dev`` for the dev split."""
    return problem.source if problem.split != "dev" or problem.source.endswith("-dev") else f"{problem.source}-dev"


def score(model: str, benchmark: str, results: Sequence[ProblemResult], majority_shuffles: int) -> Score:
    """Summarise one model's results on one benchmark.

    Args:
        model: Name of the model.
        benchmark: Name of the benchmark.
        results: At least one.
        majority_shuffles: See ``majority_at_n``.
    """
    right = sum(result.correct for result in results)
    low, high = wilson_interval(right, len(results))
    pooled = [result for result in results if result.sample_correct]
    pool = min((len(result.sample_correct) for result in pooled), default=0)
    corrects = [result.sample_correct for result in pooled]
    answers = [(result.sample_answers, result.sample_correct) for result in pooled]
    return Score(
        model=model,
        benchmark=benchmark,
        n=len(results),
        pass_at_1=right / len(results),
        low=low,
        high=high,
        samples=pool,
        pass_at_n={str(n): mean([pass_at_n(sum(row), len(row), n) for row in corrects]) for n in sizes(pool)},
        pass_ratio_at_n=pass_ratio(corrects) if pool else None,
        majority_at_n={str(n): majority_at_n(answers, n, majority_shuffles) for n in sizes(pool)},
        by_source=_slices(results, lambda result: result.source),
        by_steps=_slices(results, lambda result: "" if result.steps is None else str(result.steps)),
        mean_tokens=mean([float(result.tokens) for result in results]),
        correct="".join(str(int(result.correct)) for result in sorted(results, key=lambda item: item.problem_id)),
    )


def _slices(results: Sequence[ProblemResult], name: Callable[[ProblemResult], str]) -> dict[str, dict[str, float]]:
    groups: dict[str, list[bool]] = {}
    for result in results:
        groups.setdefault(name(result), []).append(result.correct)
    return {key: {"n": float(len(group)), "pass_at_1": sum(group) / len(group)} for key, group in sorted(groups.items()) if key}
