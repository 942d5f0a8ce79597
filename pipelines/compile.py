"""Compile the pipelines that are kept in Git: ``python -m pipelines.compile``."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipelines.cluster import ClusterOptions, parse_cluster
from pipelines.parameters import RunOptions, load

COMPILED = Path(__file__).resolve().parent / "compiled"
KEPT = {"orca_math.yaml": "tiny", "orca_math_7b.yaml": "orca_math_7b"}
"""Packages that are kept in Git, and the profiles that their rounds and pods are of."""


def compile_orca_math(out: Path, rounds: int, cluster: ClusterOptions | None = None) -> None:
    """Compile the Orca-Math pipeline with ``rounds`` practice rounds, for pods as ``cluster`` says, to ``out``."""
    from kfp.compiler import Compiler

    from pipelines.orca_math import build

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(build(rounds, cluster), str(out))


def package_for(options: RunOptions, folder: Path) -> Path:
    """The package to run: the one kept in Git when it has the profile's rounds and pods, else one compiled into ``folder``."""
    for name, profile in KEPT.items():
        kept = load(profile)
        if (options.rounds, options.cluster) == (kept.rounds, kept.cluster):
            return COMPILED / name
    out = folder / f"orca_math_{options.rounds}_rounds.yaml"
    compile_orca_math(out, options.rounds, parse_cluster(options.cluster))
    return out


def package_digest(text: str) -> str:
    """SHA-256 of a compiled package, for the lineage card."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    for name, profile in KEPT.items():
        options = load(profile)
        compile_orca_math(COMPILED / name, options.rounds, parse_cluster(options.cluster))
