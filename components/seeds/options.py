"""Options of the seeds stage: which sets, which split of each, which rows."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from components.core.errors import ParameterError
from components.core.options import Options
from components.core.redaction import without_credentials
from components.seeds.splits import named_split
from components.word_problems.names import FAMILY_NAMES

Count = Annotated[int, Meta(ge=0)]

AdapterName = Literal[
    "builtin", "gsm8k", "svamp", "addsub", "singleop", "singleeq", "multiarith", "asdiv", "draw", "mathqa", "aqua", "jsonl"
]

EVALUATION_ONLY = frozenset({"svamp", "addsub", "singleop", "singleeq", "multiarith", "asdiv"})
"""Sets in one file, published to evaluate with: their default split is ``test``."""

JSONL_FIELDS = ("question", "answer", "alternatives", "solution", "steps", "licence", "split")

MOST_PROBLEMS = 1_000_000
"""Of our own: they are made in memory, at about a kilobyte each."""


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
    seed: Annotated[int, Meta(ge=-1, le=2**32 - 1)] = -1
    max_question_chars: Count = 0
    max_steps: Count = 0
    single_number: bool = False
    dev_share: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    choices: bool = False
    malformed: Literal["fail", "drop"] = "fail"
    fields: dict[str, str] = field(default_factory=dict)
    config: str = ""
    revision: str = ""
    count: Annotated[int, Meta(ge=0, le=MOST_PROBLEMS)] = 0
    max_number: Annotated[int, Meta(ge=10)] = 60
    families: list[str] = []
    retargeted: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15
    hardened: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.15

    @property
    def label(self) -> str:
        """The ``source`` of the rows."""
        return self.name or self.adapter

    def split_read(self, *, seeds: bool) -> str:
        """The split to read.

        Args:
            seeds: True for seeds, False for benchmarks.
        """
        trains = (seeds or self.dev_share > 0) and self.adapter not in EVALUATION_ONLY
        return self.split or self._told() or ("train" if trains else "test")

    def check(self, section: str) -> None:
        """Refuse options that the source's adapter would ignore, and addresses that cannot be read.

        Raises:
            ParameterError: Such an option is set.
        """
        if self.adapter == "builtin":
            self._check_builtin(section)
            return
        if self.count:
            raise ParameterError(f"{section}.count", self.count, "only with the adapter builtin; use limit for other sets")
        self._check_uri(section)
        if self.fields and self.adapter != "jsonl":
            raise ParameterError(f"{section}.fields", self.fields, "only with the adapter jsonl")
        for name in self.fields:
            if name not in JSONL_FIELDS:
                raise ParameterError(f"{section}.fields", self.fields, "the names " + ", ".join(JSONL_FIELDS))
        for name in ("config", "revision"):
            if getattr(self, name) and not self.uri.startswith("hub:"):
                raise ParameterError(f"{section}.{name}", getattr(self, name), "config and revision only with a hub: URI")

    def check_role(self, section: str, *, seeds: bool) -> None:
        """Keep test problems out of the seeds, and what is trained on out of the benchmarks.

        Args:
            section: Where the source stands, for errors.
            seeds: True for seeds, False for benchmarks.

        Raises:
            ParameterError: A test split as seeds, a train split as a benchmark, or a dev share of something that is not a train split.
        """
        split = self.split_read(seeds=seeds)
        if seeds and self._told() == "test":
            raise ParameterError(f"{section}.uri", self.uri, "a file of train or dev problems: by its name this one holds test problems")
        if seeds and split == "test":
            raise ParameterError(
                f"{section}.split",
                self.split,
                "train or dev: test problems are never used as seeds"
                + ("; this set is published for evaluation, so its rows become seeds only when you say so" if not self.split else ""),
            )
        if self.dev_share and split != "train":
            raise ParameterError(f"{section}.dev_share", self.dev_share, f"0, unless the split is train (it is {split})")
        if not seeds and split == "train" and not self.dev_share:
            raise ParameterError(f"{section}.split", split, "dev or test for a benchmark, or train with a dev_share")

    def _told(self) -> str:
        """The split that the file's name tells."""
        name = "" if self.uri.startswith("hub:") else self.uri.rstrip("/").rsplit("/", 1)[-1]
        return named_split(name) if "." in name else ""

    def _check_builtin(self, section: str) -> None:
        if self.count == 0:
            raise ParameterError(f"{section}.count", self.count, "how many problems to make, 1 or more")
        for name in ("uri", "fields", "config", "revision", "dev_share"):
            if getattr(self, name):
                raise ParameterError(
                    f"{section}.{name}", getattr(self, name), "not set for the adapter builtin, which makes its own problems"
                )
        if unknown := [name for name in self.families if name not in FAMILY_NAMES]:
            raise ParameterError(f"{section}.families", unknown, "some of " + ", ".join(FAMILY_NAMES))

    def _check_uri(self, section: str) -> None:
        allowed = "a file, a folder, s3://bucket/key or hub:<data set id>"
        clean = without_credentials(self.uri)
        if not self.uri.strip():
            raise ParameterError(f"{section}.uri", self.uri, allowed)
        if "://" in self.uri and not self.uri.startswith(("s3://", "file://", "hub:")):
            raise ParameterError(f"{section}.uri", clean, allowed + "; download other addresses first")
        if clean != self.uri:
            raise ParameterError(f"{section}.uri", clean, "an address without credentials: it is written into records and reports")


class SeedsOptions(Options, frozen=True, kw_only=True):
    """Options of both tasks of the stage, seeds and benchmarks.

    Attributes:
        sources: The sets, in the order in which their rows are written.
    """

    sources: Annotated[list[SourceOptions], Meta(min_length=1)]

    def check(self, section: str) -> None:
        """Apply the rules of the role, which the section's name tells: ``benchmarks``, or seeds.

        Raises:
            ParameterError: A split that the role does not take, or two benchmarks of one name.
        """
        names = [source.label for source in self.sources]
        for index, source in enumerate(self.sources):
            source.check_role(f"{section}.sources[{index}]", seeds=section != "benchmarks")
            if section == "benchmarks" and names[index] in names[:index]:
                raise ParameterError(f"{section}.sources[{index}].name", names[index], "a name that no other benchmark has")
