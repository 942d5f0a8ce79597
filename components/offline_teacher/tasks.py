"""From a request to the text of its reply: a pure function of request, sample and options."""

from __future__ import annotations

import re

from components.offline_teacher import reviewing, rewriting
from components.offline_teacher.knowledge import Knowledge
from components.offline_teacher.protocol import ChatRequest, last_user_text, sections_of, task_of

_WRAPPING = re.compile(r"^\s*(?:Question|Problem|Q)\s*:\s*|\s*(?:Answer|Solution|A)\s*:\s*$", re.IGNORECASE)
_LISTED = re.compile(r"^\s*\d+\s*[.):]", re.MULTILINE)


def reply(request: ChatRequest, knowledge: Knowledge, choice: int = 0) -> str:
    """Text of the reply.

    Args:
        request: The request; its first system line names the task. Without a task the last user message is solved.
        knowledge: Options and answer key.
        choice: Index among the ``n`` choices of one request.
    """
    task = task_of(request)
    sections = sections_of(request, task)
    sample = request.sample + choice
    problem = sections.get("problem", "") or _WRAPPING.sub("", last_user_text(request)).strip()
    if task == "ask_me_anything":
        return rewriting.ask_me_anything(problem)
    if task == "suggest":
        return rewriting.suggest(problem, knowledge, sample)
    if task == "edit":
        return rewriting.edit(problem, sections.get("suggestions") or _unlabelled_list(request), knowledge, sample)
    if task == "generate":
        return rewriting.generate_problem(last_user_text(request), knowledge, sample)
    if task == "judge":
        return reviewing.judge(sections.get("reference answer", ""), sections.get("student's answer", ""))
    if task == "solvable":
        return reviewing.solvable(problem, knowledge)
    if task == "explain":
        return reviewing.explain(problem, sections.get("solution", ""), sections.get("reference answer", ""), knowledge)
    return reviewing.solve(problem, knowledge, sample)


def _unlabelled_list(request: ChatRequest) -> str:
    """The last user message that is a numbered list: how another agent's suggestions arrive."""
    texts = (message.text for message in reversed(request.messages) if message.role == "user")
    return next((text for text in texts if _LISTED.match(text.lstrip())), "")
