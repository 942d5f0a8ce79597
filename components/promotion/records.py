"""What promotion writes: the decision, the manifest of a version, the champion pointer."""

from __future__ import annotations

from components.core.records import Record


class PairedComparison(Record, frozen=True, kw_only=True):
    """Two models on the same development problems."""

    opponent: str
    """Id of the base model, or the version name of the champion."""
    role: str = "base"
    """``base`` or ``champion``."""
    n: int
    candidate_accuracy: float
    opponent_accuracy: float
    gain: float
    """Accuracy of the candidate minus accuracy of the opponent, -1 to 1."""
    low: float
    """Lower end of the 95 % bootstrap interval of the gain."""
    high: float
    p_value: float
    """Of the two-sided exact McNemar test."""
    only_candidate: int
    """Problems that only the candidate solved."""
    only_opponent: int


class Decision(Record, frozen=True, kw_only=True):
    """Whether the candidate becomes the champion, and why."""

    schema: str = "tutorloop.promotion/1"
    promoted: bool
    reason: str
    candidate: str
    """Name of the model within its run, for example ``M3``."""
    champion: str
    """Version name of the champion that it was compared with; empty when there was none."""
    comparisons: list[PairedComparison]
    alpha: float
    min_gain: float


class ManifestFile(Record, frozen=True, kw_only=True):
    """One file of a version."""

    path: str
    sha256: str
    bytes: int


class Manifest(Record, frozen=True, kw_only=True):
    """All files of a version. Written last: a version without a manifest does not exist."""

    schema: str = "tutorloop.version/1"
    version: str
    files: list[ManifestFile]


class Pointer(Record, frozen=True, kw_only=True):
    """Which version is the champion."""

    schema: str = "tutorloop.champion/1"
    version: str
    generation: int
    """Counts the champions: 1 for the first."""
    previous: str
    """Version of the champion before; empty for the first."""
    promoted_at: str
    """UTC, ISO 8601."""
