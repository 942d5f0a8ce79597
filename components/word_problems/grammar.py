"""What a family of word problems is made of: sentences with paraphrases, a small program, and ways to ask for each quantity.

Templates hold placeholders. ``{n}`` and ``{m}`` are names, ``{he}`` and ``{He}`` the pronoun of ``{n}``, ``{o}`` an object,
``{c}`` and ``{k}`` containers, ``{z}`` the final value; every other single letter is a quantity. Paraphrases are separated by ``|``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

WORD_SLOTS = frozenset({"n", "m", "he", "He", "o", "c", "k"})
UNKNOWN_WORDS = ("some", "several")
RESULT = "z"
TAIL_QUANTITY = "x"
SPLIT = "a"
"""The quantity that an expansion gives by two numbers."""


def alternatives(text: str) -> tuple[str, ...]:
    """Split ``"A | B | C"`` into its paraphrases."""
    return tuple(part.strip() for part in text.split("|"))


def quantities(template: str) -> tuple[str, ...]:
    """Names of the quantities in a template, in reading order, the final value left out."""
    return tuple(name for name in re.findall(r"\{(\w+)\}", template) if name not in WORD_SLOTS and name != RESULT)


@dataclass(frozen=True)
class Equation:
    """``target = left op right``; operands are quantity names or digits."""

    target: str
    left: str
    op: str
    right: str


def equation(text: str) -> Equation:
    """Read ``"s = a * b"``."""
    target, _, left, op, right = text.split()
    return Equation(target, left, op, right)


@dataclass(frozen=True, eq=False)
class Ask:
    """How to ask for one given quantity.

    Args:
        label: Noun phrase that names the quantity, the target of an Ask-Me-Anything problem.
        texts: Question paraphrases separated by ``|``.
    """

    label: str
    texts: str

    @cached_property
    def questions(self) -> tuple[str, ...]:
        """The question paraphrases."""
        return alternatives(self.texts)


@dataclass(frozen=True, eq=False)
class Closing:
    """How a story ends: the question for the final value, or a sentence that tells it when something else is asked.

    Args:
        label: Noun phrase that names the final value.
        asking: Question paraphrases.
        telling: Paraphrases of the sentence that gives the final value away.
    """

    label: str
    asking: str
    telling: str

    @cached_property
    def questions(self) -> tuple[str, ...]:
        """The question paraphrases."""
        return alternatives(self.asking)

    @cached_property
    def outcomes(self) -> tuple[str, ...]:
        """The paraphrases that tell the final value."""
        return alternatives(self.telling)


@dataclass(frozen=True, eq=False)
class Tail:
    """One more event after the story: its quantity is always ``{x}`` and changes the final value by ``op``.

    Args:
        name: Unique name.
        texts: Sentence paraphrases.
        op: ``+``, ``-`` or ``/``: new value = old value op x.
        ask: How to ask for ``x``.
        closing: Replaces the family's closing; None keeps it.
        last: Nothing can follow.
    """

    name: str
    texts: str
    op: str
    ask: Ask
    closing: Closing | None = None
    last: bool = False

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The sentence paraphrases."""
        return alternatives(self.texts)


@dataclass(frozen=True, eq=False)
class Expansion:
    """A richer opening that gives the first quantity by two numbers instead of one.

    Args:
        texts: Sentence paraphrases with the quantities ``{g}`` and ``{p}``.
        op: First quantity = g op p.
        asks: How to ask for ``g`` and ``p``.
    """

    texts: str
    op: str
    asks: Mapping[str, Ask]

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The sentence paraphrases."""
        return alternatives(self.texts)


@dataclass(frozen=True, eq=False)
class Family:
    """A family of word problems.

    Args:
        name: Unique name.
        sentences: One entry of paraphrases per statement, in story order.
        program: Equations from the given quantities to ``z``, in order.
        closing: How the story ends.
        asks: Given quantity to its question.
        tails: Events that can follow.
        inversions: True equations beyond the program, for a quantity that the program uses twice.
        expandable: The first sentence gives ``a`` alone and may be replaced by an ``Expansion``.
    """

    name: str
    sentences: tuple[str, ...]
    program: tuple[str, ...]
    closing: Closing
    asks: Mapping[str, Ask]
    tails: tuple[Tail, ...] = ()
    inversions: tuple[str, ...] = ()
    expandable: bool = False

    @cached_property
    def slots(self) -> tuple[tuple[str, ...], ...]:
        """The paraphrases of each statement."""
        return tuple(alternatives(text) for text in self.sentences)

    @cached_property
    def equations(self) -> tuple[Equation, ...]:
        """The program, read."""
        return tuple(equation(text) for text in self.program)

    @cached_property
    def extra(self) -> tuple[Equation, ...]:
        """The inversions, read."""
        return tuple(equation(text) for text in self.inversions)
