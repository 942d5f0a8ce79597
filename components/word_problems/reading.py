"""A problem taken apart: its family, events, wordings, values and which quantity is asked for; and back to text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from components.word_problems.endings import EXPANSIONS
from components.word_problems.grammar import (
    RESULT,
    SPLIT,
    TAIL_QUANTITY,
    Ask,
    Closing,
    Equation,
    Expansion,
    Family,
    Tail,
    equation,
    quantities,
)
from components.word_problems.lexicon import pronoun
from components.word_problems.solving import Step, evaluate, plan


@dataclass(frozen=True)
class WordProblem:
    """A word problem with its true solution.

    Args:
        question: The text.
        answer: Positive integer.
        steps: The calculations, one to four.
        family: Name of the family.
    """

    question: str
    answer: int
    steps: tuple[Step, ...]
    family: str


@dataclass(frozen=True)
class Shape:
    """The structure of a problem without wording and values."""

    family: Family
    expansion: Expansion | None = None
    tails: tuple[Tail, ...] = ()

    @cached_property
    def closing(self) -> Closing:
        """The closing of the last event that brings one, else the family's."""
        for tail in reversed(self.tails):
            if tail.closing:
                return tail.closing
        return self.family.closing

    @cached_property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """Paraphrases of every statement, in order."""
        opening = (self.expansion.sentences,) if self.expansion else self.family.slots[:1]
        return (*opening, *self.family.slots[1:], *(tail.sentences for tail in self.tails))

    @cached_property
    def result(self) -> str:
        """Name of the final value."""
        return f"{RESULT}{len(self.tails)}"

    @cached_property
    def equations(self) -> tuple[Equation, ...]:
        """The program from the given quantities to the final value."""
        first = (equation(f"{SPLIT} = g {self.expansion.op} p"),) if self.expansion else ()
        tails = (Equation(f"{RESULT}{i}", f"{RESULT}{i - 1}", tail.op, f"{TAIL_QUANTITY}{i}") for i, tail in enumerate(self.tails, start=1))
        return (*first, *(_renamed(item) for item in self.family.equations), *tails)

    @cached_property
    def inversions(self) -> tuple[Equation, ...]:
        """True equations beyond the program."""
        return tuple(_renamed(item) for item in self.family.extra)

    @cached_property
    def asks(self) -> dict[str, Ask]:
        """Given quantity to its question."""
        asks = dict(self.family.asks)
        if self.expansion:
            asks.pop(SPLIT)
            asks |= self.expansion.asks
        return asks | {f"{TAIL_QUANTITY}{i}": tail.ask for i, tail in enumerate(self.tails, start=1)}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the given quantities."""
        names = [self.quantity(name, position) for position, slot in enumerate(self.slots) for name in quantities(slot[0])]
        return (*names, *quantities(self.closing.questions[0]))

    def quantity(self, name: str, position: int) -> str:
        """Full name of a quantity in the statement at ``position``: tails number theirs."""
        return f"{TAIL_QUANTITY}{position - len(self.family.slots) + 1}" if name == TAIL_QUANTITY else name


def _renamed(item: Equation) -> Equation:
    def rename(name: str) -> str:
        return f"{RESULT}0" if name == RESULT else name

    return Equation(rename(item.target), rename(item.left), item.op, rename(item.right))


@dataclass(frozen=True)
class Reading:
    """A problem taken apart.

    Args:
        shape: Its structure.
        statements: Chosen paraphrase of every statement.
        outcome: Chosen paraphrase that tells the final value; empty when that is asked for.
        asking: Chosen question.
        words: Word placeholder to word.
        values: Every given quantity, the unknown one and the final value included.
        unknown: Name of the quantity asked for; empty for the final value.
    """

    shape: Shape
    statements: tuple[str, ...]
    outcome: str
    asking: str
    words: Mapping[str, str]
    values: Mapping[str, int]
    unknown: str = ""

    @property
    def style(self) -> int:
        """Which of the paraphrases the story opens with; what is written anew takes the same one."""
        return self.shape.slots[0].index(self.statements[0])


@lru_cache(maxsize=4096)
def _plan(shape: Shape, given: frozenset[str], target: str) -> tuple[Equation, ...] | None:
    ordered = plan(target, given, shape.equations)
    if ordered is None:
        ordered = plan(target, given, shape.equations + shape.inversions)
    return None if ordered is None else tuple(ordered)


def solve(shape: Shape, given: Mapping[str, int], unknown: str) -> tuple[list[Step], dict[str, int]] | None:
    """Work out the wanted quantity from the given ones.

    Args:
        shape: Structure of the problem.
        given: Values by name, without the unknown.
        unknown: Name of the wanted quantity; empty for the final value.
    """
    ordered = _plan(shape, frozenset(given), unknown or shape.result)
    return evaluate(ordered, given) if ordered is not None else None


def given_values(reading: Reading) -> dict[str, int]:
    """The values that the text tells: all but the wanted one."""
    wanted = reading.unknown or reading.shape.result
    return {name: value for name, value in reading.values.items() if name != wanted}


def with_unknown(reading: Reading, unknown: str) -> Reading:
    """The same story, in its own style, with another quantity asked for."""
    closing = reading.shape.closing
    questions = reading.shape.asks[unknown].questions if unknown else closing.questions
    return replace(
        reading,
        unknown=unknown,
        outcome=closing.outcomes[reading.style % len(closing.outcomes)] if unknown else "",
        asking=questions[reading.style % len(questions)],
    )


def fill(template: str, reading: Reading, position: int = 0) -> str:
    """Put words and values into one template."""

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        if name in ("he", "He"):
            word = pronoun(reading.words["n"])
            return reading.words["n"] if word is None else word if name == "he" else word.capitalize()
        if name in reading.words:
            return reading.words[name]
        full = reading.shape.result if name == RESULT else reading.shape.quantity(name, position)
        if full == reading.unknown:
            return "several" if template[match.end() :].startswith(" times") else "some"
        return str(reading.values[full])

    return re.sub(r"\{(\w+)\}", value_of, template)


def render(reading: Reading) -> str:
    """The question text."""
    parts = [fill(template, reading, position) for position, template in enumerate(reading.statements)]
    if reading.outcome:
        parts.append(fill(reading.outcome, reading))
    return " ".join([*parts, fill(reading.asking, reading)])


def to_problem(reading: Reading) -> WordProblem | None:
    """Solve and write a reading; None when it has no positive integer solution."""
    solved = solve(reading.shape, given_values(reading), reading.unknown)
    if solved is None or not solved[0]:
        return None
    return WordProblem(render(reading), solved[0][-1].value, tuple(solved[0]), reading.shape.family.name)


def expansions_of(family: Family) -> tuple[Expansion | None, ...]:
    """The openings that a family can have; None is its own."""
    return (None, *EXPANSIONS) if family.expandable else (None,)
