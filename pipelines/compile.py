"""Compile the pipelines that are kept in Git: ``python -m pipelines.compile``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cluster import TRAINING_TASKS, parse_cluster
from pipelines.parameters import RunOptions, load

if TYPE_CHECKING:
    from pipelines.task_settings import TaskSettings

COMPILED = Path(__file__).resolve().parent / "compiled"
KEPT = {"orca_math.yaml": "tiny", "orca_math_7b.yaml": "orca_math_7b"}
"""Packages that are kept in Git, and the profiles that their rounds and pods are of."""


def compile_orca_math(out: Path, rounds: int) -> None:
    """Compile the Orca-Math pipeline with ``rounds`` practice rounds to ``out``."""
    _compile(out, rounds, None)


def compile_profile(out: Path, options: RunOptions) -> None:
    """Compile the Orca-Math pipeline with a profile's rounds, for pods as its ``cluster`` section says, to ``out``."""
    from pipelines.task_settings import TaskSettings

    launchers = (task for section, task in TRAINING_TASKS.items() if int(options.sections[section].get("nodes", 1)) > 1)
    _compile(out, options.rounds, TaskSettings(parse_cluster(options.cluster), frozenset(launchers)))


def _compile(out: Path, rounds: int, settings: TaskSettings | None) -> None:
    from kfp.compiler import Compiler

    from pipelines.orca_math.pipeline import build
    from pipelines.slimming import slim

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(build(rounds, settings), str(out))
    slim(out)


def package_for(rounds: int, folder: Path) -> Path:
    """The package to run on this machine, where pods do not count: one kept in Git if it has that many rounds, else one compiled into
    ``folder``.
    """
    for name, profile in KEPT.items():
        if load(profile).rounds == rounds:
            return COMPILED / name
    out = folder / f"orca_math_{rounds}_rounds.yaml"
    compile_orca_math(out, rounds)
    return out


def package_digest(text: str) -> str:
    """SHA-256 of a compiled package, for the lineage card."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    for name, profile in KEPT.items():
        compile_profile(COMPILED / name, load(profile))
