"""Content-addressed image tags: a hash of everything that goes into an image.

KFP's cache keys on the image string, locally and on a cluster, so a tag that changes exactly when the code does makes the cache
right and lets it stay on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from components.core.images import AGENTS, TRAINER

ROOT = Path(__file__).resolve().parents[1]

_COMMON = ("core", "word_problems")
CONTENTS: dict[str, tuple[str, ...]] = {
    AGENTS: (
        *_COMMON,
        "teacher",
        "seeds",
        "synthesis",
        "solving",
        "contamination",
        "judging",
        "preferences",
        "ledger",
        "promotion",
        "report",
    ),
    TRAINER: (*_COMMON, "student", "base_model", "sft", "sampling", "preference_tuning", "evaluation"),
}
"""Image to the folders under components/ that it holds."""


def digest(image: str) -> str:
    """Hash of the files that go into an image: 12 hex digits.

    A stage's ``component.py`` does not count: it never runs in the image, its body is part of the compiled pipeline.
    """
    total = hashlib.sha256()
    files = [ROOT / "requirements" / "laptop.lock"]
    for folder in CONTENTS[image]:
        files += sorted(p for p in (ROOT / "components" / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    for file in files:
        if file.name == "component.py":
            continue
        total.update(str(file.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:12]


def resolve(package: str) -> str:
    """Put content-addressed tags in the place of the symbolic image names of a compiled pipeline."""
    for image in CONTENTS:
        package = package.replace(image, f"{image.rsplit(':', 1)[0]}:{digest(image)}")
    return package
