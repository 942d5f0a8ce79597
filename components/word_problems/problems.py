"""Our own word problems: written, read back, turned round and made harder by program. No model and no torch needed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache

from components.core.errors import ParameterError
from components.core.records import normalise_question
from components.word_problems.families import FAMILIES
from components.word_problems.grammar import SPLIT
from components.word_problems.parsing import read
from components.word_problems.reading import Reading, Shape, WordProblem, expansions_of, fill, given_values, to_problem, with_unknown
from components.word_problems.sampling import draw_reading, draw_values, draw_words
from components.word_problems.solutions import first_wrong_step, noisy_solution, solution_text
from components.word_problems.solving import Step, apply

__all__ = [
    "CORE_FAMILIES",
    "FAMILIES",
    "MAX_NUMBER",
    "MAX_STEPS",
    "MAX_WORDINGS",
    "MOVES",
    "Step",
    "WordProblem",
    "first_wrong_step",
    "generate",
    "generate_many",
    "harden",
    "noisy_solution",
    "parse",
    "retarget",
    "solution_text",
    "split_of",
]

CORE_FAMILIES = (
    "gain",
    "loss",
    "groups",
    "share",
    "compare_more",
    "compare_times",
    "difference",
    "price",
    "money_left",
    "reading",
    "two_kinds",
    "walk",
)
"""The families that are drawn from unless others are named: as many as a model of half a million parameters learns in minutes."""
MAX_STEPS = 4
MAX_NUMBER = 60
MAX_WORDINGS = 3
_TRIES = 50
_LARGER_TRIES = 10
_HELD_OUT = {0: "test", 1: "dev"}
_BUCKETS = 10
_TWICE = 0.4
"""Share of the hardened problems that are made harder twice (our choice)."""
_MAX_BARREN = 500


def parse(question: str) -> WordProblem | None:
    """Understand a question by the templates.

    Returns:
        The problem with its true steps and answer; None when no family can have written it.
    """
    reading = read(question)
    return to_problem(reading) if reading else None


def retarget(problem: WordProblem) -> list[tuple[str, WordProblem]]:
    """Turn the problem round: each quantity that it gives becomes the unknown, and its answer becomes given.

    Returns:
        Pairs of what is asked now (a noun phrase) and the new problem; empty when the question is not understood.
    """
    reading = read(problem.question)
    if reading is None:
        return []
    turned = []
    for unknown in ("", *reading.shape.asks):
        if unknown == reading.unknown:
            continue
        other = with_unknown(reading, unknown)
        made = to_problem(other)
        if made and len(made.steps) <= MAX_STEPS:
            label = reading.shape.asks[unknown].label if unknown else reading.shape.closing.label
            turned.append((fill(label, reading), made))
    return turned


def harden(
    problem: WordProblem, rng: random.Random, move: str, *, max_steps: int = MAX_STEPS, max_number: int = MAX_NUMBER
) -> WordProblem | None:
    """Make a problem harder.

    Args:
        problem: The problem.
        rng: Source of chance.
        move: One of ``MOVES``: ``add_step`` lets one more thing happen, ``split_quantity`` gives the first quantity by two numbers,
            ``larger_numbers`` draws larger values, ``hide_quantity`` asks for another quantity.
        max_steps: Largest number of steps of the result.
        max_number: Largest number of the result.

    Returns:
        The harder problem; None when the question is not understood or the move does not apply to it.

    Raises:
        KeyError: Unknown move.
    """
    make = _MOVES[move]
    reading = read(problem.question)
    if reading is None:
        return None
    for _ in range(_TRIES):
        harder = make(reading, rng, max_number)
        if harder is None:
            return None
        made = to_problem(harder)
        if made and len(made.steps) <= max_steps and made.question != problem.question:
            return made
    return None


def _reshaped(reading: Reading, shape: Shape, rng: random.Random, max_number: int, fixed: Mapping[str, int]) -> Reading | None:
    """Give a reading another shape, keeping the fixed values where the story still works out, else drawing all anew."""
    values = draw_values(shape, rng, max_number, fixed=fixed) or draw_values(shape, rng, max_number)
    if values is None:
        return None
    old = dict(zip(reading.shape.slots, reading.statements, strict=False))
    statements = tuple(old.get(slot) or slot[reading.style % len(slot)] for slot in shape.slots)
    other = replace(reading, shape=shape, statements=statements, words=draw_words(rng) | dict(reading.words), values=values)
    return with_unknown(other, reading.unknown)


def _add_step(reading: Reading, rng: random.Random, max_number: int) -> Reading | None:
    shape = reading.shape
    free = [tail for tail in shape.family.tails if tail not in shape.tails]
    if not free or (shape.tails and shape.tails[-1].last):
        return None
    fixed = {name: value for name, value in reading.values.items() if name != shape.result}
    return _reshaped(reading, replace(shape, tails=(*shape.tails, rng.choice(free))), rng, max_number, fixed)


def _split_quantity(reading: Reading, rng: random.Random, max_number: int) -> Reading | None:
    shape = reading.shape
    if shape.expansion or not shape.family.expandable or reading.unknown == SPLIT:
        return None
    expansion = rng.choice([item for item in expansions_of(shape.family) if item])
    whole = reading.values[SPLIT]
    pairs = [(g, p) for g in range(2, whole) for p in range(2, whole) if apply(g, expansion.op, p) == whole]
    if not pairs:
        return None
    g, p = rng.choice(pairs)
    fixed = {name: value for name, value in reading.values.items() if name not in (SPLIT, shape.result)} | {"g": g, "p": p}
    return _reshaped(reading, replace(shape, expansion=expansion), rng, max_number, fixed)


def _larger_numbers(reading: Reading, rng: random.Random, max_number: int) -> Reading | None:
    shape = reading.shape
    old = {name: value for name, value in reading.values.items() if name != shape.result}
    for _ in range(_LARGER_TRIES):
        values = draw_values(shape, rng, max_number, at_least=old)
        if values is None:
            return None
        larger = replace(reading, values=values)
        told = sum(given_values(larger).values()) > sum(given_values(reading).values())
        if told and sum(values[name] for name in old) > sum(old.values()):
            return larger
    return None


def _hide_quantity(reading: Reading, rng: random.Random, max_number: int) -> Reading | None:
    others = [name for name in reading.shape.asks if name != reading.unknown]
    return with_unknown(reading, rng.choice(others))


_MOVES: dict[str, Callable[[Reading, random.Random, int], Reading | None]] = {
    "add_step": _add_step,
    "split_quantity": _split_quantity,
    "larger_numbers": _larger_numbers,
    "hide_quantity": _hide_quantity,
}
MOVES = tuple(_MOVES)
"""Names of the ways to make a problem harder."""


def generate(
    rng: random.Random,
    *,
    max_steps: int = MAX_STEPS,
    max_number: int = MAX_NUMBER,
    families: Collection[str] = CORE_FAMILIES,
    retargeted: float = 0.15,
    hardened: float = 0.15,
    wordings: int = MAX_WORDINGS,
) -> WordProblem:
    """Write one problem.

    Args:
        rng: Source of chance.
        max_steps: Largest number of steps.
        max_number: Largest number in the problem and in its solution.
        families: Names of the families to draw from, see ``FAMILIES``.
        retargeted: Share of problems that ask for another quantity than the final one (our choice).
        hardened: Share of problems that a harder move was applied to (our choice).
        wordings: Paraphrases of each sentence that are used, 1 to 3.

    Raises:
        ParameterError: Nothing can be written within these limits, or a family name is unknown.
    """
    chosen = _choose(tuple(sorted(families)), max_steps)
    for _ in range(_TRIES):
        kind = rng.random()
        reading = draw_reading(rng.choice(chosen), rng, max_number, wordings)
        made = to_problem(reading) if reading else None
        for _ in range(2 if kind < hardened and rng.random() < _TWICE else int(kind < hardened)):
            made = made and (harden(made, rng, rng.choice(MOVES), max_steps=max_steps, max_number=max_number) or made)
        if made and hardened <= kind < hardened + retargeted:
            made = harden(made, rng, "hide_quantity", max_steps=max_steps, max_number=max_number)
        if made and len(made.steps) <= max_steps and max(step.value for step in made.steps) <= max_number:
            return made
    raise ParameterError("max_number", max_number, f"a number that leaves room for a problem of at most {max_steps} steps")


@cache
def _choose(names: tuple[str, ...], max_steps: int) -> tuple[Shape, ...]:
    for name in names:
        if name not in FAMILIES:
            raise ParameterError("families", name, "some of " + ", ".join(FAMILIES))
    return tuple(Shape(family) for family in FAMILIES.values() if family.name in names and len(family.program) <= max_steps)


def split_of(question: str) -> str:
    """The split that may hold a question, by the hash of its normalised text: ``dev``, ``test`` or ``train``."""
    digest = hashlib.sha256(normalise_question(question).encode()).digest()
    return _HELD_OUT.get(digest[0] % _BUCKETS, "train")


def generate_many(
    seed: int,
    count: int,
    *,
    split: str = "train",
    max_steps: int = MAX_STEPS,
    max_number: int = MAX_NUMBER,
    avoid: Collection[str] = (),
    families: Collection[str] = CORE_FAMILIES,
    retargeted: float = 0.15,
    hardened: float = 0.15,
    wordings: int = MAX_WORDINGS,
) -> list[WordProblem]:
    """Write distinct problems, always the same ones for the same arguments.

    No question is ever in two of the splits ``dev``, ``test`` and all others, whatever the seeds: ``split_of`` assigns each to one.

    Args:
        seed: Seed; the split's name enters too.
        count: Number of problems.
        split: ``dev`` or ``test``; every other name draws from the training side with a stream of its own.
        max_steps: Largest number of steps.
        max_number: Largest number.
        avoid: Normalised questions (``normalise_question``) to stay clear of.
        families: Names of the families to draw from, see ``FAMILIES``.
        retargeted: Share of problems that ask for another quantity than the final one.
        hardened: Share of problems that a harder move was applied to.
        wordings: Paraphrases of each sentence that are used, 1 to 3.

    Raises:
        ParameterError: The limits do not leave room for so many problems.
    """
    rng = random.Random(f"{split}:{seed}")
    side = split if split in _HELD_OUT.values() else "train"
    seen = set(avoid)
    made: list[WordProblem] = []
    barren = 0
    while len(made) < count:
        problem = generate(
            rng, max_steps=max_steps, max_number=max_number, families=families, retargeted=retargeted, hardened=hardened, wordings=wordings
        )
        key = normalise_question(problem.question)
        if key in seen or split_of(problem.question) != side:
            barren += 1
            if barren > _MAX_BARREN:
                raise ParameterError("count", count, f"at most {len(made)} problems within these limits")
            continue
        barren = 0
        seen.add(key)
        made.append(problem)
    return made
