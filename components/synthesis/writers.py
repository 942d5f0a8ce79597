"""What the agents make of one seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.core.records import Problem, problem_id
from components.synthesis.filters import question_fault
from components.synthesis.options import SynthesisOptions
from components.synthesis.parsers import parse_problem, parse_questions, parse_solvable, parse_suggestions
from components.teacher.agents import ASK_ME_ANYTHING, EDITOR, PROMPTS, ask_me_anything, check_solvable, rewrite_once
from components.teacher.client import ReplyError, Teacher
from components.teacher.prompts import load_prompt
from components.teacher.solve import solve_problem

METHOD_ASK_ME_ANYTHING = "ask_me_anything"
METHOD_SUGGESTER_EDITOR = "suggester_editor"


@dataclass
class Written:
    """New problems of one seed, and why others were not kept.

    Attributes:
        problems: In the order in which they were written.
        dropped: One reason per problem (or reply) that was not kept.
        rejected: What these were, in the same order: seed and text.
        suggestions: One dict per round of Suggester and Editor, for people to read.
    """

    problems: list[Problem] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    rejected: list[dict[str, str]] = field(default_factory=list)
    suggestions: list[dict[str, str | int | list[str]]] = field(default_factory=list)

    def drop(self, reason: str, seed: Problem, text: str = "") -> None:
        """Leave out what came of a seed."""
        self.dropped.append(reason)
        self.rejected.append({"seed": seed.id, "seed_question": seed.question, "text": text})


@dataclass(frozen=True)
class Writer:
    """Runs the agents.

    Attributes:
        teacher: The client.
        options: The stage's options.
    """

    teacher: Teacher
    options: SynthesisOptions

    async def ask(self, seed: Problem, written: Written) -> Written:
        """Ask-Me-Anything on one seed that has a short answer.

        Args:
            seed: The problem.
            written: Receives what comes of it, piece by piece: whoever is stopped in the middle has what is done.

        Returns:
            The same.

        Raises:
            TeacherError: Any error of the client but those of a single request.
        """
        try:
            reply = await ask_me_anything(self.teacher, seed.question, seed.answer or "", self.options.temperature)
            questions = parse_questions(reply)
            if not questions:
                written.drop("unparsable_reply", seed, reply)
            for question in questions[self.options.max_questions_per_seed :]:
                written.drop("over_limit", seed, question.question)
            for question in questions[: self.options.max_questions_per_seed]:
                fault = question_fault(question.question) or await self._solvability_fault(question.question)
                if fault:
                    written.drop(fault, seed, question.question)
                else:
                    written.problems.append(self._problem(question.question, seed, seed, METHOD_ASK_ME_ANYTHING, ASK_ME_ANYTHING, 0))
        except ReplyError:
            written.drop("teacher_failed", seed)
        return written

    async def rewrite(self, seed: Problem, written: Written) -> Written:
        """Suggester and Editor on one seed, round after round, until a round brings nothing that can be kept.

        Arguments, result and errors are those of :meth:`ask`.
        """
        current = seed
        try:
            for number in range(1, self.options.rounds + 1):
                rewrite = await rewrite_once(self.teacher, current.question, self.options.objective, self.options.temperature)
                question = parse_problem(rewrite.problem)
                fault = "unparsable_reply" if question is None else await self._rewrite_fault(question, current)
                if question is None or fault:
                    written.drop(fault or "unparsable_reply", seed, question or rewrite.problem)
                    break
                written.suggestions.append(
                    {"round": number, "before": current.question, "suggestions": parse_suggestions(rewrite.suggestions), "after": question}
                )
                current = self._problem(question, seed, current, METHOD_SUGGESTER_EDITOR, EDITOR, number)
                written.problems.append(current)
        except ReplyError:
            written.drop("teacher_failed", seed)
        return written

    async def _rewrite_fault(self, question: str, before: Problem) -> str | None:
        fault = question_fault(question)
        if fault is None and problem_id(question) == before.id:
            fault = "duplicate"
        if fault is None:
            fault = await self._solvability_fault(question)
        if fault is None:
            solution = await solve_problem(self.teacher, question)
            if solution.finish_reason == "length" or len(solution.text) > self.options.max_answer_chars:
                fault = "answer_too_long"
        return fault

    async def _solvability_fault(self, question: str) -> str | None:
        if not self.options.check_solvable:
            return None
        solvable = parse_solvable(await check_solvable(self.teacher, question))
        if solvable is None:
            return "unparsable_reply"
        return None if solvable else "not_solvable"

    def _problem(self, question: str, seed: Problem, parent: Problem, method: str, agent: str, number: int) -> Problem:
        return Problem(
            id=problem_id(question),
            source=seed.source,
            split=seed.split,
            question=question,
            licence=seed.licence,
            method=method,
            parents=[parent.id],
            maker=self.teacher.options.model,
            prompt=load_prompt(PROMPTS[agent]).version,
            round=number,
        )
