"""Compiled packages as they are uploaded to Kubeflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.core.errors import InputError, TutorLoopError
from pipelines.packages.binding import bound
from pipelines.packages.compile import package_digest

SYMBOLIC = re.compile(r"[\w./-]+:symbolic\b")
MAX_BYTES = 32_000_000
"""What the upload of Kubeflow takes."""


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        name: Name of the pipeline in Kubeflow: the file's name without its ending.
        description: For people.
        text: What is uploaded.
        digest: SHA-256 of the text.
        inputs: Parameter name to whether a run has to be given it.
        profile: Name of the profile that it was compiled for; empty when it does not say.
        records: Home of the records of its runs that are not given another; empty when it does not say.
    """

    name: str
    description: str
    text: str
    digest: str
    inputs: Mapping[str, bool]
    profile: str = ""
    records: str = ""

    @property
    def version(self) -> str:
        """Name of its version in Kubeflow, which follows from the contents."""
        return f"{self.name}-{self.digest[:12]}"

    def is_version(self, name: str) -> bool:
        """Whether a version of that name has these contents: one that came back after another has a number behind its name."""
        return re.fullmatch(re.escape(self.version) + r"(-[0-9]+)?", name) is not None


def read_packages(folder: Path) -> tuple[dict[str, Package], dict[str, TutorLoopError]]:
    """Read all packages of a folder.

    Returns:
        The good ones by name, and what is wrong with the others.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError("no such folder of packages", folder, hint="`tutorloop release` writes one")
    packages, errors = {}, {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            packages[path.stem] = read_package(path)
        except TutorLoopError as error:
            errors[path.stem] = error
    return packages, errors


def read_package(path: Path) -> Package:
    """Read one package.

    Raises:
        InputError: No compiled pipeline, or one that names images which exist nowhere.
    """
    again = "compile it again with `tutorloop release OVERLAY --profile NAME --images build/images.json`"
    if path.stat().st_size > MAX_BYTES:
        raise InputError("larger than Kubeflow takes (32 MB)", path, hint=again)
    text = path.read_text()
    if found := SYMBOLIC.search(text):
        raise InputError(
            f"it names the image {found[0]}, which stands for one that is still to be built",
            path,
            hint=f"build the images with `tutorloop images build`, then {again}",
        )
    try:
        documents = list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        spec: dict[str, Any] = documents[0]
        description = str(spec["pipelineInfo"].get("description", ""))
        inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        profile = str(bound(spec, "profile") or "")
        records = str(bound(spec, "records") or "")
        required = {name: not (item.get("isOptional") or "defaultValue" in item) for name, item in inputs.items()}
    except (yaml.YAMLError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not a compiled pipeline: {type(error).__name__} {error}", path, hint=again) from error
    return Package(path.stem, description, text, package_digest(text), required, profile, records)
