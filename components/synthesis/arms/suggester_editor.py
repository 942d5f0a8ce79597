"""Suggester and Editor: a seed is rewritten towards an objective, round after round."""

from __future__ import annotations

from components.core.records import Problem, problem_id
from components.synthesis.arms.arm import Arm, Desk, Written
from components.synthesis.filters import question_fault
from components.synthesis.parsers import parse_problem, parse_suggestions
from components.teacher.agents import EDITOR, PROMPTS, SUGGESTER, rewrite_once
from components.teacher.client import ReplyError
from components.teacher.solve import PROMPT as SOLVE
from components.teacher.solve import solve_problem


class SuggesterEditor(Arm):
    """Until a round brings nothing that can be kept (Orca-Math, arXiv 2402.14830, section 2.1)."""

    name = "suggester_editor"
    salt = "rewrite"
    prompts = (PROMPTS[SUGGESTER], PROMPTS[EDITOR], SOLVE)

    async def write(self, desk: Desk, seed: Problem, written: Written) -> Written:
        current = seed
        try:
            for number in range(1, desk.options.rounds + 1):
                rewrite = await rewrite_once(desk.teacher, current.question, desk.options.objective, desk.options.temperature)
                question = parse_problem(rewrite.problem)
                fault = "unparsable_reply" if question is None else await _fault(desk, question, current)
                if question is None or fault:
                    written.drop(fault or "unparsable_reply", seed, question or rewrite.problem)
                    break
                written.suggestions.append(
                    {"round": number, "before": current.question, "suggestions": parse_suggestions(rewrite.suggestions), "after": question}
                )
                current = desk.problem(question, seed, current, self.name, PROMPTS[EDITOR], number)
                written.problems.append(current)
        except ReplyError:
            written.drop("teacher_failed", seed)
        return written


async def _fault(desk: Desk, question: str, before: Problem) -> str | None:
    fault = question_fault(question)
    if fault is None and problem_id(question) == before.id:
        fault = "duplicate"
    if fault is None:
        fault = await desk.solvability_fault(question)
    if fault is None:
        solution = await solve_problem(desk.teacher, question)
        if solution.finish_reason == "length" or len(solution.text) > desk.options.max_answer_chars:
            fault = "answer_too_long"
    return fault
