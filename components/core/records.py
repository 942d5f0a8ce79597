"""Every row that crosses a stage boundary, as typed structs written as JSON Lines.

The rows carry ids (content hashes), parent ids and the maker of the text, so that any model can be traced to the seed rows
behind it. Unknown fields, missing fields and broken lines are refused with file, line and reason.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from components.core.errors import InputError
from components.core.store.whole_files import replacing


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all rows: immutable, keyword-only, strict about field names."""


class Problem(Record, frozen=True, kw_only=True):
    """A math word problem: a seed, a synthetic problem or a benchmark item."""

    id: str
    """``problem_id(question)``."""
    source: str
    """The set it comes from (``gsm8k``, ``builtin``, ...); synthetic problems keep the source of their seed."""
    split: str
    """``train``, ``dev`` or ``test``."""
    question: str
    answer: str | None = None
    """Short gold answer; None when nobody vouches for one."""
    alternatives: list[str] = []
    """Other accepted forms of the answer, for example the letter of a multiple-choice option."""
    solution: str | None = None
    """Worked gold solution, when the source has one."""
    steps: int | None = None
    """Number of reasoning steps, when known from the source or its solution."""
    licence: str
    method: str = "seed"
    """How it was made: ``seed``, ``ask_me_anything`` or ``suggester_editor``."""
    parents: list[str] = []
    """Problem ids that this one was made from."""
    maker: str = ""
    """Model that wrote it; empty for seeds."""
    prompt: str = ""
    """Version of the prompt that wrote it (``name@digest``); empty for seeds."""
    round: int = 0
    """Rewriting round, 1-based; 0 for seeds and for single-pass methods."""


class Demonstration(Record, frozen=True, kw_only=True):
    """A problem with one worked solution to learn from: a row of the SFT set."""

    id: str
    """``row_id(problem_id, solution)``."""
    problem_id: str
    source: str
    question: str
    solution: str
    answer: str
    """Short answer that the solution reaches."""
    alternatives: list[str] = []
    """``alternatives`` of the problem."""
    steps: int | None = None
    licence: str
    method: str
    """``method`` of the problem."""
    parents: list[str] = []
    """``parents`` of the problem."""
    maker: str
    """Model that wrote the solution, or ``gold`` for the source's own solution."""
    prompt: str = ""
    sample: int = 0
    """Index among the solutions of this problem."""


class Sample(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One response of the student; temperature 0 is the greedy one."""

    id: str
    """``row_id(problem_id, model, sample, seed)``."""
    problem_id: str
    question: str
    model: str
    """Name of the model (``M1``)."""
    sample: int
    """0-based index among the samples of this problem."""
    seed: int
    """Seed of this very sample: the same seed, model and prompt give the same text whatever else is in the batch."""
    temperature: float
    top_p: float
    text: str
    tokens: int
    """Length of the response in tokens, without the end token."""
    finish: str
    """``stop`` (end token) or ``length`` (cut at max_new_tokens)."""
    source: str = ""
    """``source`` of a benchmark problem; empty for practice."""
    split: str = ""
    """``split`` of a benchmark problem; empty for practice."""


class JudgedSample(Record, frozen=True, kw_only=True):
    """A student response with its verdict."""

    id: str
    """Id of the sample."""
    problem_id: str
    question: str
    model: str
    sample: int
    text: str
    tokens: int
    reference: str
    """Short reference answer that the response was compared with."""
    answer: str | None
    """Short answer extracted from the response; None when there is none."""
    correct: bool
    decided_by: str
    """``rule``, ``judge`` or ``unparsable`` (the judge's verdict could not be read: counted as incorrect)."""
    reason: str = ""


class PreferencePair(Record, frozen=True, kw_only=True):
    """A DPO row."""

    id: str
    problem_id: str
    question: str
    chosen: str
    rejected: str
    chosen_from: str
    """``teacher`` or ``student``."""
    rejected_from: str
    """``student`` (a wrong answer to this problem) or ``synthetic`` (a wrong answer to another problem)."""
    chosen_id: str
    rejected_id: str
    rejected_cut: bool = False
    """The rejected text stops in the middle of a response (after its first wrong step): training adds no end token to it."""


class LabelledResponse(Record, frozen=True, kw_only=True):
    """A KTO row."""

    id: str
    problem_id: str
    question: str
    response: str
    label: bool
    """True for desirable."""
    origin: str
    """``teacher``, ``student`` or ``synthetic``."""
    response_id: str
    cut: bool = False
    """The text stops in the middle of a response: training adds no end token to it."""


class ProblemResult(Record, frozen=True, kw_only=True):
    """What one model did on one benchmark problem: a greedy response and a pool of samples."""

    model: str
    benchmark: str
    problem_id: str
    source: str
    split: str
    steps: int | None
    question: str
    reference: str
    response: str
    """Greedy response."""
    answer: str | None
    correct: bool
    tokens: int
    sample_answers: list[str | None] = []
    sample_correct: list[bool] = []


class ResponseScore(Record, frozen=True, kw_only=True):
    """What a verifier thinks of one response of a pool: the higher, the more likely it is right."""

    problem_id: str
    index: int
    """0-based place of the response in the problem's pool."""
    score: float


class ContaminationMatch(Record, frozen=True, kw_only=True):
    """A training problem found too close to a benchmark problem."""

    benchmark: str
    test_id: str
    train_id: str
    """Problem id: a match concerns all solutions of the problem."""
    test_question: str
    train_question: str
    check: str
    """``exact``, ``masked``, ``jaccard``, or ``corpus`` (an exact match in the pretraining rows of the base model)."""
    cosine: float | None = None
    jaccard: list[float] = []
    """n-gram Jaccard for n = 1, 2, 3."""
    action: str
    """``removed``, ``reported`` or ``failed``."""


class Usage(Record, frozen=True, kw_only=True):
    """What a stage asked of the teacher."""

    requests: int = 0
    """Requests answered by the endpoint (paid for)."""
    cache_hits: int = 0
    """Requests answered by the response store."""
    retries: int = 0
    failures: int = 0
    """Requests given up after the last retry."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


class ModelEntry(Record, frozen=True, kw_only=True):
    """A model of a run, as the stage that makes it enters it in the ledger; scores refer to it by its id.

    Reports, comparisons and cards know a model by this entry alone: its name says nothing.
    """

    id: str
    """Unique in the run, and the name under which people see it: ``M1``, ``M2-control``, ``champion``."""
    role: str
    """What the model is for.

    ``base`` (before any training of this run), ``sft``, ``preference`` and ``rung`` (one size or one amount of data of a ladder) are steps
    of the student; ``control`` is trained beside a step to compare with it; ``champion`` comes from an earlier run; ``verifier``,
    ``generator`` and ``judge`` help. A further role is taken for a step of the student.
    """
    parent: str = ""
    """Id of the model that it was trained from; empty for none of this run."""
    stage: str = ""
    """Stage that made it."""
    round: int = 0
    """Practice round that made it, 1-based; 0 for none."""
    arm: str = ""
    """Arm of that round."""
    rows: int = 0
    """Rows that it was trained on, in one epoch."""
    parameters: int = 0
    """Its size; 0 where the stage does not know it."""
    control_of: str = ""
    """Of a control: id of the model that it is to be compared with."""
    same_as: str = ""
    """Id of the model that this one is, unchanged, where its training was left out."""


class Score(Record, frozen=True, kw_only=True):
    """Accuracy of one model on one benchmark (or one slice of it)."""

    model: str
    """Id of the model's :class:`ModelEntry`."""
    benchmark: str
    n: int
    pass_at_1: float
    """Greedy accuracy, 0 to 1."""
    low: float
    """Lower end of the 95 % Wilson interval."""
    high: float
    samples: int = 0
    """Size N of the sample pool per problem; 0 when only greedy was run."""
    pass_at_n: dict[str, float] = {}
    """N (as a string) to Pass@N."""
    pass_ratio_at_n: float | None = None
    majority_at_n: dict[str, float] = {}
    by_source: dict[str, dict[str, float]] = {}
    """Source to {n, pass_at_1}."""
    by_steps: dict[str, dict[str, float]] = {}
    """Number of steps (as a string) to {n, pass_at_1}."""
    mean_tokens: float = 0.0
    """Mean length of the greedy responses in tokens."""
    correct: str = ""
    """One digit a problem, 1 for solved, in the order of the problems' ids: models can be compared problem by problem from it."""


class StageRecord(Record, frozen=True, kw_only=True):
    """What one task did: the unit of the ledger, from which report, run.json and lineage card are made."""

    stage: str
    """Name of the stage folder."""
    task: str
    """Name of this task within the run, for example ``sampling M1`` or ``sft``."""
    shard: str = "0/1"
    round: int = 0
    """Practice round that the task belongs to, 1-based; 0 for none."""
    status: str = "succeeded"
    """``succeeded``, ``failed``, or ``running``: of a task that has not ended, or was killed."""
    started_at: str
    """UTC, ISO 8601."""
    seconds: float
    rows_in: int = 0
    rows_kept: int = 0
    dropped: dict[str, int] = {}
    """Reason to number of rows dropped for it."""
    left_out: str = ""
    """Why the task left out what it is for and the run went on without it (no pair to make, nothing to learn from); empty where it did
    its work."""
    counts: dict[str, float] = {}
    """Other figures of this stage, by name."""
    usage: Usage | None = None
    options: dict[str, Any] = {}
    prompts: dict[str, str] = {}
    """Prompt name to version."""
    curves: list[dict[str, float]] = []
    """Training log: one dict per logging step."""
    models: list[ModelEntry] = []
    """Models that the task made, or brought in from outside of the run."""
    scores: list[Score] = []
    examples: dict[str, list[dict[str, Any]]] = {}
    """A few rows for people to read, by kind."""
    lineage: dict[str, Any] = {}
    """Facts for the lineage card: seed files and licences, base model, digests."""
    output: str = ""
    """URI of the task's main output."""
    dropped_rows: str = ""
    """File with the rows that the task dropped, below the home of all runs; empty where it dropped none, or does not keep them."""


R = TypeVar("R", bound=msgspec.Struct)


def row_id(*parts: object) -> str:
    """Content hash of the parts: 16 hex digits of SHA-256 over their JSON form."""
    return hashlib.sha256(msgspec.json.encode([str(part) for part in parts])).hexdigest()[:16]


# Look-behinds come after the character that they are about: patterns that start with a literal are found several times faster.
_DECIMAL_POINT = re.compile(r"\.(?<=\d\.)(?=\d)")
_THOUSANDS_COMMA = re.compile(r",(?<=\d,)(?=\d{3}\b)")
_MINUS = re.compile(r"-(?=\d)(?:(?<=^-)|(?<=[\s(]-))")
_TOKEN = re.compile(r"[\w·−]+|[+*/^=<>×÷]")


def normalise_question(question: str) -> str:
    """Lower case, letters and digits only, single spaces: two questions equal under it are the same problem.

    Signs of arithmetic, a decimal point between digits and a minus sign before a digit stay, since they change the problem.
    """
    text = _DECIMAL_POINT.sub("·", question.lower())
    text = _THOUSANDS_COMMA.sub("", text)
    return " ".join(_TOKEN.findall(_MINUS.sub("−", text)))


def problem_id(question: str) -> str:
    """Id of a problem: the hash of its normalised text, so that exact duplicates share it."""
    return row_id(normalise_question(question))


def write_records(path: str | Path, rows: Iterable[msgspec.Struct]) -> int:
    """Write rows as JSON Lines to a temporary name, then rename; return their number."""
    encoder = msgspec.json.Encoder()
    count = 0
    with replacing(Path(path)) as partial, partial.open("wb") as handle:
        for row in rows:
            handle.write(encoder.encode(row) + b"\n")
            count += 1
    return count


def read_records(path: str | Path, kind: type[R]) -> Iterator[R]:
    """Yield the rows of a JSON Lines file, one at a time.

    Raises:
        InputError: The file is missing, or a line is not a valid ``kind`` (with line number and reason).
    """
    source = Path(path)
    decoder = msgspec.json.Decoder(kind)
    try:
        handle = source.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source) from error
    with handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise InputError(f"not a valid {kind.__name__} row: {error}", source, number, "correct or remove the line") from error


def in_shard(identifier: str, shard: str) -> bool:
    """Whether the row with this id belongs to ``shard`` (``"index/count"``, 0-based): by hash, the same on every rerun."""
    index, count = parse_shard(shard)
    return int(hashlib.sha256(identifier.encode()).hexdigest()[:8], 16) % count == index


def parse_shard(shard: str) -> tuple[int, int]:
    """``"0/4"`` to ``(0, 4)``.

    Raises:
        ParameterError: Not of that form, or the index is not below the count.
    """
    from components.core.errors import ParameterError

    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not match or int(match[1]) >= int(match[2]):
        raise ParameterError("shard", shard, 'text of the form "index/count", index from 0 to count-1')
    return int(match[1]), int(match[2])


def digest_of(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    root = Path(path)
    total = hashlib.sha256()
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    for file in files:
        total.update(str(file.relative_to(root)).encode() + b"\0")
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()
