"""Compile the pipelines that are kept in Git: ``python -m pipelines.packages.compile``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from pipelines.methods import METHODS
from pipelines.parameters.profile import RunOptions, load

COMPILED = Path(__file__).resolve().parents[1] / "compiled"
KEPT = {name: profile for method in METHODS.values() for name, profile in method.packages.items()}
"""Packages that are kept in Git, and the profiles that their shape and pods are of."""


def compile_profile(out: Path, options: RunOptions) -> None:
    """Compile the pipeline of a profile's method in the shape that the profile gives it, for pods as its ``cluster`` section says.

    Args:
        out: File to write.
        options: Checked options.
    """
    from kfp.compiler import Compiler

    from pipelines.packages.slimming import slim
    from pipelines.parts.task_settings import TaskSettings

    launchers = frozenset(name for name, kind in options.method.trainings.items() if options.section(kind, name).nodes > 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(options.method.build(options.shape, TaskSettings(options.cluster, launchers)), str(out))
    slim(out)


def package_for(options: RunOptions, folder: Path) -> Path:
    """The package to run on this machine, where pods do not count: one kept in Git if it has that shape, else one compiled into
    ``folder``.

    Args:
        options: Checked options.
        folder: Folder of the run.
    """
    for name, profile in options.method.packages.items():
        if _compiled_in(load(profile)) == _compiled_in(options):
            return COMPILED / name
    out = folder / f"{options.method.name}.yaml"
    compile_profile(out, options)
    return out


def _compiled_in(options: RunOptions) -> dict[str, Any]:
    """What of the shape is no parameter."""
    return {name: value for name, value in msgspec.structs.asdict(options.shape).items() if name not in options.method.shards}


def package_digest(text: str) -> str:
    """SHA-256 of a compiled package, for the lineage card."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    for name, profile in KEPT.items():
        compile_profile(COMPILED / name, load(profile))
