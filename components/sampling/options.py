"""Options of the sampling stage."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from components.student.options import GenerationOptions, NonNegative, NonNegativeFloat, Positive


class SamplingOptions(GenerationOptions, frozen=True, kw_only=True):
    """How the student practises; the defaults are Orca-Math's.

    Attributes:
        n: Responses per problem.
        temperature: Sampling temperature.
        top_p: Nucleus mass.
        problems_per_round: Problems practised on in each round, chosen by seeded hash; 0 is all.
        problem_choice: ``same`` problems in every round, or ``fresh`` ones, disjoint between rounds as long as they last.
    """

    n: Positive = 4
    temperature: NonNegativeFloat = 0.7
    top_p: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 0.95
    problems_per_round: NonNegative = 0
    problem_choice: Literal["same", "fresh"] = "same"

    SECTION: ClassVar[str] = "sampling"
