"""The third-party images of the kind overlay: which they are, and where a mirror has them.

``python -m tests.kind.images`` prints them, one a line, for example for ``xargs docker pull`` and ``docker save``;
``python -m tests.kind.images --prefix mirror.example:5000`` prints pairs: the image, and what it must be called in the mirror.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

OURS = re.compile(r"(^|/)tutorloop/[a-z-]+-python(@.*|:[^/]*)?$")
"""Not read in pipelines/images/table.py: this runs on a machine that has nothing of ours installed."""
IMAGE_VARIABLES = re.compile(r"^V2_(DRIVER|LAUNCHER)_IMAGE$")
"""KFP's API server names the images of drivers and launchers so."""
IMAGE_ARGUMENTS = ("--executor-image",)
"""Argo's controller names the image of the containers beside each task so."""


def images_of(resources: Iterable[Any]) -> list[str]:
    """All images that resources name and that are not ours, sorted."""
    found = {image for resource in resources for image in _walk(resource)}
    return sorted(image for image in found if not OURS.search(image))


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, str):
                name, separator, rest = item.partition("=")
                if name in IMAGE_ARGUMENTS:
                    yield rest if separator else value[index + 1]
            yield from _walk(item)
    elif isinstance(value, dict):
        if isinstance(value.get("image"), str) and "name" in value:
            yield value["image"]
        if IMAGE_VARIABLES.match(str(value.get("name", ""))) and value.get("value"):
            yield value["value"]
        for item in value.values():
            yield from _walk(item)


def full_name(image: str) -> str:
    """The image with the registry that docker would ask: ``mysql:8.4`` is ``docker.io/library/mysql:8.4``."""
    first, separator, _ = image.partition("/")
    if separator and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if separator else f"docker.io/library/{image}"


def mirrored(image: str, prefix: str) -> str:
    """Where a mirror has an image: its full name below the prefix."""
    return f"{prefix}/{full_name(image)}"


def put_mirror(text: str, prefix: str) -> str:
    """Let all third-party images of built manifests come from a mirror, wherever the text names them."""
    images = images_of(yaml.load_all(text, Loader=yaml.CSafeLoader))
    if not images or not prefix:
        return text
    names = "|".join(re.escape(image) for image in sorted(images, key=len, reverse=True))
    return re.sub(rf"(?<![\w./:@-])({names})(?![\w./:@-])", lambda match: mirrored(match[1], prefix), text)


def main(arguments: list[str] | None = None) -> None:
    """Build the overlay and print."""
    from tests.kind.deploy import LAYERS, Checkout

    parser = argparse.ArgumentParser(prog="python -m tests.kind.images", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prefix", default="", help="print pairs: the image, and its name in this mirror")
    prefix = parser.parse_args(arguments).prefix.rstrip("/")
    with tempfile.TemporaryDirectory() as scratch:
        checkout = Checkout.make(Path(scratch))
        resources = [item for layer in LAYERS for item in yaml.load_all(checkout.build(layer), Loader=yaml.CSafeLoader)]
    for image in images_of(resources):
        sys.stdout.write(f"{image} {mirrored(image, prefix)}\n" if prefix else f"{image}\n")


if __name__ == "__main__":
    main()
