"""The table of known sets: format, licence, and whether the set is published for evaluation only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.core.errors import ParameterError
from components.core.records import Problem, problem_id
from components.seeds import formats
from components.seeds.files import RawRow, named_split
from components.seeds.formats import Draft, FormatError
from components.seeds.options import SourceOptions

Parse = Callable[[Mapping[str, Any], SourceOptions], Draft]

JSONL_FIELDS = ("question", "answer", "alternatives", "solution", "steps", "licence", "split")


@dataclass(frozen=True)
class Adapter:
    """How one set is read.

    Attributes:
        parse: From a raw row to a draft.
        licence: SPDX name, or what is known of a set whose release states none; empty where the rows or the user must tell.
        evaluation_only: One file, published to evaluate with: its default split is ``test``.
    """

    parse: Parse
    licence: str
    evaluation_only: bool = False


def _plain(parse: Callable[[Mapping[str, Any]], Draft]) -> Parse:
    return lambda row, source: parse(row)


ADAPTERS: dict[str, Adapter] = {
    "gsm8k": Adapter(_plain(formats.gsm8k), "MIT"),
    "svamp": Adapter(_plain(formats.svamp), "MIT", evaluation_only=True),
    "addsub": Adapter(_plain(formats.mawps), "unstated (MAWPS)", evaluation_only=True),
    "singleop": Adapter(_plain(formats.singleop), "unstated (MAWPS)", evaluation_only=True),
    "singleeq": Adapter(_plain(formats.mawps), "unstated (MAWPS)", evaluation_only=True),
    "multiarith": Adapter(_plain(formats.mawps), "unstated (MAWPS)", evaluation_only=True),
    "asdiv": Adapter(_plain(formats.asdiv), "CC-BY-NC-4.0", evaluation_only=True),
    "draw": Adapter(_plain(formats.draw), "unstated (DRAW-1K)"),
    "mathqa": Adapter(lambda row, source: formats.mathqa(row, source.choices), "Apache-2.0"),
    "aqua": Adapter(lambda row, source: formats.aqua(row, source.choices), "Apache-2.0"),
    "jsonl": Adapter(lambda row, source: formats.generic(row, source.fields), ""),
}
"""Every adapter that reads rows; ``builtin`` makes its own."""


def check_options(source: SourceOptions, where: str) -> None:
    """Refuse options that the source's adapter would ignore.

    Raises:
        ParameterError: Such an option is set.
    """
    builtin = source.adapter == "builtin"
    if builtin and source.count == 0:
        raise ParameterError(f"{where}.count", source.count, "how many problems to make, 1 or more")
    if not builtin and source.count:
        raise ParameterError(f"{where}.count", source.count, "only with the adapter builtin; use limit for other sets")
    for name in ("uri", "fields", "config", "revision", "dev_share"):
        if builtin and getattr(source, name):
            raise ParameterError(f"{where}.{name}", getattr(source, name), "not set for the adapter builtin, which makes its own problems")
    if source.fields and source.adapter != "jsonl":
        raise ParameterError(f"{where}.fields", source.fields, "only with the adapter jsonl")
    for name in source.fields:
        if name not in JSONL_FIELDS:
            raise ParameterError(f"{where}.fields", source.fields, "the names " + ", ".join(JSONL_FIELDS))
    if (source.config or source.revision) and not source.uri.startswith("hub:"):
        raise ParameterError(f"{where}.config", source.config or source.revision, "config and revision only with a hub: URI")


def to_problem(row: RawRow, source: SourceOptions, split: str, need_answer: bool) -> tuple[Problem, str]:
    """Turn a raw row into a ``Problem``.

    Args:
        row: The row.
        source: Its source.
        split: The split that the rows are read as.
        need_answer: Whether a row without an answer is malformed.

    Returns:
        The problem, and the split that the row itself claims (empty when it claims none).

    Raises:
        FormatError: The row is not in the set's format.
    """
    adapter = ADAPTERS[source.adapter]
    draft = adapter.parse(row.data, source)
    licence = source.licence or draft.licence or adapter.licence
    if not licence:
        raise FormatError("the row has no licence; name the data's licence by the source's option licence")
    if need_answer and draft.answer is None:
        raise FormatError("the row has no answer, which a benchmark needs")
    claimed = named_split(draft.split)
    problem = Problem(
        id=problem_id(draft.question),
        source=source.label,
        split=split,
        question=draft.question,
        answer=draft.answer,
        alternatives=list(draft.alternatives),
        solution=draft.solution,
        steps=draft.steps,
        licence=licence,
    )
    return problem, claimed
