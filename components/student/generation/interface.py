"""What generates responses, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from components.student.models.load import ModelInfo


@dataclass(frozen=True)
class Completion:
    """One response.

    Attributes:
        text: Without the end token, cut before a stop text.
        tokens: Number of tokens generated, without the end token.
        finish: ``stop`` (end token or stop text) or ``length``.
    """

    text: str
    tokens: int
    finish: str


Progress = Callable[[int], None]
"""Told how many prompts of a call are finished."""


class Engine(Protocol):
    """What generates responses."""

    info: ModelInfo

    def generate(
        self,
        questions: Sequence[str],
        *,
        seeds: Sequence[Sequence[int]],
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        progress: Progress | None = None,
    ) -> list[list[Completion]]:
        """Responses to each question, in the order of questions and seeds.

        Args:
            questions: Plain questions; the engine puts them into the model's chat format.
            seeds: For each question one seed a wanted response; all questions want the same number.
            temperature: 0 is greedy.
            top_p: Nucleus mass.
            max_new_tokens: Longest response in tokens.
            progress: Told the number of finished questions.

        Raises:
            ModelError: No memory even for the smallest batch, or the engine failed.
        """
        ...

    def close(self) -> None:
        """Give back processes and memory."""
        ...
