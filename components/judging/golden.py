"""Responses whose verdict is known: what a judge is measured on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from components.core.answers import extract_answer
from components.core.data_folder import expand
from components.core.errors import InputError
from components.core.records import Record
from components.core.store import fetch

GOLDEN = Path(__file__).parent / "golden.jsonl"
"""Our own responses with known verdicts; none of them needs symbolic algebra."""


class GoldenRow(Record, frozen=True, kw_only=True):
    """A response with its true verdict."""

    question: str
    reference: str
    response: str
    correct: bool
    alternatives: list[str] = msgspec.field(default_factory=list)


class LabelledSolution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's solution as GSM8K publishes it."""

    is_correct: bool
    solution: str


def golden_rows(uris: Sequence[str] = ()) -> list[GoldenRow]:
    """The golden set that comes with this stage, and those that a user adds.

    Args:
        uris: Files or ``s3://bucket/key``, JSON Lines of ``GoldenRow`` or in the form of GSM8K's ``example_model_solutions.jsonl``:
            ``question``, ``ground_truth``, and for each model ``is_correct`` and ``solution``. ``{data}`` stands for TUTORLOOP_DATA.

    Raises:
        InputError: A file cannot be read, or a line has neither form.
        ParameterError: The data folder is needed and not set.
        StoreError: There is nothing under a URI, or the store cannot be reached.
    """
    rows = list(_read(GOLDEN))
    for index, uri in enumerate(uris):
        with tempfile.TemporaryDirectory() as scratch:
            rows += _read(fetch(expand(uri, f"judging.golden[{index}]"), Path(scratch)))
    return rows


def _read(path: Path) -> Iterator[GoldenRow]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", path) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
            yield from _labelled(row) if "ground_truth" in row else [msgspec.convert(row, GoldenRow)]
        except msgspec.DecodeError as error:
            hint = "give question, reference, response and correct, or GSM8K's labelled solutions"
            raise InputError(f"not a response with its verdict: {error}", path, number, hint) from error


def _labelled(row: dict[str, Any]) -> Iterator[GoldenRow]:
    known = {"question", "ground_truth"}
    texts = msgspec.convert({name: row.get(name) for name in known}, dict[str, str])
    reference = extract_answer(texts["ground_truth"]) or ""
    for name in row.keys() - known:
        solution = msgspec.convert(row[name], LabelledSolution)
        yield GoldenRow(question=texts["question"], reference=reference, response=solution.solution, correct=solution.is_correct)
