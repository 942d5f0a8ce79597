"""Compile the pipelines that are kept in Git: ``python -m pipelines.compile``."""

from __future__ import annotations

import hashlib
from pathlib import Path

COMPILED = Path(__file__).resolve().parent / "compiled"


def compile_orca_math(out: Path, rounds: int) -> None:
    """Compile the Orca-Math pipeline with ``rounds`` practice rounds to ``out``."""
    from kfp.compiler import Compiler

    from pipelines.orca_math import build

    out.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(build(rounds), str(out))


def package_for(rounds: int, folder: Path) -> Path:
    """The package to run: the one kept in Git when it has that many rounds, else one compiled into ``folder``."""
    from pipelines.orca_math import ROUNDS

    if rounds == ROUNDS:
        return COMPILED / "orca_math.yaml"
    out = folder / f"orca_math_{rounds}_rounds.yaml"
    compile_orca_math(out, rounds)
    return out


def package_digest(text: str) -> str:
    """SHA-256 of a compiled package, for the lineage card."""
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    from pipelines.orca_math import ROUNDS

    compile_orca_math(COMPILED / "orca_math.yaml", ROUNDS)
