#!/usr/bin/env python3
"""Builds a folder of manifests/ with kustomize, with KFP's manifests from a local copy where GitHub cannot be reached.

``python3 manifests/build.py overlays/kind | kubectl apply --server-side -f -``

Environment:
    KFP_MANIFESTS: Not set: kustomize fetches KFP from GitHub. A folder: it holds the repositories that the manifests name, as
        ``pipelines`` (kubeflow/pipelines at 2.17.0) and ``argo-workflows`` (argoproj/argo-workflows at v4.0.5). ``none``: KFP is left
        out, and with it all patches of it.
    KUSTOMIZE: The program, with its arguments; ``kustomize build`` or else ``kubectl kustomize``, whichever is installed.
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
VARIABLE = "KFP_MANIFESTS"
LEFT_OUT = "none"
REMOTE = re.compile(r"https://github\.com/[\w.-]+/(?P<repository>[\w.-]+)/(?P<path>[^?\s]+)\?\S+")
KFP_FOLDERS = ("kubeflow", "kubeflow-native", "kubeflow-crds")


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
        BuildError: There is no such folder or program, or kustomize refuses.
    """
    if not (MANIFESTS / folder / "kustomization.yaml").is_file():
        raise BuildError(f"manifests/{folder} holds no kustomization.yaml")
    location = environment.get(VARIABLE, "")
    if not location:
        return _run(MANIFESTS / folder, environment)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "manifests"
        shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if location == LEFT_OUT:
            leave_kfp_out(copy)
        else:
            use_local_kfp(copy, Path(location))
        return _run(copy / folder, environment)


def use_local_kfp(copy: Path, location: Path) -> None:
    """Put local folders in the place of all remote ones, in KFP's manifests too.

    Args:
        copy: A copy of ``manifests/``; changed.
        location: See KFP_MANIFESTS.

    Raises:
        BuildError: A repository is missing.
    """
    vendored = copy.parent / "vendored"
    for repository in ("pipelines", "argo-workflows"):
        source = location / repository / "manifests"
        if not source.is_dir():
            raise BuildError(f"{VARIABLE}={location} holds no {repository}/manifests; clone the repository there (manifests/README.md)")
        shutil.copytree(source, vendored / repository / "manifests")
    for top in (copy, vendored):
        for path in top.rglob("kustomization.yaml"):
            text = path.read_text(encoding="utf-8")
            local = REMOTE.sub(rf"{os.path.relpath(vendored, path.parent)}/\g<repository>/\g<path>", text)
            path.write_text(local, encoding="utf-8")


def leave_kfp_out(copy: Path) -> None:
    """Empty the folders that hold KFP, and drop every overlay's patches of it.

    Args:
        copy: A copy of ``manifests/``; changed.
    """
    import yaml  # only for this

    names = set()
    for folder in KFP_FOLDERS:
        (copy / "components" / folder / "kustomization.yaml").write_text("kind: Kustomization\nnamePrefix: ''\n", encoding="utf-8")
    for path in (copy / "components" / "kubeflow" / "patches").glob("*.yaml"):
        names |= {_name(part) for part in yaml.safe_load_all(path.read_text(encoding="utf-8"))}
    for path in (copy / "overlays").glob("*/platform/*.yaml"):
        parts = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        kept = [part for part in parts if not isinstance(part, dict) or _name(part) not in names]
        if len(kept) < len(parts):
            path.write_text(yaml.safe_dump_all(kept), encoding="utf-8")


def _name(part: object) -> tuple[str, str]:
    assert isinstance(part, dict)
    return part["kind"], part.get("metadata", {}).get("name", "")


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
