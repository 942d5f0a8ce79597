"""Options of the promotion stage."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from components.core.options import Options


class PromotionOptions(Options, frozen=True, kw_only=True):
    """When a model becomes the champion, and what is published. The papers have no such step: all values are our choice.

    Attributes:
        alpha: Largest p-value of the exact McNemar test that counts as a real gain.
        min_gain: Smallest gain in accuracy over the champion (over the base model when there is no champion), 0 to 1, exclusive.
        require_gain_over_base: With a champion: ask for a significant gain over the base model as well. A model below the base
            model is never promoted, whatever this says.
        require_contamination_check: Refuse a model whose ledger shows no contamination check of its training rows.
        bootstrap_samples: Resamples behind the interval of the gain.
        publish_rejected: Publish models that are not promoted too; the champion stays as it was.
    """

    alpha: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.05
    min_gain: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    require_gain_over_base: bool = True
    require_contamination_check: bool = True
    bootstrap_samples: Annotated[int, Meta(ge=100)] = 10_000
    publish_rejected: bool = False
