"""Responses whose verdict is known: what a judge is measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from components.core.data_folder import expand
from components.core.errors import InputError
from components.core.records import Record, read_records
from components.core.store import fetched
from components.grading.answers import extract_answer

GOLDEN = Path(__file__).parent / "golden.jsonl"
"""Our own responses with known verdicts; none of them needs symbolic algebra."""


class GoldenRow(Record, frozen=True, kw_only=True):
    """A response with its true verdict."""

    question: str
    reference: str
    response: str
    correct: bool
    alternatives: list[str] = msgspec.field(default_factory=list)


class LabelledSolution(Record, frozen=True, kw_only=True):
    """A model's solution with the publisher's verdict."""

    is_correct: bool
    solution: str


class LabelledProblem(Record, frozen=True, kw_only=True):
    """A row of GSM8K's ``example_model_solutions.jsonl``: a problem and the solutions of four models."""

    question: str
    ground_truth: str
    finetuning_6b: LabelledSolution = msgspec.field(name="6b_finetuning")
    verification_6b: LabelledSolution = msgspec.field(name="6b_verification")
    finetuning_175b: LabelledSolution = msgspec.field(name="175b_finetuning")
    verification_175b: LabelledSolution = msgspec.field(name="175b_verification")

    def rows(self) -> list[GoldenRow]:
        """One golden row per solution."""
        reference = extract_answer(self.ground_truth) or ""
        solutions = (self.finetuning_6b, self.verification_6b, self.finetuning_175b, self.verification_175b)
        return [GoldenRow(question=self.question, reference=reference, response=one.solution, correct=one.is_correct) for one in solutions]


def golden_rows(uris: Sequence[str] = ()) -> list[GoldenRow]:
    """The golden set that comes with this stage, and those that a user adds.

    Args:
        uris: Files or ``s3://bucket/key``, JSON Lines of ``GoldenRow`` or of ``LabelledProblem``, as the first line tells. ``{data}``
            stands for TUTORLOOP_DATA.

    Raises:
        InputError: A folder, or a line that does not have the form of the first.
        ParameterError: The data folder is needed and not set.
        StoreError: There is nothing under a URI, or the store cannot be reached.
    """
    rows = list(read_records(GOLDEN, GoldenRow))
    for index, uri in enumerate(uris):
        with fetched(expand(uri, f"judging.golden[{index}]")) as path:
            rows += _read(path)
    return rows


def _read(path: Path) -> Iterator[GoldenRow]:
    if not path.is_file():
        raise InputError("not a file", path, hint="name a JSON Lines file in judging.golden")
    with path.open("rb") as handle:
        published = b'"ground_truth"' in handle.readline()
    if published:
        yield from (row for problem in read_records(path, LabelledProblem) for row in problem.rows())
    else:
        yield from read_records(path, GoldenRow)
