"""Options of the seeds stage: which sets, which split of each, which rows."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from components.core.options import Options

Count = Annotated[int, Meta(ge=0)]

AdapterName = Literal[
    "builtin", "gsm8k", "svamp", "addsub", "singleop", "singleeq", "multiarith", "asdiv", "draw", "mathqa", "aqua", "jsonl"
]


class SourceOptions(Options, frozen=True, kw_only=True):
    """One set of problems. All defaults are our choice: the paper takes train and validation splits of its sources whole.

    Attributes:
        adapter: The set's format; ``jsonl`` is any JSON Lines file (or JSON array) of objects, ``builtin`` our own problems.
        uri: A file, a folder, ``s3://bucket/key`` or ``hub:<data set id or folder>``; ``{data}`` in it stands for the
            environment variable TUTORLOOP_DATA. Not for ``builtin``.
        split: Empty means: the split that the file's name tells, else the set's default: ``test`` for benchmarks, ``train`` for
            seeds, except for sets that are published for evaluation only (SVAMP, the MAWPS family, ASDiv): whoever wants
            those as seeds must say ``train`` or ``dev``, and a split named test is refused in any case.
        name: The ``source`` of the rows, and the benchmark's name; the adapter's name when empty.
        licence: Overrides the adapter's licence; needed for ``jsonl`` rows that have none of their own.
        limit: Keep so many rows, chosen by a seeded hash, in the file's order; 0 keeps all.
        seed: Seed of that choice and of ``builtin``; -1 is the run's seed. Give a number to keep the same rows in all runs.
        max_question_chars: Drop longer questions; 0 is no limit.
        max_steps: Drop problems with more steps, or with an unknown number of them; 0 is no limit. For ``builtin`` the most
            steps to generate, 4 when 0.
        single_number: Keep only problems whose answer is a single number, as in the article's benchmarks.
        dev_share: Share of a train split held out for dev, chosen by a hash of the problem alone. The same share on both sides
            keeps them disjoint in every run: seeds take what is not held out, benchmarks what is.
        choices: Show the options of a multiple-choice problem in its question; their letter then counts as an answer too.
        malformed: What a row that cannot be understood does: stop the run, or be dropped and counted.
        fields: For ``jsonl``: our field names (question, answer, alternatives, solution, steps, licence, split) to theirs;
            dots reach into nested objects.
        config: Configuration of a hub data set.
        revision: Revision of a hub data set, for reproducible runs.
        count: For ``builtin``: how many problems.
        max_number: For ``builtin``: largest number in a problem.
        families: For ``builtin``: families of problems, by their names in ``word_problems``; empty takes the core families.
        retargeted: For ``builtin``: share of problems that ask for another quantity than the final one.
        hardened: For ``builtin``: share of problems that were made harder.
    """

    adapter: AdapterName
    uri: str = ""
    split: Literal["", "train", "dev", "test"] = ""
    name: str = ""
    licence: str = ""
    limit: Count = 0
    seed: Annotated[int, Meta(ge=-1)] = -1
    max_question_chars: Count = 0
    max_steps: Count = 0
    single_number: bool = False
    dev_share: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    choices: bool = False
    malformed: Literal["fail", "drop"] = "fail"
    fields: dict[str, str] = field(default_factory=dict)
    config: str = ""
    revision: str = ""
    count: Count = 0
    max_number: Annotated[int, Meta(ge=10)] = 60
    families: list[str] = []
    retargeted: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15
    hardened: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15

    @property
    def label(self) -> str:
        """The ``source`` of the rows."""
        return self.name or self.adapter


class SeedsOptions(Options, frozen=True, kw_only=True):
    """Options of both tasks of the stage, seeds and benchmarks.

    Attributes:
        sources: The sets, in the order in which their rows are written.
    """

    sources: Annotated[list[SourceOptions], Meta(min_length=1)]
