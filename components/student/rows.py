"""Rows as token ids: encoded once, cut once, grouped by length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from components.student.chat import Chat

BUCKET = 32
"""Batches that are sorted by length together: enough to save padding, few enough to stay random."""


@dataclass(frozen=True)
class Encoded:
    """A prompt and the completion to learn, as token ids."""

    prompt: list[int]
    completion: list[int]


def encode_rows(
    chat: Chat, questions: Sequence[str], solutions: Sequence[str], max_length: int
) -> tuple[list[Encoded], dict[str, int]]:
    """Encode rows, cut them to ``max_length`` tokens and leave out those whose prompt alone fills it.

    Returns:
        The rows, and the counts ``too_long`` (left out) and ``cut`` (end of the solution lost).
    """
    counts = {"too_long": 0, "cut": 0}
    rows = []
    for prompt, completion in zip(chat.encode_prompts(questions), chat.encode_completions(questions, solutions), strict=True):
        room = max_length - len(prompt)
        if room <= 0:
            counts["too_long"] += 1
            continue
        counts["cut"] += len(completion) > room
        rows.append(Encoded(prompt, completion[:room]))
    return rows, counts


def bucketed(rows: Sequence[Encoded], batch_size: int, seed: int) -> list[list[Encoded]]:
    """Shuffle, then group rows of similar length into batches, in random order."""
    rng = random.Random(f"batches {seed}")  # noqa: S311
    shuffled = list(rows)
    rng.shuffle(shuffled)
    batches = []
    for start in range(0, len(shuffled), BUCKET * batch_size):
        group = sorted(shuffled[start : start + BUCKET * batch_size], key=lambda row: len(row.prompt) + len(row.completion))
        batches.extend(group[index : index + batch_size] for index in range(0, len(group), batch_size))
    rng.shuffle(batches)
    return batches
