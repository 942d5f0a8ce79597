"""Draws values and wordings for a shape."""

from __future__ import annotations

import random
from collections.abc import Mapping

from components.word_problems.lexicon import CONTAINERS, NAMES, OBJECTS
from components.word_problems.reading import Reading, Shape, solve

_SMALLEST = 2
"""Values start at two, so that every noun can stay plural."""
_LARGEST_FACTOR = 9
_LARGEST_TERM = 30
_TRIES = 60


def draw_words(rng: random.Random) -> dict[str, str]:
    """Two different names, an object and two different containers."""
    n, m = rng.sample(NAMES, 2)
    c, k = rng.sample(CONTAINERS, 2)
    return {"n": n, "m": m, "o": rng.choice(OBJECTS), "c": c, "k": k}


def draw_values(
    shape: Shape,
    rng: random.Random,
    max_number: int,
    *,
    at_least: Mapping[str, int] | None = None,
    fixed: Mapping[str, int] | None = None,
) -> dict[str, int] | None:
    """Values for every given quantity, with all results on the way between 2 and ``max_number``.

    Args:
        shape: Structure of the problem.
        rng: Source of chance.
        max_number: Largest number that may occur.
        at_least: Lower ends by name.
        fixed: Values that must stay, by name.

    Returns:
        Values by name, the final value included; None when none were found.
    """
    equations = shape.equations
    factors = {side for item in equations if item.op == "*" for side in (item.left, item.right)}
    divisors = {item.right for item in equations if item.op == "/"}
    dividends = {item.left: item.right for item in equations if item.op == "/"}
    minuends = {item.left for item in equations if item.op == "-"}
    names = sorted(shape.inputs, key=lambda name: name in dividends)
    for _ in range(_TRIES):
        values: dict[str, int] = dict(fixed or {})
        for name in names:
            if name in values:
                continue
            if name in factors or name in divisors:
                high = min(_LARGEST_FACTOR, max_number // 2)
            else:
                high = max_number if name in minuends else min(_LARGEST_TERM, max_number)
            low = min(max(_SMALLEST, (at_least or {}).get(name, 0)), high)
            if name in dividends and dividends[name] in values:
                divisor = values[dividends[name]]
                values[name] = divisor * rng.randint(1, max(1, max_number // divisor))
            else:
                values[name] = rng.randint(low, high)
        solved = solve(shape, values, "")
        if solved is not None and all(_SMALLEST <= value <= max_number for value in solved[1].values()):
            return values | {shape.result: solved[1][shape.result]}
    return None


def draw_reading(shape: Shape, rng: random.Random, max_number: int, wordings: int) -> Reading | None:
    """A problem of this shape that asks for the final value; ``wordings`` paraphrases of each sentence are in use."""
    values = draw_values(shape, rng, max_number)
    if values is None:
        return None
    statements = tuple(rng.choice(slot[:wordings]) for slot in shape.slots)
    asking = rng.choice(shape.closing.questions[:wordings])
    return Reading(shape, statements, "", asking, draw_words(rng), values)
