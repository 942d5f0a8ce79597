"""Which rows stay: filters, duplicates, the dev share and limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from components.core.records import Problem, problem_id, row_id
from components.seeds.formats import OPTIONS_LABEL
from components.seeds.options import SourceOptions


class Drop(Protocol):
    """Told of every row that is left out."""

    def __call__(self, reason: str, rows: int = 1, *, row: Any = None) -> None: ...


_SINGLE_NUMBER = re.compile(r"-?[$€£]?-?\d+(\.\d+)?(/\d+)?%?")


def held_out(question: str, share: float) -> bool:
    """Whether a problem belongs to the dev share: by a hash of its text without shown options, so the same in every run."""
    return int(row_id("dev share", problem_id(question.split(OPTIONS_LABEL)[0])), 16) / 2**64 < share


def keep_wanted(problems: Iterable[Problem], source: SourceOptions, seeds: bool, seen: dict[str, str | None], drop: Drop) -> list[Problem]:
    """Apply filters, duplicates, dev share and limit, in that order.

    Args:
        problems: Parsed rows in the set's order.
        source: The source with its filters.
        seeds: True keeps what is not held out, False what is.
        seen: Ids to answers of the problems kept so far; extended here.
        drop: Called with the reason and the row for every row left out.
    """
    kept = []
    for problem in _filtered(problems, source, drop):
        if source.dev_share and held_out(problem.question, source.dev_share) == seeds:
            drop("held_out_for_dev" if seeds else "not_held_out", row=problem)
        elif problem.id in seen:
            drop("duplicate" if seen[problem.id] == problem.answer else "duplicate_with_other_answer", row=problem)
        else:
            seen[problem.id] = problem.answer
            kept.append(problem)
    return kept


def limit_rows(problems: list[Problem], limit: int, seed: int, drop: Drop) -> list[Problem]:
    """Keep ``limit`` problems chosen by a seeded hash, in their order; a smaller limit keeps a part of what a larger one keeps."""
    if not limit or len(problems) <= limit:
        return problems
    chosen = {problem.id for problem in sorted(problems, key=lambda problem: row_id(seed, problem.id))[:limit]}
    for problem in problems:
        if problem.id not in chosen:
            drop("beyond_limit", row=problem)
    return [problem for problem in problems if problem.id in chosen]


def _filtered(problems: Iterable[Problem], source: SourceOptions, drop: Drop) -> Iterator[Problem]:
    for problem in problems:
        if source.max_question_chars and len(problem.question) > source.max_question_chars:
            drop("question_too_long", row=problem)
        elif source.max_steps and problem.steps is None:
            drop("steps_unknown", row=problem)
        elif source.max_steps and (problem.steps or 0) > source.max_steps:
            drop("too_many_steps", row=problem)
        elif source.single_number and not _SINGLE_NUMBER.fullmatch(problem.answer or ""):
            drop("not_a_single_number", row=problem)
        else:
            yield problem
