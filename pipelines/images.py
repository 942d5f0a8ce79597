"""The images: what goes into each, the content-addressed version that follows from it, and the table of those that are built.

KFP's cache keys on the image string, locally and on a cluster, so a version that changes exactly when the contents do makes the
cache right and lets it stay on. A Dockerfile is the only list of what goes in: the files that it copies or mounts are the build's
context and the input of the hash.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import msgspec

from components.core.errors import InputError, ParameterError
from components.core.images import AGENTS, GENERATOR, SYNC, TRAINER
from components.core.records import Record
from components.core.store import MissingKeyError, fetched, put

ROOT = Path(__file__).resolve().parents[1]

REPOSITORIES = {
    "agents": "tutorloop/agents-python",
    "trainer": "tutorloop/trainer-python",
    "sampler": "tutorloop/sampler-python",
    "offline-teacher": "tutorloop/offline-teacher-python",
    "sync": "tutorloop/sync-python",
}
"""Folder under images/ to repository name; kfp warns of images without the word python in their names."""

WHEELHOUSE = "images/wheelhouse"
DEFAULT_TABLE = "build/images.json"

_SETTINGS = ("VERSION",)
"""Build arguments with a default that follow from the contents."""


class Image(Record, frozen=True, kw_only=True):
    """An image that was built.

    Attributes:
        name: Folder under images/.
        version: Hash of what went in.
        arguments: Build arguments that differ from the Dockerfile's defaults.
        reference: What a task names: repository and version, or repository and digest once pushed.
    """

    name: str
    version: str
    arguments: dict[str, str] = {}
    reference: str


class ImageTable(Record, frozen=True, kw_only=True):
    """Content of the table that ``tutorloop images build`` writes and compile and run read."""

    schema_version: int = 1
    images: list[Image] = []


def dockerfile(name: str) -> str:
    """Path of an image's Dockerfile below the root."""
    return f"images/{name}/Dockerfile"


def _instructions(name: str) -> list[list[str]]:
    text = (ROOT / dockerfile(name)).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [shlex.split(line) for line in joined.splitlines() if line.strip()]


def arguments(name: str) -> dict[str, str]:
    """The build arguments that change what an image holds, with their defaults."""
    found = (words[1].partition("=") for words in _instructions(name) if words[0] == "ARG")
    return {key: value for key, separator, value in found if separator and key not in _SETTINGS}


def context(name: str) -> list[str]:
    """Files that go into an image, sorted: the Dockerfile and all that it copies or mounts, as paths below the root.

    A stage's ``component.py`` is left out: it never runs in the image, its body is part of the compiled pipeline. So are wheels:
    the lock file names their versions.
    """
    sources = []
    for words in _instructions(name):
        if words[0] == "COPY" and not words[1].startswith("--from"):
            sources += words[1:-1]
        sources += [found[1] for word in words if (found := re.match(r"--mount=type=bind,source=([^,]+)", word))]
    files = {dockerfile(name)}
    for source in sources:
        if source != WHEELHOUSE:
            path = ROOT / source
            found_files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
            files |= {file.relative_to(ROOT).as_posix() for file in found_files if _goes_in(file)}
    return sorted(files)


def _goes_in(path: Path) -> bool:
    """As .dockerignore says."""
    return path.name != "component.py" and "__pycache__" not in path.parts


def version(name: str, given: Mapping[str, str] | None = None) -> str:
    """Hash of what goes into an image: its files and build arguments.

    Args:
        name: Folder under images/.
        given: Build arguments that differ from the defaults.

    Returns:
        12 hex digits.

    Raises:
        ParameterError: The Dockerfile has no such argument.
    """
    known = arguments(name)
    for key, value in (given or {}).items():
        if key not in known:
            raise ParameterError(f"--build-arg {key}", value, f"for the image {name}: " + ", ".join(sorted(known)))
    total = hashlib.sha256(msgspec.json.encode(sorted({**known, **(given or {})}.items())))
    for file in context(name):
        total.update(file.encode() + b"\0" + hashlib.sha256((ROOT / file).read_bytes()).digest())
    return total.hexdigest()[:12]


def read_table(uri: str) -> ImageTable:
    """Read a table.

    Args:
        uri: A local path or ``s3://bucket/key``.

    Raises:
        InputError: Missing or malformed.
    """
    table = _read(uri)
    if table is None:
        raise InputError("there is no table of images", uri, hint="tutorloop images build")
    return table


def _read(uri: str) -> ImageTable | None:
    try:
        with fetched(uri) as path:
            return msgspec.json.decode(path.read_bytes(), type=ImageTable)
    except MissingKeyError:
        return None
    except msgspec.DecodeError as error:
        raise InputError(f"not a table of images: {error}", uri, hint="remove it, then run tutorloop images build") from error


def add_to_table(image: Image, uri: str) -> None:
    """Note an image in a table, which is made when missing; what it has of other images stays."""
    images = {other.name: other for other in (_read(uri) or ImageTable()).images} | {image.name: image}
    table = ImageTable(images=[images[name] for name in sorted(images)])
    put(uri, msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n")


def reference(name: str, table: ImageTable | None) -> str:
    """What a task names to run in an image.

    Args:
        name: Folder under images/.
        table: The images that are built; None where tasks run as processes, and the name only has to follow the contents.

    Raises:
        ParameterError: The table lacks it, or has one that was built from other files than the code has now.
    """
    if table is None:
        return f"{REPOSITORIES[name]}:{version(name)}"
    for image in table.images:
        if image.name == name:
            if (current := version(name, image.arguments)) != image.version:
                command = " ".join(
                    ["tutorloop images build", name, *(f"--build-arg {key}={value}" for key, value in image.arguments.items())]
                )
                allowed = f"a table with {current}, not {image.version}: the image {name} was built from other files; run `{command}`"
                raise ParameterError("--images", name, allowed)
            return image.reference
    raise ParameterError("--images", name, f"a table with this image; run `tutorloop images build {name}`")


def resolve(package: str, table: ImageTable | None = None, *, vllm: bool = False) -> str:
    """Put references to images in the place of the symbolic names of a compiled pipeline.

    Args:
        package: Text of the compiled pipeline.
        table: As in :func:`reference`.
        vllm: Whether sampling or evaluation use the vLLM engine, which has an image of its own.

    Raises:
        ParameterError: An image that the package names is not in the table.
    """
    names = {AGENTS: "agents", TRAINER: "trainer", GENERATOR: "sampler" if vllm else "trainer", SYNC: "sync"}
    for symbolic, name in names.items():
        if symbolic in package:
            package = package.replace(symbolic, reference(name, table))
    return package
