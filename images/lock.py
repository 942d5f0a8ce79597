"""Write the lock files of the images: ``python images/lock.py`` in the development environment, with ``--resolve`` for the GPU ones.

The images that also serve on a laptop take their versions from this environment, so that a stage computes the same in both. What
only GPUs use is resolved by pip from the package index, which reads the metadata and downloads no wheel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Collection
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGES = Path(__file__).resolve().parent
HEADER = "# Made by images/lock.py from {}; complete, installed with --no-deps.\n"

# kfp runs a task without its dependencies, and its protobuf contradicts that of others (docs/decisions.md).
WITHOUT_DEPENDENCIES = {"kfp"}
# This one also talks to Kubeflow's API, for which kfp needs all of them.
WITH_CLIENT = {"sync/requirements.in"}
# The build of torch depends on the machine: it has locks of its own.
APART = {"torch"}

FROM_ENVIRONMENT = {
    "agents/requirements.lock": ("agents/requirements.in", ""),
    "agents/hub.lock": ("agents/hub.in", "agents/requirements.in"),
    "trainer/requirements.lock": ("trainer/requirements.in", ""),
    "offline-teacher/requirements.lock": ("offline-teacher/requirements.in", ""),
    "sync/requirements.lock": ("sync/requirements.in", ""),
}
"""Lock to the file that names its packages and the file whose packages are there already."""

RESOLVED = {
    "trainer/torch-cuda.lock": ("trainer/torch-cuda.in", "trainer/requirements.lock"),
    "sampler/requirements.lock": ("sampler/requirements.in", ""),
}
"""Lock to the file that names its packages and the lock whose packages are there already."""


def wanted(name: str) -> list[str]:
    """The requirements in a file below images/; none for an empty name."""
    lines = (IMAGES / name).read_text().splitlines() if name else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def closure(requirements: list[str], alone: Collection[str] = frozenset(WITHOUT_DEPENDENCIES)) -> dict[str, str]:
    """Everything that requirements need, as installed in this environment.

    Args:
        requirements: What is wanted.
        alone: Packages that come without their dependencies.

    Returns:
        Package name to version.

    Raises:
        importlib.metadata.PackageNotFoundError: This environment lacks one.
    """
    found: dict[str, str] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        requirement = todo.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        package = metadata.distribution(name)
        if name not in APART:
            found[package.metadata["Name"]] = package.version
        if name in alone:
            continue
        for text in package.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append(needed)
    return found


def from_environment(lock: str) -> str:
    """Text of a lock that holds versions of this environment."""
    names, present = FROM_ENVIRONMENT[lock]
    there = closure(wanted(present))
    found = closure(wanted(names), () if names in WITH_CLIENT else WITHOUT_DEPENDENCIES)
    return _text(names, {name: version for name, version in found.items() if name not in there})


def resolved(lock: str) -> str:
    """Text of a lock that pip resolves from the package index.

    Raises:
        subprocess.CalledProcessError: pip finds no solution.
    """
    names, present = RESOLVED[lock]
    there = {canonicalize_name(Requirement(text).name) for text in wanted(present)}
    alone = [text for text in wanted(names) if canonicalize_name(Requirement(text).name) in WITHOUT_DEPENDENCIES]
    together = [text for text in wanted(names) if text not in alone]
    with tempfile.NamedTemporaryFile() as report:
        command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--constraint", str(IMAGES / present)] if present else []
        subprocess.run([*command, "--report", report.name, *together], check=True)
        chosen = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.load(report)["install"]}
    chosen |= {Requirement(text).name: next(iter(Requirement(text).specifier)).version for text in alone}
    return _text(names, {name: version for name, version in chosen.items() if canonicalize_name(name) not in there})


def _text(names: str, versions: dict[str, str]) -> str:
    lines = sorted((f"{name}=={version}" for name, version in versions.items()), key=str.lower)
    return HEADER.format(Path(names).name) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in FROM_ENVIRONMENT:
        (IMAGES / name).write_text(from_environment(name))
    if "--resolve" in sys.argv[1:]:
        for name in RESOLVED:
            (IMAGES / name).write_text(resolved(name))
