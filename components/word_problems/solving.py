"""Solves a program for any of its quantities: known values spread through the equations until the wanted one is reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.word_problems.grammar import Equation

_SOLVED_FOR = {
    ("+", "left"): ("target", "-", "right"),
    ("+", "right"): ("target", "-", "left"),
    ("-", "left"): ("target", "+", "right"),
    ("-", "right"): ("left", "-", "target"),
    ("*", "left"): ("target", "/", "right"),
    ("*", "right"): ("target", "/", "left"),
    ("/", "left"): ("target", "*", "right"),
    ("/", "right"): ("left", "/", "target"),
}
OPERATORS = ("+", "-", "*", "/")


@dataclass(frozen=True)
class Step:
    """One calculation of a worked solution.

    Args:
        left: Left operand.
        op: ``+``, ``-``, ``*`` or ``/``.
        right: Right operand.
        value: The result.
        left_from: 0-based index of the step that gave the left operand; None for a number of the problem.
        right_from: The same for the right operand.
    """

    left: int
    op: str
    right: int
    value: int
    left_from: int | None = None
    right_from: int | None = None

    @property
    def text(self) -> str:
        """``3 * 4 = 12``."""
        return f"{self.left} {self.op} {self.right} = {self.value}"


def apply(left: int, op: str, right: int) -> int | None:
    """The exact result of ``left op right``; None for a division that does not come out even."""
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    return left // right if right and left % right == 0 else None


def plan(target: str, known: Iterable[str], equations: Iterable[Equation]) -> list[Equation] | None:
    """Order the calculations that lead from the known quantities to the target, leaving out what is not needed.

    Returns:
        Equations solved for what they give, in the order of a worked solution; None when the target cannot be reached.
    """
    have = set(known)
    derived: dict[str, Equation] = {}
    pending = list(equations)
    progress = True
    while target not in have and progress:
        progress = False
        for item in list(pending):
            missing = [side for side in ("target", "left", "right") if not (name := getattr(item, side)).isdigit() and name not in have]
            if len(missing) > 1:
                continue
            pending.remove(item)
            if missing:
                solved = _solve_for(item, missing[0])
                derived[solved.target] = solved
                have.add(solved.target)
                progress = True
    if target not in have:
        return None
    ordered: list[Equation] = []
    _collect(target, derived, ordered)
    return ordered


def _solve_for(item: Equation, side: str) -> Equation:
    if side == "target":
        return item
    left, op, right = _SOLVED_FOR[item.op, side]
    return Equation(getattr(item, side), getattr(item, left), op, getattr(item, right))


def _collect(name: str, derived: Mapping[str, Equation], ordered: list[Equation]) -> None:
    item = derived.get(name)
    if item is None or item in ordered:
        return
    _collect(item.left, derived, ordered)
    _collect(item.right, derived, ordered)
    ordered.append(item)


def evaluate(equations: Iterable[Equation], values: Mapping[str, int]) -> tuple[list[Step], dict[str, int]] | None:
    """Carry out solved equations in order.

    Returns:
        The steps, and all values by name; None when a result is no positive integer.
    """
    steps: list[Step] = []
    everything = dict(values)
    origin: dict[str, int] = {}
    for item in equations:
        left = int(item.left) if item.left.isdigit() else everything[item.left]
        right = int(item.right) if item.right.isdigit() else everything[item.right]
        value = apply(left, item.op, right)
        if value is None or value < 1:
            return None
        steps.append(Step(left, item.op, right, value, origin.get(item.left), origin.get(item.right)))
        origin[item.target] = len(steps) - 1
        everything[item.target] = value
    return steps, everything
