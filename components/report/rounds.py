"""Practice rounds that were left out: the model went through them as it was, and nothing can be said about preference tuning there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.core.ledger.reader import ModelSummary


@dataclass(frozen=True)
class RoundLeftOut:
    """One of them.

    Attributes:
        number: 1-based.
        model: Id under which the unchanged model goes on.
        kept: Id of the model that the round started from.
        reason: Why, in words and figures.
        controlled: Whether a control went through the round as well.
    """

    number: int
    model: str
    kept: str
    reason: str
    controlled: bool

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        control = ", and so is its control" if self.controlled else ""
        return (
            f"Practice round {self.number} was left out: {self.reason}. {self.model} is {self.kept} unchanged{control}: "
            "the round says nothing about preference tuning."
        )


def rounds_left_out(models: Sequence[ModelSummary]) -> list[RoundLeftOut]:
    """The rounds whose tuning had nothing to learn from, in their order.

    Args:
        models: Models of the run.
    """
    controlled = {model.control_of for model in models if model.same_as}
    found = [
        RoundLeftOut(model.round, model.name, model.same_as, model.left_out, model.name in controlled)
        for model in models
        if model.same_as and not model.control_of
    ]
    return sorted(found, key=lambda round_: round_.number)
