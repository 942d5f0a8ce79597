"""What can be chosen about a test on a cluster: all of it comes from environment variables (see README.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.kind.commands import ROOT

NODE_IMAGES = ("kindest/node:v1.33.12", "kindest/node:v1.36.1")
"""Oldest and newest Kubernetes that KFP 2.17 is tested on, as kind v0.32.0 has them."""
DEFAULT_NAME = "tutorloop-test"
TRUE = ("1", "true", "yes")


@dataclass(frozen=True)
class Settings:
    """The choices.

    Attributes:
        name: Of the kind cluster.
        existing: The kind cluster is there already, and stays.
        context: Kube context of a cluster that kind knows nothing of; empty for a kind cluster.
        node_image: Of a new kind cluster.
        keep: Leave everything as it is at the end.
        archives: Tarballs of third-party images.
        prefix: Mirror of third-party images; empty for their own registries.
        table: Table of images that are built already; None to build them.
        wheelhouse: Wheels for the build; empty for none.
        certificate: CA certificates for the build; empty for none.
        folder: Where logs, events and descriptions go.
        patience: Factor on every time limit, for slow machines.
    """

    name: str = DEFAULT_NAME
    existing: bool = False
    context: str = ""
    node_image: str = NODE_IMAGES[-1]
    keep: bool = False
    archives: tuple[Path, ...] = ()
    prefix: str = ""
    table: Path | None = None
    wheelhouse: str = ""
    certificate: str = ""
    folder: Path = ROOT / "build" / "kind"
    patience: float = 1.0

    @property
    def loads_images(self) -> bool:
        """Whether images are brought into the nodes; else the cluster fetches them from registries."""
        return not self.context


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the variables.

    Raises:
        ValueError: A variable is wrong; says which, and what it may be.
    """
    existing, context = environment.get("TUTORLOOP_KIND_CLUSTER", ""), environment.get("TUTORLOOP_KIND_CONTEXT", "")
    if existing and context:
        raise ValueError("TUTORLOOP_KIND_CLUSTER and TUTORLOOP_KIND_CONTEXT name two clusters: set one of them")
    table = environment.get("TUTORLOOP_IMAGES", "")
    if table and not Path(table).is_file():
        raise ValueError(f"TUTORLOOP_IMAGES={table}: there is no such file; it is a table that `tutorloop images build` wrote")
    if context and not table:
        raise ValueError(
            "TUTORLOOP_KIND_CONTEXT also needs TUTORLOOP_IMAGES: the table of images that were pushed where the cluster finds them"
        )
    try:
        patience = float(environment.get("TUTORLOOP_KIND_PATIENCE", "1"))
    except ValueError as error:
        raise ValueError("TUTORLOOP_KIND_PATIENCE is no number, such as 2 for a machine that is half as fast") from error
    return Settings(
        name=existing or DEFAULT_NAME,
        existing=bool(existing),
        context=context,
        node_image=environment.get("TUTORLOOP_KIND_NODE_IMAGE", "") or Settings.node_image,
        keep=environment.get("TUTORLOOP_KIND_KEEP", "").lower() in TRUE,
        archives=tuple(_archives(environment.get("TUTORLOOP_IMAGE_ARCHIVE", ""))),
        prefix=environment.get("TUTORLOOP_IMAGE_PREFIX", "").rstrip("/"),
        table=Path(table).resolve() if table else None,
        wheelhouse=environment.get("TUTORLOOP_WHEELHOUSE", ""),
        certificate=environment.get("PIP_CERT", ""),
        folder=Path(environment.get("TUTORLOOP_KIND_FOLDER", "") or Settings.folder).resolve(),
        patience=patience,
    )


def _archives(text: str) -> list[Path]:
    found: list[Path] = []
    for name in filter(None, text.split(os.pathsep)):
        path = Path(name).resolve()
        inside = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not inside or not all(file.is_file() for file in inside):
            raise ValueError(f"TUTORLOOP_IMAGE_ARCHIVE: {name} is neither a tarball nor a folder with some (*.tar)")
        found += inside
    return found
