"""What an arm of the synthesis is: one way to make new problems of a seed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from components.core.records import Problem, problem_id
from components.synthesis.options import SynthesisOptions
from components.synthesis.parsers import parse_solvable
from components.teacher.agents import check_solvable
from components.teacher.client import Teacher
from components.teacher.prompts import load_prompt


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
class Desk:
    """What an arm works with.

    Attributes:
        teacher: The client.
        options: The stage's options.
    """

    teacher: Teacher
    options: SynthesisOptions

    async def solvability_fault(self, question: str) -> str | None:
        """Why a question cannot be kept, as the agent that checks it says; None where it can, or is not checked."""
        if not self.options.check_solvable:
            return None
        solvable = parse_solvable(await check_solvable(self.teacher, question))
        if solvable is None:
            return "unparsable_reply"
        return None if solvable else "not_solvable"

    def problem(self, question: str, seed: Problem, parent: Problem, method: str, prompt: str = "", round_number: int = 0) -> Problem:
        """A new problem.

        Args:
            question: Its text.
            seed: That it comes from.
            parent: That it was made from: the seed, or a problem that was made of it before.
            method: Name of the arm.
            prompt: Name of the prompt that wrote it; empty for one that rules made.
            round_number: Number of the round, for an arm that goes on from what it wrote.
        """
        return Problem(
            id=problem_id(question),
            source=seed.source,
            split=seed.split,
            question=question,
            licence=seed.licence,
            method=method,
            parents=[parent.id],
            maker=self.teacher.options.model if prompt else "rules",
            prompt=load_prompt(prompt).version if prompt else "",
            round=round_number,
        )


class Arm(ABC):
    """One way to make new problems of a seed.

    Attributes:
        name: ``method`` of its problems. Options of this name and of this name with ``_seeds`` say whether it works, and on how many.
        salt: Makes the choice of its seeds differ from that of other arms.
        prompts: Names of the prompts that it uses.
        unusable: Name of the count of seeds that :meth:`takes` refuses; empty where it takes all.
    """

    name: ClassVar[str]
    salt: ClassVar[str]
    prompts: ClassVar[tuple[str, ...]] = ()
    unusable: ClassVar[str] = ""

    def takes(self, seed: Problem) -> bool:
        """Whether anything can be made of a seed; of any, where an arm does not say otherwise."""
        return True

    @abstractmethod
    async def write(self, desk: Desk, seed: Problem, written: Written) -> Written:
        """Make new problems of a seed.

        Args:
            desk: Teacher and options.
            seed: The problem.
            written: Receives what comes of it, piece by piece: whoever is stopped in the middle has what is done.

        Returns:
            The same.

        Raises:
            TeacherError: Any error of the client but those of a single request.
        """
