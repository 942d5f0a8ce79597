"""Options of the preference tuning stage."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from components.core.errors import ParameterError
from components.student.options import NonNegativeFloat, Positive, Rate, TrainingOptions

PairLoss = Literal[
    "sigmoid", "hinge", "ipo", "robust", "bco_pair", "nca_pair", "apo_zero", "apo_down", "sppo_hard", "discopop", "sigmoid_norm", "sft"
]


class TuningOptions(TrainingOptions, frozen=True, kw_only=True):
    """Learning from what the student got right and wrong; the defaults are Orca-Math's where it states them.

    Attributes:
        method: ``kto``, ``dpo``, or ``sft`` (continued SFT on the positives: the papers' baseline).
        reference: ``previous``, the model that the round starts from (the article's), or ``sft``, M1 in every round (our choice, as in
            online RLHF recipes).
        beta: Strength of the pull towards the reference model.
        learning_rates: One a round; the last one repeats.
        losses: DPO losses, summed; ``sft`` is the likelihood of the chosen responses.
        loss_weights: One a loss.
        label_smoothing: Assumed share of wrong labels, for the losses that know it (``robust``).
        sft_weight: Weight of an SFT term on KTO's desirable rows (our choice); DPO has ``losses`` for it.
        unpaired_loss: The KTO loss, or its variant without a KL estimate.
        desirable_weight: Weight of KTO's desirable rows; 0 takes it from the counts.
        undesirable_weight: Weight of KTO's undesirable rows; 0 takes it from the counts.
        precompute_reference: Compute the reference's log-probabilities once before training rather than keep a second model in memory.
        reference_batch_size: Rows per batch of that computation.
    """

    method: Literal["kto", "dpo", "sft"] = "kto"
    batch_size: Annotated[int, msgspec.Meta(ge=2)] = 4
    reference: Literal["previous", "sft"] = "previous"
    beta: Rate = 0.3
    learning_rates: Annotated[list[Rate], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: [1e-6, 1e-7])
    losses: Annotated[list[PairLoss], msgspec.Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["sigmoid"])
    loss_weights: list[float] = msgspec.field(default_factory=lambda: [1.0])
    label_smoothing: Annotated[float, msgspec.Meta(ge=0.0, lt=0.5)] = 0.0
    sft_weight: NonNegativeFloat = 0.0
    unpaired_loss: Literal["kto", "apo_zero_unpaired"] = "kto"
    desirable_weight: NonNegativeFloat = 0.0
    undesirable_weight: NonNegativeFloat = 0.0
    precompute_reference: bool = True
    reference_batch_size: Positive = 32

    SECTION: ClassVar[str] = "preference_tuning"

    @property
    def fewest_rows(self) -> int:
        """KTO compares a row's response with one of another row of its batch."""
        return 2 if self.method == "kto" else 1

    def check(self, section: str) -> None:
        """Refuse losses and weights that do not belong together.

        Raises:
            ParameterError: They contradict one another.
        """
        super().check(section)
        if len(self.loss_weights) != len(self.losses):
            raise ParameterError(f"{section}.loss_weights", self.loss_weights, f"{len(self.losses)} numbers, one for each of losses")
        if self.sft_weight and self.method != "kto":
            raise ParameterError(f"{section}.sft_weight", self.sft_weight, "0, unless method is kto; for dpo add sft to losses")

    def learning_rate(self, round_number: int) -> float:
        """Learning rate of a round (1-based)."""
        return self.learning_rates[min(round_number, len(self.learning_rates)) - 1]
