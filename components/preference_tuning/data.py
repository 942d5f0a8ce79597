"""From preference rows to what the trainers learn from; the control arm sees the same positives in the same order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.core.records import LabelledResponse, PreferencePair
from components.student.models.chat import Chat
from components.student.options import TrainingOptions
from components.student.training.rows import Encoded, arrange, encode_rows, sft_columns


@dataclass(frozen=True)
class Material:
    """Training rows of one arm.

    Attributes:
        kind: Trainer: ``sft``, ``dpo`` or ``kto``.
        columns: Its columns, all epochs in training order.
        rows: Rows of one epoch.
        dropped: Rows left out, by reason.
        counts: Figures for the record.
        too_long: The rows that ``prompt_too_long`` counts.
    """

    kind: str
    columns: dict[str, list[Any]]
    rows: int
    dropped: dict[str, int]
    counts: dict[str, float]
    too_long: Sequence[PreferencePair | LabelledResponse] = ()


def kto_weights(desirable: int, undesirable: int, given_desirable: float = 0.0, given_undesirable: float = 0.0) -> tuple[float, float]:
    """KTO's weights from the numbers of rows, unless given.

    (w_D n_D) / (w_U n_U) is brought into 1 to 4/3 by raising the weight of the rarer side, no further than needed
    (equation 8 of the KTO paper, Ethayarajh et al., 2024).

    Args:
        desirable: Number of desirable rows, n_D.
        undesirable: Number of undesirable rows, n_U.
        given_desirable: w_D when it is fixed, else 0.
        given_undesirable: w_U when it is fixed, else 0.
    """
    if given_desirable or given_undesirable:
        return given_desirable or 1.0, given_undesirable or 1.0
    if not desirable or not undesirable:
        return 1.0, 1.0
    ratio = desirable / undesirable
    if ratio < 1:
        return 1 / ratio, 1.0
    return 1.0, max(1.0, ratio * 3 / 4)


def pair_material(chat: Chat, pairs: Sequence[PreferencePair], options: TrainingOptions, *, preference: bool, seed: int) -> Material:
    """Rows for DPO or, for the control arm, the chosen sides of the same pairs in the same order.

    Args:
        chat: Chat format and tokenizer.
        pairs: Preference pairs.
        options: Batch size, epochs, longest row.
        preference: False for the control arm.
        seed: Seed of the order.
    """
    questions = [pair.question for pair in pairs]
    chosen, _ = encode_rows(chat, questions, [pair.chosen for pair in pairs], options.max_length, keep_all=True)
    cut = [pair.rejected_cut for pair in pairs]
    rejected, _ = encode_rows(chat, questions, [pair.rejected for pair in pairs], options.max_length, keep_all=True, cut=cut)
    kept = [index for index in range(len(pairs)) if chosen[index].completion and rejected[index].completion]
    lengths = [max(len(chosen[index]), len(rejected[index])) for index in kept]
    order = [kept[place] for place in _epochs(lengths, options, seed)]
    counts = {
        "chosen_tokens": _mean([len(chosen[index].completion) for index in kept]),
        "rejected_tokens": _mean([len(rejected[index].completion) for index in kept]),
    }
    too_long = [pair for index, pair in enumerate(pairs) if not (chosen[index].completion and rejected[index].completion)]
    dropped = {"prompt_too_long": len(too_long)} if too_long else {}
    if not preference:
        return Material("sft", sft_columns([chosen[index] for index in order]), len(kept), dropped, counts, too_long)
    columns: dict[str, list[Any]] = {
        "prompt_ids": [chosen[index].prompt for index in order],
        "chosen_ids": [chosen[index].completion for index in order],
        "rejected_ids": [rejected[index].completion for index in order],
    }
    return Material("dpo", columns, len(kept), dropped, counts, too_long)


def labelled_material(
    chat: Chat, labelled: Sequence[LabelledResponse], options: TrainingOptions, *, method: str, preference: bool, seed: int
) -> Material:
    """Rows for KTO or for SFT on the positives.

    For the control arm of KTO the desirable rows come in the order in which KTO meets them, from the start again when they are
    used up, until the numbers of rows (and so of steps) are equal.

    Args:
        chat: Chat format and tokenizer.
        labelled: Desirable and undesirable responses.
        options: Batch size, epochs, longest row.
        method: ``kto`` or ``sft``.
        preference: False for the control arm.
        seed: Seed of the order.
    """
    questions, cut = [row.question for row in labelled], [row.cut for row in labelled]
    rows, _ = encode_rows(chat, questions, [row.response for row in labelled], options.max_length, keep_all=True, cut=cut)
    fits = [index for index in range(len(rows)) if rows[index].completion]
    desirable = [index for index in fits if labelled[index].label]
    undesirable = [index for index in fits if not labelled[index].label]
    counts = {
        "desirable": float(len(desirable)),
        "undesirable": float(len(undesirable)),
        "chosen_tokens": _mean([len(rows[index].completion) for index in desirable]),
        "rejected_tokens": _mean([len(rows[index].completion) for index in undesirable]),
    }
    too_long = [labelled[index] for index in range(len(rows)) if not rows[index].completion]
    dropped = {"prompt_too_long": len(too_long)} if too_long else {}
    if method == "sft":
        order = [desirable[place] for place in _epochs([len(rows[index]) for index in desirable], options, seed)]
        return Material("sft", sft_columns([rows[index] for index in order]), len(desirable), dropped, counts, too_long)
    order = []
    for epoch in range(options.epochs):
        # Not grouped by length: KTO estimates its KL term from mismatched rows of the same batch.
        shuffled = list(fits)
        random.Random(f"labelled {seed} {epoch}").shuffle(shuffled)
        order += shuffled
    if preference:
        return Material("kto", _kto_columns(rows, labelled, order, options.batch_size), len(fits), dropped, counts, too_long)
    positives = [index for index in order if labelled[index].label]
    repeated = [positives[place % len(positives)] for place in range(len(order))] if positives else []
    return Material("sft", sft_columns([rows[index] for index in repeated]), len(desirable), dropped, counts, too_long)


def _kto_columns(rows: Sequence[Encoded], labelled: Sequence[LabelledResponse], order: list[int], batch_size: int) -> dict[str, list[Any]]:
    """KTO's columns; a row's KL completion is the one before it in its batch, the first row takes the last one's."""
    mismatched: list[int] = []
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        mismatched += [batch[-1], *batch[:-1]]
    return {
        "prompt_ids": [rows[index].prompt for index in order],
        "completion_ids": [rows[index].completion for index in order],
        "KL_completion_ids": [rows[index].completion for index in mismatched],
        "label": [labelled[index].label for index in order],
    }


def _epochs(lengths: Sequence[int], options: TrainingOptions, seed: int) -> list[int]:
    return [
        place for epoch in range(options.epochs) for batch in arrange(lengths, options.batch_size, f"{seed} {epoch}") for place in batch
    ]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0
