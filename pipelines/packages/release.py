"""What an overlay of the manifests runs: images and packages, written into files that are committed and applied by Git's tools.

Layout below the overlay::

    release/images/kustomization.yaml     a Component: the images that the manifests name, by digest once they are pushed
    release/packages/kustomization.yaml   a Component: the ConfigMap with the packages
    release/packages/<pipeline>.yaml      the compiled pipelines, with the pods of their profiles
    release/native/<pipeline>.yaml        the same as custom resources, for Kubeflow in Kubernetes-native mode
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import InputError, ParameterError
from pipelines.images.table import REPOSITORIES, ImageTable
from pipelines.packages.finished import finished_package
from pipelines.packages.native import native_manifests
from pipelines.parameters.profile import RunOptions

CONFIG_MAP = "tutorloop-packages"
LIMIT = 1_000_000
"""Bytes that Kubernetes takes in a ConfigMap, with a margin."""
NAMESPACE = "tutorloop"
KUBEFLOW = "kubeflow"
NOTE = "# Written by `tutorloop release`.\n"


def release(overlay: Path, profiles: Mapping[str, RunOptions], table: ImageTable) -> list[Path]:
    """Write an overlay's ``release`` folder; what an earlier release left there goes.

    Args:
        overlay: Folder of the overlay.
        profiles: Name to checked profile; one package each, named after the profile's ``cluster.pipeline``.
        table: The images that are built.

    Returns:
        The files.

    Raises:
        InputError: There is no such overlay.
        ParameterError: Two profiles name the same pipeline, the packages are too long together, or an image is missing in the table.
    """
    if not (overlay / "kustomization.yaml").is_file():
        raise InputError("is not an overlay: it has no kustomization.yaml", overlay, hint="give a folder below manifests/overlays")
    packages = _packages(profiles, table)
    contents = {
        "images/kustomization.yaml": _component({"images": [_image(name, image.reference) for name, image in sorted(table.newest.items())]})
    }
    generator = {"name": CONFIG_MAP, "namespace": NAMESPACE, "files": [f"{name}.yaml" for name in sorted(packages)]}
    contents["packages/kustomization.yaml"] = _component({"configMapGenerator": [generator]})
    for name, text in packages.items():
        contents[f"packages/{name}.yaml"] = text
        contents[f"native/{name}.yaml"] = NOTE + native_manifests(text, name, KUBEFLOW)
    contents["native/kustomization.yaml"] = NOTE + _yaml(
        {**_head("kustomize.config.k8s.io/v1beta1", "Kustomization"), "resources": [f"{name}.yaml" for name in sorted(packages)]}
    )
    partial, target = overlay / ".release.part", overlay / "release"
    shutil.rmtree(partial, ignore_errors=True)
    for name, text in contents.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return [target / name for name in contents]


def _packages(profiles: Mapping[str, RunOptions], table: ImageTable) -> dict[str, str]:
    found: dict[str, str] = {}
    for profile, options in profiles.items():
        name = options.cluster.pipeline
        if name in found:
            raise ParameterError("cluster.pipeline", name, f"another name in {profile}: two profiles of a release have this one")
        found[name] = finished_package(options, table, profile=profile)
    if (size := sum(map(len, found.values()))) > LIMIT:
        raise ParameterError("--profile", ", ".join(profiles), f"packages of {LIMIT} bytes in all, which a ConfigMap can hold, not {size}")
    return found


def _image(name: str, reference: str) -> dict[str, str]:
    repository, separator, digest = reference.partition("@")
    if separator:
        return {"name": REPOSITORIES[name], "newName": repository, "digest": digest}
    repository, _, tag = reference.rpartition(":")
    return {"name": REPOSITORIES[name], "newName": repository, "newTag": tag}


def _head(version: str, kind: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind}


def _component(content: dict[str, Any]) -> str:
    return NOTE + _yaml({**_head("kustomize.config.k8s.io/v1alpha1", "Component"), **content})


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=120)
