"""Ask-Me-Anything: every quantity of a seed becomes the unknown of a problem."""

from __future__ import annotations

from components.core.records import Problem
from components.synthesis.arms.arm import Arm, Desk, Written
from components.synthesis.filters import question_fault
from components.synthesis.parsers import parse_questions
from components.teacher.agents import ASK_ME_ANYTHING, PROMPTS, ask_me_anything
from components.teacher.client import ReplyError


class AskMeAnything(Arm):
    """On every seed that has a short answer (Orca-Math, arXiv 2402.14830, section 2.1)."""

    name = "ask_me_anything"
    salt = "ask"
    prompts = (PROMPTS[ASK_ME_ANYTHING],)
    unusable = "seeds_without_answer"

    def takes(self, seed: Problem) -> bool:
        return seed.answer is not None

    async def write(self, desk: Desk, seed: Problem, written: Written) -> Written:
        try:
            reply = await ask_me_anything(desk.teacher, seed.question, seed.answer or "", desk.options.temperature)
            questions = parse_questions(reply)
            if not questions:
                written.drop("unparsable_reply", seed, reply)
            for question in questions[desk.options.max_questions_per_seed :]:
                written.drop("over_limit", seed, question.question)
            for question in questions[: desk.options.max_questions_per_seed]:
                fault = question_fault(question.question) or await desk.solvability_fault(question.question)
                if fault:
                    written.drop(fault, seed, question.question)
                else:
                    written.problems.append(desk.problem(question.question, seed, seed, self.name, self.prompts[0]))
        except ReplyError:
            written.drop("teacher_failed", seed)
        return written
