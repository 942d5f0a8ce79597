"""Options of the contamination stage."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from components.core.options import Options

Action = Literal["remove", "fail", "report", "off"]
"""What a match does: its training rows are removed, the run fails, it is only reported, or the check is not run."""


class ContaminationOptions(Options, frozen=True, kw_only=True):
    """Three checks, each with its own action, and a gate.

    Attributes:
        exact: Equal text after normalisation (case, spaces, punctuation); our choice. Works for texts of any length.
        masked: Equal text once every number, in digits or in words, is replaced by a placeholder: the same problem with other
            numbers. Our choice, reported by default, since short problems of one kind often differ by their numbers only.
        jaccard: The article's check: TF-IDF candidates whose n-gram Jaccard is above the threshold. The article reports; removing
            is our choice.
        corpus: What an exact match in the base model's own pretraining rows does; they cannot be removed any more. Our choice.
        k: Candidates per benchmark problem (the article's 10). Where all of them match, four times as many are looked at, and so
            on: variants of one seed come in dozens, and none of them may hide behind the first ten.
        n: Length of the n-grams that decide (the article's strictest setting, 1); n = 1, 2 and 3 are always reported.
        threshold: Smallest Jaccard that is no longer accepted, exclusive (the article's 0.5).
        max_matches: The run fails when more benchmark problems than this have a match of any check; -1 is no limit. Our choice.
    """

    exact: Action = "remove"
    masked: Action = "report"
    jaccard: Action = "remove"
    corpus: Literal["fail", "report", "off"] = "fail"
    k: Annotated[int, Meta(ge=1)] = 10
    n: Annotated[int, Meta(ge=1)] = 1
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.5
    max_matches: Annotated[int, Meta(ge=-1)] = -1
