"""Asking the teacher for a verdict, and reading it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from components.core.errors import BudgetError
from components.core.stage import StageRun
from components.judging.options import JudgingOptions
from components.teacher.client import ReplyError, Teacher
from components.teacher.concurrency import map_concurrently
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt, sections

PROMPT = "judge"
ATTEMPTS = 2
"""A reply without a readable verdict is asked for once more, as another sample."""

_VERDICT = re.compile(r"^[\s>*_#-]*(?:final\s+)?verdict[\s*_]*[:：][\s*_`\"']*(correct|incorrect)\b", re.IGNORECASE | re.MULTILINE)
_STUDENT = re.compile(r"^[\s>*_#-]*student[\s*_]*[:：][\s*_]*(.+?)[\s*_]*$", re.IGNORECASE | re.MULTILINE)


class Ruling(NamedTuple):
    """What the judge said.

    Attributes:
        correct: The verdict; None when no reply was readable.
        answer: The student's answer as the judge read it; None when it found none.
        reason: The judge's words.
        unreadable: Replies without a readable verdict, refused requests included.
    """

    correct: bool | None
    answer: str | None
    reason: str
    unreadable: int


def parse_verdict(reply: str) -> bool | None:
    """The last ``Verdict:`` line of a reply: True for correct, False for incorrect, None for anything else."""
    found = _VERDICT.findall(reply)
    return found[-1].lower() == "correct" if found else None


def parse_answer(reply: str) -> str | None:
    """The last ``Student:`` line of a reply; None when there is none or it says so."""
    found = _STUDENT.findall(reply)
    return found[-1] if found and found[-1].lower().rstrip(".") != "none" else None


class Question(NamedTuple):
    """One response to judge.

    Attributes:
        problem: The problem's text.
        reference: Short reference answer.
        response: The student's whole response.
    """

    problem: str
    reference: str
    response: str


async def ask_all(
    questions: Sequence[Question], endpoint: TeacherOptions, responses: str, options: JudgingOptions, stage: StageRun
) -> tuple[list[Ruling | None], BudgetError | None]:
    """Rulings on many responses, in their order; usage and prompt version are noted in the stage.

    When the budget does not last, the error is given back with the rulings so far, and None stands for each that is left.

    Args:
        questions: What to judge.
        endpoint: The teacher.
        responses: Address of the response store.
        options: Temperature and limits.
        stage: Shows progress.

    Raises:
        TeacherError: The teacher is unreachable, refuses the key or fails again and again.
    """
    stage.prompts[PROMPT] = load_prompt(PROMPT).version
    async with Teacher(endpoint, responses, stage) as teacher:
        try:
            return await map_concurrently(
                lambda question: ask_judge(teacher, question, options),
                questions,
                teacher.workers,
                lambda done, total: stage.progress(done, total, "verdicts"),
                "verdicts",
            ), None
        except BudgetError as error:
            return error.results, error
        finally:
            stage.usage = teacher.usage


async def ask_judge(teacher: Teacher, question: Question, options: JudgingOptions) -> Ruling:
    """Let the teacher compare a response with the reference answer.

    Args:
        teacher: The client.
        question: What to judge; only the end of a very long response is shown.
        options: Temperature and limits.
    """
    shown = question.response[-options.max_response_chars :].strip() or "(empty)"
    user = sections(problem=question.problem, reference_answer=question.reference, students_answer=shown)
    messages = load_prompt(PROMPT).messages(user)
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            reply = await teacher.chat(messages, temperature=options.temperature, max_tokens=options.max_reply_tokens, sample=attempt)
        except ReplyError as error:
            reason = error.message
            continue
        reason = " | ".join(line.strip() for line in reply.text.splitlines() if line.strip())[:300]
        verdict = parse_verdict(reply.text)
        if verdict is not None:
            return Ruling(verdict, parse_answer(reply.text), reason, attempt)
    return Ruling(None, None, reason, ATTEMPTS)
