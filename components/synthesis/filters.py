"""Why a new problem is not kept."""

from __future__ import annotations

import re
from collections.abc import Iterable

from components.core.records import problem_id

MIN_WORDS = 4
"""Shorter texts are fragments, not problems (our choice)."""

_ASKING = r"(?:how (?:many|much|long|far|old|often|tall|heavy|fast)|what (?:is|are|was|were|percent\w*|fraction)|find|calculate|determine)"
_TWO_IN_ONE = re.compile(rf"\b{_ASKING}\b[^.?!？؟]*(?:,| and| as well as)\s+(?:also\s+)?{_ASKING}\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“„«][^\"“”„«»]*[\"”“»]")
_QUESTION_END = re.compile(r"[?？؟]+")


def question_fault(question: str) -> str | None:
    """Why a text cannot be a problem: ``empty`` or ``several_questions``; None when it can.

    Questions inside quotation marks belong to the story and are not counted.
    """
    if len(re.findall(r"\w+", question)) < MIN_WORDS and len(question) < 12:
        return "empty"
    told = _QUOTED.sub(" ", question)
    if len(_QUESTION_END.findall(told)) > 1 or _TWO_IN_ONE.search(told):
        return "several_questions"
    return None


class SeenProblems:
    """Remembers problems by their normalised text.

    Args:
        questions: Texts known from the start.
    """

    def __init__(self, questions: Iterable[str] = ()) -> None:
        self._ids = {problem_id(question) for question in questions}

    def add(self, question: str) -> bool:
        """Note a problem; False when it was known."""
        identifier = problem_id(question)
        new = identifier not in self._ids
        self._ids.add(identifier)
        return new
