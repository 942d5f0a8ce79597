"""Arithmetic steps in a worked solution: where a response first goes wrong, and a pair that differs from there on only.

Works on any text that writes its calculations as ``a op b = c``; nothing is known about the problem except a correct solution.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest

TOLERANCE = Fraction(1, 1000)
"""Results that are not integers agree within this (they are rounded by their writers)."""
MAX_EXPRESSION = 200
"""Longer expressions are not read as a step; characters."""

_NUMBER = r"\$?-?(?:\d{1,3}(?:,\d{3}){1,12}(?!\d)|\d{1,30})(?:\.\d{1,30})?"
_STEP = re.compile(
    rf"(?<![\w.($])(?P<expression>[($]{{0,6}}{_NUMBER}(?:[ \t)]{{0,6}}[-+*/x×÷−][ \t($]{{0,6}}{_NUMBER}){{1,16}}[ \t)]{{0,6}})"
    rf"=[ \t]{{0,3}}(?P<value>{_NUMBER})"
)
_SIGNS = str.maketrans({"x": "*", "×": "*", "÷": "/", "−": "-", "$": None, ",": None})
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)\s*|\n\s*")


@dataclass(frozen=True, slots=True)
class ArithmeticStep:
    """One calculation with the words around it.

    Attributes:
        start: Offset where its text begins: the end of the previous step.
        end: Offset after its sentence and the white space behind it.
        value: The result that it states.
        holds: Whether the calculation really gives this result.
    """

    start: int
    end: int
    value: Fraction
    holds: bool


@dataclass(frozen=True, slots=True)
class CutPair:
    """A chosen and a rejected text that share their beginning.

    Attributes:
        chosen: The shared correct steps, then the rest of a correct solution.
        rejected: The shared correct steps, then the first wrong step.
        shared: Number of shared steps.
    """

    chosen: str
    rejected: str
    shared: int


def arithmetic_steps(text: str) -> list[ArithmeticStep]:
    """Find the calculations of a text, in order; together with what follows the last one they cover the text."""
    found = [match for match in _STEP.finditer(text) if _evaluate(match["expression"]) is not None]
    steps: list[ArithmeticStep] = []
    start = 0
    for match, following in zip_longest(found, found[1:]):
        closing = _SENTENCE_END.search(text, match.end())
        end = closing.end() if closing else len(text)
        if following is not None and following.start() < end:
            rest = text[match.end() :]
            end = len(text) - len(rest.lstrip(" \t,;"))
        computed = _evaluate(match["expression"])
        value = Fraction(match["value"].translate(_SIGNS))
        steps.append(ArithmeticStep(start, end, value, computed is not None and _agree(computed, value)))
        start = end
    return steps


def first_wrong_step(response: str, solution: str) -> int | None:
    """Find the first step of a wrong response that is false in itself or not a step of the correct solution.

    A step is right when its arithmetic holds and its result is that of a step of the solution that was not used before; their order
    is free.

    Args:
        response: A response known to be wrong.
        solution: A correct solution of the same problem.

    Returns:
        The 1-based number of the step; one more than there are steps when only the stated answer is wrong; None when the response
        holds no step.
    """
    steps = arithmetic_steps(response)
    return len(_right_steps(steps, arithmetic_steps(solution))) + 1 if steps else None


def cut_pair(solution: str, response: str) -> CutPair | None:
    """Build a pair that differs from the first wrong step on only.

    Args:
        solution: A correct solution.
        response: A wrong response to the same problem.

    Returns:
        The pair; None when the response holds no step, so that there is nowhere to cut.
    """
    steps, own = arithmetic_steps(response), arithmetic_steps(solution)
    if not steps:
        return None
    used = _right_steps(steps, own)
    good = len(used)
    shared = response[: steps[good - 1].end] if good else ""
    rejected = response[: steps[good].end].rstrip() if good < len(steps) else response
    rest = "".join(solution[step.start : step.end] for index, step in enumerate(own) if index not in used)
    tail = solution[own[-1].end :] if own else solution
    if shared and not shared[-1].isspace():
        shared += "\n"
    return CutPair((shared + rest + tail).rstrip(), rejected, good)


def _right_steps(steps: list[ArithmeticStep], own: list[ArithmeticStep]) -> list[int]:
    """For the right steps before the first wrong one: which steps of the solution they are."""
    used: list[int] = []
    for step in steps:
        match = next((index for index, other in enumerate(own) if index not in used and _agree(step.value, other.value)), None)
        if not step.holds or match is None:
            break
        used.append(match)
    return used


def _agree(computed: Fraction, stated: Fraction) -> bool:
    if computed == stated:
        return True
    if computed.denominator == 1 and stated.denominator == 1:
        return False
    return abs(computed - stated) <= TOLERANCE * max(abs(computed), abs(stated))


def _evaluate(expression: str) -> Fraction | None:
    """Exact value of an expression of numbers, ``+ - * /`` and brackets; None when it is none or divides by zero."""
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", expression.translate(_SIGNS).strip())
    if len(text) > MAX_EXPRESSION:
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ZeroDivisionError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return Fraction(str(node.value))
    raise SyntaxError("not an arithmetic expression")
