"""Builds of kustomizations, with the remote bases put in from a folder or stood in for by what is known of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from manifests import build as local_build
from tests.conftest import ROOT
from tests.manifests import kubeflow
from tests.manifests.objects import Object, read_yaml

MANIFESTS = ROOT / "manifests"
PINNED = ROOT / "build" / "bin" / "kubectl"
"""Where .ci/run lets get_kustomize.sh put it."""

REMOTE = re.compile(r"https://github\.com/kubeflow/pipelines/+manifests/kustomize/(?P<path>[^?\s\"']+)\?ref=(?P<ref>[^&\s\"']+)[^\s\"']*")


class BuildError(Exception):
    """A kustomization does not build; the message is kustomize's."""


def command() -> list[str] | None:
    """How to build a kustomization on this machine: the pinned kubectl, else what is on the path; None without either."""
    if PINNED.is_file():
        return [str(PINNED), "kustomize"]
    if found := shutil.which("kustomize"):
        return [found, "build"]
    if found := shutil.which("kubectl"):
        return [found, "kustomize"]
    return None


def remote_references(folder: Path) -> dict[str, set[str]]:
    """The remote bases that kustomizations below a folder name.

    Returns:
        Whole address to the files that name it.
    """
    found: dict[str, set[str]] = {}
    for path in folder.rglob("kustomization.yaml"):
        [content] = read_yaml(path.read_text())
        for key in ("resources", "components", "bases"):
            for entry in content.get(key) or []:
                if "://" in entry or entry.startswith(("github.com/", "git@", "git::")):
                    found.setdefault(entry, set()).add(str(path.relative_to(folder)))
    return found


def checkout(destination: Path) -> Path:
    """Copy the manifests to where they build without a network.

    With KFP_MANIFESTS and ARGO_MANIFESTS (manifests/build.py), remote bases come from there; without, each is replaced by stand-ins
    for its objects (kubeflow.py). Nothing else of a file is changed. The kind overlay gets its secrets.

    Args:
        destination: A new folder.

    Returns:
        The copy of manifests/.
    """
    copy = destination / "manifests"
    shutil.copytree(MANIFESTS, copy, ignore=shutil.ignore_patterns("__pycache__", "*.env"))
    subprocess.run([sys.executable, str(copy / "overlays/kind/secrets/make_secrets.py")], check=True, stdout=subprocess.DEVNULL)
    if os.environ.get("KFP_MANIFESTS"):
        local_build.use_local_copies(copy, os.environ)
    else:
        _put_stand_ins(copy, destination / "stand-ins")
    return copy


def _put_stand_ins(copy: Path, stand_ins: Path) -> None:
    for address, files in remote_references(copy).items():
        match = REMOTE.fullmatch(address)
        if match is None:
            continue  # test_builds.py says what is wrong with it
        kubeflow.write_stand_ins(match["path"], stand_ins / match["path"])
        for name in files:
            path = copy / name
            path.write_text(path.read_text().replace(address, os.path.relpath(stand_ins / match["path"], path.parent)))


def render(folder: Path) -> str:
    """Build a kustomization.

    Args:
        folder: With a kustomization.yaml.

    Returns:
        The objects as YAML.

    Raises:
        BuildError: It does not build.
    """
    program = command()
    assert program is not None, "no kustomize: call get_kustomize.sh first"
    result = subprocess.run([*program, str(folder)], capture_output=True, text=True, timeout=120, check=False)
    if result.returncode != 0:
        raise BuildError(result.stderr.strip() or f"kustomize ended with {result.returncode}")
    return result.stdout


def build(folder: Path) -> list[Object]:
    """Build a kustomization into objects; see render."""
    return read_yaml(render(folder))


def is_component(folder: Path) -> bool:
    """Whether a folder is a kustomize Component, which only builds as a part of something."""
    return bool(read_yaml((folder / "kustomization.yaml").read_text())[0].get("kind") == "Component")


def folders(below: Path = MANIFESTS) -> list[str]:
    """All folders with a kustomization.yaml, relative to the one they are below."""
    return sorted(str(path.parent.relative_to(below)) for path in below.rglob("kustomization.yaml"))
