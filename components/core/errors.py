"""The one exception tree. Every error names what is wrong, where, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class TutorLoopError(Exception):
    """Base of every error that a person is expected to act on.

    Args:
        message: What is wrong and where.
        hint: What to do about it; shown on its own line.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n  what to do: {hint}" if hint else message)
        self.message = message
        self.hint = hint


class InputError(TutorLoopError):
    """An input file is missing, unreadable or malformed.

    Args:
        message: What is wrong.
        path: The file or URI.
        line: 1-based line number, 0 when the whole file is meant.
        hint: What to do about it.
    """

    def __init__(self, message: str, path: str | Path, line: int = 0, hint: str = "") -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {message}", hint)
        self.path = str(path)
        self.line = line


class ParameterError(TutorLoopError):
    """A parameter has a wrong name or value.

    Args:
        name: Dotted name, for example ``sft.learning_rate``.
        value: The value that was given.
        allowed: What would have been accepted, in words.
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"parameter {name} = {value!r} is not valid; allowed: {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class StoreError(TutorLoopError):
    """The object store (folder or S3) cannot be reached, read or written."""


class TeacherError(TutorLoopError):
    """The teacher endpoint cannot be reached, refuses the key or keeps failing."""


class BudgetError(TeacherError):
    """The budget in dollars or tokens is spent; what was paid for is kept and the run can resume.

    Args:
        message: What is spent.
        hint: What to do about it.
        results: Results of the items of some work, in their order, as far as they were done; None for each that is left.
    """

    def __init__(self, message: str, hint: str = "", results: Sequence[Any] = ()) -> None:
        super().__init__(message, hint)
        self.results = list(results)


class ModelError(TutorLoopError):
    """A model cannot be loaded, saved or used."""


class EmptyOutputError(TutorLoopError):
    """A stage would hand on no rows; the message carries the counts that led there."""


class GateError(TutorLoopError):
    """A quality gate (contamination, promotion) stopped the run on purpose."""


def disk_is_full(error: OSError) -> bool:
    """Whether there is no space left, on the disk or in the user's share of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def reason_of(error: OSError) -> str:
    """What went wrong, in the words that all errors use for it."""
    return "the disk is full" if disk_is_full(error) else error.strerror or str(error)
