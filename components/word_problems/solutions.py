"""Worked solutions: the true one, a faulty one for pretraining, and finding the first faulty step of any text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from components.word_problems.reading import WordProblem
from components.word_problems.solving import OPERATORS, Step, apply

_CANONICAL = ("First", "Then", "So")
_PHRASES = (_CANONICAL, ("First,", "next", "so"), ("Start with", "then", "and at last"), ("We get", "then", "and"))
_CALCULATION = re.compile(r"(?<![\d.])(\d+)\s*([-+*/×÷x−])\s*(\d+)\s*=\s*(-?\d+)")
_SIGNS = {"×": "*", "x": "*", "÷": "/", "−": "-"}
_LARGEST_NOISE = 99
"""A wrong operator is chosen so that the result stays below three digits where it can, which tiny tokenizers split (our choice)."""


def _write(texts: Iterable[str], answer: int, phrases: tuple[str, str, str]) -> str:
    lines = list(texts)
    parts = []
    for index, text in enumerate(lines):
        word = phrases[2] if index == len(lines) - 1 else phrases[0] if index == 0 else phrases[1]
        parts.append(f"{word[0].upper()}{word[1:]} {text}.")
    return " ".join([*parts, f"#### {answer}"])


def solution_text(problem: WordProblem, rng: random.Random | None = None) -> str:
    """The worked solution, one short sentence a step, ending with ``#### <answer>``.

    Args:
        problem: The problem.
        rng: Varies the linking words; None gives the canonical wording.
    """
    return _write((step.text for step in problem.steps), problem.answer, rng.choice(_PHRASES) if rng else _CANONICAL)


def noisy_solution(problem: WordProblem, rng: random.Random, wrong_step: float = 0.25, wrong_result: float = 0.125) -> str:
    """A solution as a weak writer would give it: faults are carried on into the later steps and the answer.

    Args:
        problem: The problem.
        rng: Source of chance.
        wrong_step: Probability that a step has a wrong operator, a wrong operand or swapped operands (our choice).
        wrong_result: Probability that a step's result is miscalculated (our choice).
    """
    numbers = [int(text) for text in re.findall(r"\d+", problem.question)]
    results: list[int] = []
    texts = []
    for step in problem.steps:
        left = step.left if step.left_from is None else results[step.left_from]
        right = step.right if step.right_from is None else results[step.right_from]
        op = step.op
        if rng.random() < wrong_step:
            left, op, right = _spoil(left, op, right, numbers, rng)
        value = _rounded(left, op, right)
        if rng.random() < wrong_result:
            value = max(0, value + rng.choice((-10, -2, -1, 1, 2, 10)))
        results.append(value)
        texts.append(f"{left} {op} {right} = {value}")
    return _write(texts, results[-1], _CANONICAL)


def _spoil(left: int, op: str, right: int, numbers: list[int], rng: random.Random) -> tuple[int, str, int]:
    kind = rng.choice(("operator", "operand", "order"))
    if kind == "operator":
        others = [other for other in OPERATORS if other != op]
        return left, rng.choice([other for other in others if _rounded(left, other, right) <= _LARGEST_NOISE] or others), right
    if kind == "operand":
        wrong = rng.choice([number for number in numbers if number not in (left, right)] or [left + 1])
        return (wrong, op, right) if rng.random() < 0.5 else (left, op, wrong)
    return right, op, left


def _rounded(left: int, op: str, right: int) -> int:
    """What a weak writer puts down where the true result would be negative or no integer."""
    exact = apply(left, op, right)
    return abs(exact) if exact is not None else left // max(1, right)


def calculations(text: str) -> list[tuple[int, str, int, int]]:
    """Every ``a op b = c`` of a text as (a, op, b, c), in order."""
    return [(int(a), _SIGNS.get(op, op), int(b), int(c)) for a, op, b, c in _CALCULATION.findall(text)]


def stated_answer(text: str) -> int | None:
    """The number after the last ``####``, else the last number of the text."""
    marked = re.findall(r"####\s*(-?\d+)", text) or re.findall(r"-?\d+", text)
    return int(marked[-1]) if marked else None


def calculation_verdicts(problem: WordProblem, text: str) -> list[bool]:
    """Judge every calculation of a solution, in order.

    A calculation is right when it is one of the true steps (operands of + and * in either order) with the true result, each step once.
    A solution that takes another way is right throughout when its arithmetic holds and it ends in the right answer.

    Args:
        problem: The problem with its true steps.
        text: Any solution text.
    """
    written = calculations(text)
    sound = [apply(left, op, right) == value for left, op, right, value in written]
    if all(sound) and stated_answer(text) == problem.answer:
        return sound
    open_steps = list(problem.steps)
    verdicts = []
    for holds, (left, op, right, _) in zip(sound, written, strict=True):
        same = next((step for step in open_steps if _same(step, left, op, right)), None) if holds else None
        if same is not None:
            open_steps.remove(same)
        verdicts.append(same is not None)
    return verdicts


def first_wrong_step(problem: WordProblem, text: str) -> int | None:
    """Find where a solution goes wrong, by ``calculation_verdicts``.

    When every calculation is right and the answer is not, the step after the last calculation is the wrong one: the solution stopped
    short or misread its own result.

    Args:
        problem: The problem with its true steps.
        text: Any solution text.

    Returns:
        1-based number of the first wrong calculation; None for a right solution.
    """
    verdicts = calculation_verdicts(problem, text)
    if False in verdicts:
        return verdicts.index(False) + 1
    return None if stated_answer(text) == problem.answer else len(verdicts) + 1


def _same(step: Step, left: int, op: str, right: int) -> bool:
    if step.op != op:
        return False
    return (step.left, step.right) == (left, right) or (op in "+*" and (step.right, step.left) == (left, right))
