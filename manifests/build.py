#!/usr/bin/env python3
"""Builds a folder of manifests/ with kustomize, with KFP's manifests from local copies where GitHub cannot be reached.

``python3 manifests/build.py overlays/kind/crds | kubectl apply --server-side -f -``

Environment:
    KFP_MANIFESTS: ``manifests/kustomize`` of kubeflow/pipelines at 2.17.0; not set: kustomize fetches all of it from GitHub.
    ARGO_MANIFESTS: ``manifests`` of argoproj/argo-workflows at v4.0.5, which KFP's name in turn; needed with KFP_MANIFESTS.
    KUSTOMIZE: The program, with its arguments; else ``kustomize build`` or ``kubectl kustomize``, whichever is installed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

MANIFESTS = Path(__file__).resolve().parent
REMOTES = {
    "KFP_MANIFESTS": r"https://github\.com/kubeflow/pipelines/manifests/kustomize/(?P<path>[^?\s]+)\?[^\s\]]+",
    "ARGO_MANIFESTS": r"https://github\.com/argoproj/argo-workflows/manifests/(?P<path>[^?\s]+)\?[^\s\]]+",
}


class BuildError(Exception):
    """The folder cannot be built; says why."""


def build(folder: str, environment: Mapping[str, str]) -> str:
    """Build one folder.

    Args:
        folder: Below ``manifests/``, for example ``overlays/kind``.
        environment: See above.

    Returns:
        The resources as YAML.

    Raises:
        BuildError: There is no such folder, copy or program, or kustomize refuses.
    """
    if not (MANIFESTS / folder / "kustomization.yaml").is_file():
        raise BuildError(f"manifests/{folder} holds no kustomization.yaml")
    if not environment.get("KFP_MANIFESTS"):
        return _run(MANIFESTS / folder, environment)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "manifests"
        shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        use_local_copies(copy, environment)
        return _run(copy / folder, environment)


def use_local_copies(copy: Path, environment: Mapping[str, str]) -> None:
    """Put local folders in the place of all remote ones, in KFP's own manifests too.

    Args:
        copy: A copy of ``manifests/``; changed. The local folders are copied beside it.
        environment: See above.

    Raises:
        BuildError: A variable is not set, or names something else.
    """
    folders = {variable: copy.parent / variable.lower() for variable in REMOTES}
    for variable, folder in folders.items():
        given = environment.get(variable, "")
        if not Path(given).is_dir() or not given:
            raise BuildError(f"{variable}={given!r} is no folder; manifests/README.md says which repository to clone for it")
        shutil.copytree(given, folder)
    for path in copy.parent.rglob("kustomization.yaml"):
        text = path.read_text(encoding="utf-8")
        for variable, pattern in REMOTES.items():
            text = re.sub(pattern, rf"{os.path.relpath(folders[variable], path.parent)}/\g<path>", text)
        path.write_text(text, encoding="utf-8")


def _run(folder: Path, environment: Mapping[str, str]) -> str:
    ended = subprocess.run([*_program(environment), str(folder)], capture_output=True, text=True)
    if ended.returncode:
        raise BuildError(ended.stderr.strip())
    return ended.stdout


def _program(environment: Mapping[str, str]) -> list[str]:
    if environment.get("KUSTOMIZE"):
        return shlex.split(environment["KUSTOMIZE"])
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]):
            return command
    raise BuildError("neither kustomize nor kubectl is installed; name the program in KUSTOMIZE")


if __name__ == "__main__":
    try:
        sys.stdout.write(build(sys.argv[1] if len(sys.argv) > 1 else "overlays/kind", os.environ))
    except BuildError as problem:
        sys.exit(f"cannot build: {problem}")
