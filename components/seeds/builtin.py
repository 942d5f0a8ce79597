"""Seeds and benchmarks of our own making: nothing to download."""

from __future__ import annotations

from components.core.records import Problem, problem_id
from components.seeds.options import SourceOptions
from components.word_problems.problems import CORE_FAMILIES, generate_many, solution_text

LICENCE = "Apache-2.0"
MAX_STEPS = 4


def builtin_problems(source: SourceOptions, split: str, seed: int) -> list[Problem]:
    """Make ``source.count`` distinct problems of a split; no problem of one split can appear in another, whatever the seeds.

    Args:
        source: The number of problems and their limits.
        split: ``train``, ``dev`` or ``test``.
        seed: Seed of the choice.
    """
    made = generate_many(
        seed,
        source.count,
        split=split,
        max_steps=source.max_steps or MAX_STEPS,
        max_number=source.max_number,
        families=source.families or CORE_FAMILIES,
        retargeted=source.retargeted,
        hardened=source.hardened,
    )
    return [
        Problem(
            id=problem_id(problem.question),
            source=source.label,
            split=split,
            question=problem.question,
            answer=str(problem.answer),
            solution=solution_text(problem, None),
            steps=len(problem.steps),
            licence=source.licence or LICENCE,
        )
        for problem in made
    ]
