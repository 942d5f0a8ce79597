"""Options of the evaluation stage."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from components.student.options import GenerationOptions, NonNegative, Positive, Rate


class EvaluationOptions(GenerationOptions, frozen=True, kw_only=True):
    """What is measured.

    Attributes:
        samples_per_problem: Size of the pool for Pass@N, PassRatio@N and majority@N; 0 measures greedy pass@1 only.
        sampled_splits: Splits that get a pool; the others get greedy only.
        temperature: Temperature of the pool (Xwin-Math's 0.7).
        top_p: Nucleus mass of the pool.
        majority_shuffles: Orders of the pool averaged over for majority@N below its size.
    """

    samples_per_problem: NonNegative = 0
    sampled_splits: list[Literal["dev", "test"]] = msgspec.field(default_factory=lambda: ["test"])
    temperature: Rate = 0.7
    top_p: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    majority_shuffles: Positive = 5

    SECTION: ClassVar[str] = "evaluation"
