"""Which images the nodes of a kind cluster have: only what is new is loaded, since loading all of them takes minutes."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.kind.commands import run
from tests.kind.images import full_name

_DIGEST = re.compile(r"[0-9a-f]{64}")


def held(cluster: str) -> list[dict[str, str]]:
    """For each node the names of its images, with the digest of each one's configuration, which is what containerd calls its id."""
    found = []
    for node in run(["kind", "get", "nodes", "--name", cluster], seconds=60, quiet=True).split():
        listed = json.loads(run(["docker", "exec", node, "crictl", "images", "--output", "json"], seconds=60, quiet=True))
        found.append({tag: _digest(image["id"]) for image in listed["images"] for tag in image.get("repoTags") or []})
    return found


def new(wanted: Mapping[str, str], nodes: Sequence[Mapping[str, str]]) -> list[str]:
    """Those of some images that a node lacks, or has another image under the name of.

    Args:
        wanted: Reference to digest; an empty digest is never the same.
        nodes: As :func:`held` gives them.
    """
    return [
        name for name, digest in wanted.items() if not nodes or any(not digest or node.get(full_name(name)) != digest for node in nodes)
    ]


def of_docker(references: Sequence[str]) -> dict[str, str]:
    """Images of this machine's docker with their digests.

    One that keeps its images in containerd tells the digest of a manifest instead, so that all of them count as new; kind looks again.
    """
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", *references]
    return dict(zip(references, map(_digest, run(command, seconds=60, quiet=True).split()), strict=True))


def of_archive(path: Path) -> dict[str, str]:
    """Images of a tarball that ``docker save`` wrote, with their digests; nothing of one in another form."""
    try:
        with tarfile.open(path) as archive:
            listing = archive.extractfile("manifest.json")
            images = json.load(listing) if listing else []
    except (KeyError, tarfile.TarError, ValueError):
        return {}
    return {tag: _digest(image["Config"]) for image in images for tag in image.get("RepoTags") or []}


def _digest(text: str) -> str:
    found = _DIGEST.search(text)
    return found[0] if found else ""
