"""Which rows stay: splits of roles, filters, duplicates, the dev share and limits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from components.core.errors import ParameterError
from components.core.records import Problem, problem_id, row_id
from components.seeds.adapters import ADAPTERS
from components.seeds.files import named_split
from components.seeds.formats import OPTIONS_LABEL
from components.seeds.options import SourceOptions


class Drop(Protocol):
    """Told of every row that is left out."""

    def __call__(self, reason: str, rows: int = 1, *, row: Any = None) -> None: ...


_SINGLE_NUMBER = re.compile(r"-?[$€£]?-?\d+(\.\d+)?(/\d+)?%?")


def resolve_split(source: SourceOptions, seeds: bool, where: str) -> str:
    """The split to read, with the rules that keep test problems out of the seeds.

    Args:
        source: The source.
        seeds: True for seeds, False for benchmarks.
        where: Name of the source in errors.

    Raises:
        ParameterError: A test split as seeds, a train split as a benchmark, or a dev share of something that is not a train split.
    """
    file_name = "" if source.uri.startswith("hub:") else source.uri.rstrip("/").rsplit("/", 1)[-1]
    told = named_split(file_name) if "." in file_name else ""
    adapter = ADAPTERS.get(source.adapter)
    trains = (seeds or source.dev_share > 0) and not (adapter and adapter.evaluation_only)
    split = source.split or told or ("train" if trains else "test")
    if seeds and told == "test":
        raise ParameterError(f"{where}.uri", source.uri, "a file of train or dev problems: by its name this one holds test problems")
    if seeds and split == "test":
        raise ParameterError(
            f"{where}.split",
            source.split,
            "train or dev: test problems are never used as seeds"
            + ("; this set is published for evaluation, so its rows become seeds only when you say so" if not source.split else ""),
        )
    if source.dev_share and split != "train":
        raise ParameterError(f"{where}.dev_share", source.dev_share, f"0, unless the split is train (it is {split})")
    if not seeds and split == "train" and not source.dev_share:
        raise ParameterError(f"{where}.split", split, "dev or test for a benchmark, or train with a dev_share")
    return split


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
