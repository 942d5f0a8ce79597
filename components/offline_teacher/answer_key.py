"""Worked solutions of problems that no program of ours can solve, served as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from components.core.records import Problem, normalise_question, read_records
from components.core.store import fetched


@dataclass(frozen=True)
class KeyEntry:
    """What the key knows of one problem.

    Args:
        answer: Short answer.
        solution: Worked solution that ends with ``#### <answer>``.
    """

    answer: str
    solution: str


class AnswerKey:
    """Looks problems up by their normalised text.

    Args:
        rows: Problems; those without an answer are left out, of equal questions the first counts.
    """

    def __init__(self, rows: Iterable[Problem] = ()) -> None:
        self._entries: dict[str, KeyEntry] = {}
        for row in rows:
            if row.answer is not None:
                self._entries.setdefault(normalise_question(row.question), KeyEntry(row.answer, _solution(row.solution, row.answer)))

    @classmethod
    def load(cls, paths: Iterable[str | Path]) -> AnswerKey:
        """Read JSON Lines files of Problem rows.

        Args:
            paths: Files, or ``s3://bucket/key``.

        Raises:
            InputError: A row is malformed; names the line.
            StoreError: There is no such file, or the store cannot be reached.
        """

        def rows() -> Iterator[Problem]:
            for path in paths:
                with fetched(str(path)) as file:
                    yield from read_records(file, Problem)

        return cls(rows())

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: str) -> KeyEntry | None:
        """The entry of a question; None when the key does not hold it."""
        return self._entries.get(normalise_question(question)) if self._entries else None


def _solution(solution: str | None, answer: str) -> str:
    text = (solution or "").strip()
    last = text.rsplit("\n", 1)[-1]
    if "####" in last:
        return text
    return f"{text}\n#### {answer}" if text else f"#### {answer}"
