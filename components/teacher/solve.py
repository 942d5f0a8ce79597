"""Asking the teacher to solve a problem: the same request from whichever stage, so that it is paid for once."""

from __future__ import annotations

from components.teacher.client import Reply, Teacher
from components.teacher.prompts import load_prompt, sections

PROMPT = "solve"


async def solve_problem(teacher: Teacher, question: str, sample: int = 0, temperature: float = 0.0) -> Reply:
    """Get a worked solution.

    Args:
        teacher: The client.
        question: The problem's text.
        sample: Index among several solutions of the same problem. Index 0 is always the teacher's most likely solution, whatever
            the temperature: synthesis looks at its length, solving hands it on.
        temperature: Temperature of the samples after the first.
    """
    prompt = load_prompt(PROMPT)
    return await teacher.chat(prompt.messages(sections(problem=question)), temperature=temperature if sample else 0.0, sample=sample)
