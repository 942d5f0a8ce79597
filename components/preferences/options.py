"""Options of building preference data (Orca-Math, arXiv 2402.14830, section 2.3)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from components.core.errors import ParameterError
from components.core.options import Options


class PreferenceOptions(Options, frozen=True, kw_only=True):
    """What counts as positive and negative, and how they are paired. Defaults are Orca-Math's unless marked as our choice."""

    teacher_positives: bool = True
    """Teacher solutions are positives."""
    student_positives: bool = True
    """Student responses judged correct are positives; false is the article's first ablation."""
    synthetic_negatives: Annotated[int, Meta(ge=0)] = 4
    """For a problem without a wrong response: so many other problems lend one of theirs. 0 drops such problems, the article's second
    ablation: then every pair has both its responses from the same problem."""
    max_pairs_per_problem: Annotated[int, Meta(ge=0)] = 0
    """Most pairs of one problem, chosen by seed and spread over its responses; 0 keeps the whole cross product."""
    negatives: Literal["whole", "cut_at_first_wrong_step"] = "whole"
    """``cut_at_first_wrong_step`` ends a rejected response after its first wrong step and lets the chosen one go on from the same
    correct steps (our choice, for small students whose wrong responses are mostly right)."""

    def check(self, section: str) -> None:
        """Refuse options under which no response counts as right.

        Raises:
            ParameterError: Neither the teacher's solutions nor the student's responses are positives.
        """
        if not (self.teacher_positives or self.student_positives):
            raise ParameterError(
                f"{section}.student_positives",
                False,
                "true, or teacher_positives true: with at least one of teacher_positives and student_positives a response can be right",
            )
