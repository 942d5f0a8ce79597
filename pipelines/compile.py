"""Compile the pipelines that are kept in Git: ``python -m pipelines.compile``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.cluster import ClusterOptions, parse_cluster
from pipelines.parameters import load

COMPILED = Path(__file__).resolve().parent / "compiled"
KEPT = {"orca_math.yaml": "tiny", "orca_math_7b.yaml": "orca_math_7b"}
"""Packages that are kept in Git, and the profiles that their rounds and pods are of."""


def compile_orca_math(out: Path, rounds: int, cluster: ClusterOptions | None = None) -> None:
    """Compile the Orca-Math pipeline with ``rounds`` practice rounds, for pods as ``cluster`` says, to ``out``."""
    from kfp.compiler import Compiler

    from pipelines.orca_math import build

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(build(rounds, cluster), str(out))


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
        options = load(profile)
        compile_orca_math(COMPILED / name, options.rounds, parse_cluster(options.cluster))
