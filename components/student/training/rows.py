"""Rows as token ids: encoded once, cut once, grouped by length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from components.student.models.chat import Chat

BUCKET = 32
"""Batches that are sorted by length together: enough to save padding, few enough to stay random."""


@dataclass(frozen=True)
class Encoded:
    """A prompt and the completion to learn, as token ids."""

    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def encode_rows(
    chat: Chat, questions: Sequence[str], solutions: Sequence[str], max_length: int, *, keep_all: bool = False, cut: Sequence[bool] = ()
) -> tuple[list[Encoded], dict[str, int]]:
    """Encode rows and cut them to ``max_length`` tokens.

    Args:
        chat: Chat format and tokenizer.
        questions: One a row.
        solutions: One a row.
        max_length: Longest row, in tokens.
        cut: Which solutions stop in the middle and get no end token; none when empty.
        keep_all: Keep rows whose prompt alone fills ``max_length``, with an empty completion, so that rows stay aligned.

    Returns:
        The rows, and the counts ``too_long`` (no room for a completion) and ``cut`` (end of the solution lost).
    """
    counts = {"too_long": 0, "cut": 0}
    rows = []
    for prompt, completion in zip(chat.encode_prompts(questions), chat.encode_completions(questions, solutions, cut), strict=True):
        room = max(0, max_length - len(prompt))
        counts["too_long"] += room == 0
        counts["cut"] += 0 < room < len(completion)
        if room or keep_all:
            rows.append(Encoded(prompt, completion[:room]))
    return rows, counts


def arrange(lengths: Sequence[int], batch_size: int, seed: object) -> list[list[int]]:
    """Shuffle rows, then group ones of similar length into batches, in random order: little padding, still random.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows per batch.
        seed: The same seed gives the same order.

    Returns:
        Row numbers by batch; only the last batch may be short.
    """
    rng = random.Random(f"order {seed}")
    shuffled = list(range(len(lengths)))
    rng.shuffle(shuffled)
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), BUCKET * batch_size):
        group = sorted(shuffled[start : start + BUCKET * batch_size], key=lengths.__getitem__)
        batches.extend(group[index : index + batch_size] for index in range(0, len(group), batch_size))
    rest = [batches.pop()] if batches and len(batches[-1]) < batch_size else []
    rng.shuffle(batches)
    return batches + rest


def sft_columns(rows: Sequence[Encoded]) -> dict[str, list[list[int]]]:
    """Token ids and labels; the prompt carries no loss."""
    return {
        "input_ids": [[*row.prompt, *row.completion] for row in rows],
        "labels": [[-100] * len(row.prompt) + row.completion for row in rows],
    }
