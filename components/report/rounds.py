"""Practice rounds that were left out: the model went through them as it was, and nothing can be said about preference tuning there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class RoundLeftOut:
    """One of them.

    Attributes:
        number: 1-based.
        reason: Why, in words and figures.
    """

    number: int
    reason: str

    @property
    def models(self) -> tuple[str, str]:
        """Names under which the unchanged model goes on: of the preference arm and of its control."""
        return f"M{self.number + 1}", f"M{self.number + 1}-control"

    @property
    def kept(self) -> str:
        """Name of the model that the round started from."""
        return f"M{self.number}"

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        return (
            f"Practice round {self.number} was left out: {self.reason}. {self.models[0]} is {self.kept} unchanged, and so is its "
            "control: the round says nothing about preference tuning."
        )


class Told(Protocol):
    """What is needed of a task's record, whole or in short."""

    @property
    def stage(self) -> str: ...

    @property
    def task(self) -> str: ...

    @property
    def left_out(self) -> str: ...


def rounds_left_out(records: Iterable[Told]) -> list[RoundLeftOut]:
    """The rounds whose tuning had nothing to learn from, in their order.

    The reason is what the building of pairs says about the student, where it says something, followed by what the method lacks.
    """
    pairless: dict[int, str] = {}
    found: dict[int, str] = {}
    for record in records:
        number = _number(record.task)
        if record.left_out and number is not None:
            if record.stage == "preferences":
                pairless[number] = record.left_out
            elif record.stage == "preference_tuning":
                found[number - 1] = record.left_out
    return [RoundLeftOut(number, "; ".join(filter(None, (pairless.get(number), found[number])))) for number in sorted(found)]


def _number(task: str) -> int | None:
    """2 in the name of a task about M2."""
    match = re.search(r"\bM(\d+)\b", task)
    return int(match[1]) if match else None
