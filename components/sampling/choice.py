"""Which problems a round practises on."""

from __future__ import annotations

from collections.abc import Iterable

from components.core.records import Demonstration, row_id


def distinct_problems(rows: Iterable[Demonstration]) -> list[tuple[str, str]]:
    """(problem id, question) of every problem once, in the order of first appearance."""
    return list({row.problem_id: row.question for row in rows}.items())


def choose(problems: list[tuple[str, str]], *, count: int, fresh: bool, round_number: int, seed: int) -> list[tuple[str, str]]:
    """Choose a round's problems by seeded hash, so that rows added elsewhere do not move the others.

    Args:
        problems: (problem id, question).
        count: How many; 0 or more than there are takes all.
        fresh: Take the next ``count`` in each round, from the start again when they are used up; else the same ones.
        round_number: 1-based.
        seed: Another seed chooses others.
    """
    if count == 0 or count >= len(problems):
        return problems
    order = sorted(problems, key=lambda problem: row_id("choose", seed, problem[0]))
    start = (round_number - 1) * count if fresh else 0
    return [order[(start + offset) % len(order)] for offset in range(count)]
