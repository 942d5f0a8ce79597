"""Which split a name tells, and which files of a folder hold a split."""

from __future__ import annotations

import re
from pathlib import Path

SUFFIXES = (".jsonl", ".json", ".xml")

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}
"""Words that data sets use for their splits, to ours."""


def named_split(name: str) -> str:
    """The split that a file name, a row's field or a hub split tells (``draw_dev.orig.jsonl`` is ``dev``), or an empty string."""
    words = re.split(r"[^a-z]+", name.lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else ""


def files_of_split(folder: Path, split: str) -> tuple[list[Path], list[Path]]:
    """The files of a folder that hold a split, and all that could.

    A file named exactly after the split wins (``train.jsonl``), then files with the split's name in theirs
    (``draw_train.orig.jsonl``). Files that name no split count only where no file does.

    Args:
        folder: On this machine.
        split: ``train``, ``dev`` or ``test``.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)
    exact = [path for path in files if SPLIT_NAMES.get(path.stem.lower()) == split]
    named = [path for path in files if named_split(path.name) == split]
    unnamed = [] if any(named_split(path.name) for path in files) else files
    return exact or named or unnamed, files
