"""The table of known sets: format and licence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.core.records import Problem, problem_id
from components.seeds import formats
from components.seeds.files import RawRow
from components.seeds.formats import Draft, FormatError
from components.seeds.options import SourceOptions
from components.seeds.splits import named_split

Parse = Callable[[Mapping[str, Any], SourceOptions], Draft]


@dataclass(frozen=True)
class Adapter:
    """How one set is read.

    Attributes:
        parse: From a raw row to a draft.
        licence: SPDX name, or what is known of a set whose release states none; empty where the rows or the user must tell.
    """

    parse: Parse
    licence: str


def _plain(parse: Callable[[Mapping[str, Any]], Draft]) -> Parse:
    return lambda row, source: parse(row)


ADAPTERS: dict[str, Adapter] = {
    "gsm8k": Adapter(_plain(formats.gsm8k), "MIT"),
    "svamp": Adapter(_plain(formats.svamp), "MIT"),
    "addsub": Adapter(_plain(formats.mawps), "unstated (MAWPS)"),
    "singleop": Adapter(_plain(formats.singleop), "unstated (MAWPS)"),
    "singleeq": Adapter(_plain(formats.mawps), "unstated (MAWPS)"),
    "multiarith": Adapter(_plain(formats.mawps), "unstated (MAWPS)"),
    "asdiv": Adapter(_plain(formats.asdiv), "CC-BY-NC-4.0"),
    "draw": Adapter(_plain(formats.draw), "unstated (DRAW-1K)"),
    "mathqa": Adapter(lambda row, source: formats.mathqa(row, source.choices), "Apache-2.0"),
    "aqua": Adapter(lambda row, source: formats.aqua(row, source.choices), "Apache-2.0"),
    "jsonl": Adapter(lambda row, source: formats.generic(row, source.fields), ""),
}
"""Every adapter that reads rows; ``builtin`` makes its own."""


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
