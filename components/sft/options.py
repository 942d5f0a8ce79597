"""Options of the SFT stage."""

from __future__ import annotations

from typing import ClassVar

from components.student.options import Rate, TrainingOptions


class SFTOptions(TrainingOptions, frozen=True, kw_only=True):
    """Supervised fine-tuning on the teacher's solutions; the defaults are Orca-Math's where it states them.

    Attributes:
        learning_rate: Peak learning rate.
        packing: Join short rows into full sequences; the paper does not.
    """

    learning_rate: Rate = 1e-6
    packing: bool = False

    SECTION: ClassVar[str] = "sft"
