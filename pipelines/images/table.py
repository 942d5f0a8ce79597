"""The images: what goes into each, which of them a stage names, and the table of those that are built.

KFP's cache keys on the image string, locally and on a cluster. An image holds the code of many stages, and changes with any of them. So a
stage names not the newest image but the first one in the table that was built from the same files as far as the stage needs them: those of
its import closure, and what the image's environment is made of. It goes on naming that one until one of them changes, and the cache is
right without a stage running again for a change of another.

A Dockerfile is the only list of what goes in: the files that it copies or mounts are the build's context and the input of the hashes.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from components.core.errors import InputError, ParameterError
from components.core.images import AGENTS, GENERATOR, SYNC, TRAINER
from components.core.records import Record
from components.core.store import MissingKeyError, fetched, put
from pipelines.images.closure import closure, imported_modules
from pipelines.images.package_text import read_package, written_package

ROOT = Path(__file__).resolve().parents[2]

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

KEPT_BUILDS = 50
"""Images of one name that a table remembers."""

_SETTINGS = ("VERSION",)
"""Build arguments with a default that follow from the contents."""
_CODE = ("components/", "pipelines/")
_WARM = "images/warm.py"
"""Only compiles what a build has copied."""


class Image(Record, frozen=True, kw_only=True):
    """An image that was built.

    Attributes:
        name: Folder under images/.
        version: Hash of what went in.
        arguments: Build arguments that differ from the Dockerfile's defaults.
        reference: What a task names: repository and version, or repository and digest once pushed.
        environment: Hash of all that is no code of this repository: :func:`environment`.
        files: Path to hash of the code.
    """

    name: str
    version: str
    arguments: dict[str, str] = {}
    reference: str
    environment: str
    files: dict[str, str]


class ImageTable(Record, frozen=True, kw_only=True):
    """Content of the table that ``tutorloop images build`` writes and compile and run read: the images in the order of their builds."""

    schema_version: int = 2
    images: list[Image] = []
    latest: dict[str, str] = {}
    """Name to version of what was built last, which may have been built before."""

    @property
    def newest(self) -> dict[str, Image]:
        """What was built last, by name."""
        return {image.name: image for image in self.images if self.latest.get(image.name) == image.version}

    def with_image(self, image: Image) -> ImageTable:
        """The table with a further image, or one that was built again and may have another reference."""
        known, latest = list(self.images), {**self.latest, image.name: image.version}
        place = next((index for index, other in enumerate(known) if _same(other, image)), len(known))
        known[place : place + 1] = [image]
        kept = [other for other in known if other.name == image.name][-KEPT_BUILDS:]
        return ImageTable(images=[other for other in known if other.name != image.name or other in kept], latest=latest)


def _same(one: Image, other: Image) -> bool:
    return (one.name, one.version, one.arguments) == (other.name, other.version, other.arguments)


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


def environment(name: str, given: Mapping[str, str] | None = None) -> str:
    """Hash of what is in an image besides the code of this repository: locks, build arguments, and the Dockerfile's instructions but for
    its labels and the code that it copies.

    Args:
        name: Folder under images/.
        given: Build arguments that differ from the defaults.
    """
    steps = [words for words in _instructions(name) if words[0] != "LABEL" and not any(_WARM in word for word in words)]
    steps = [words for words in steps if not (words[0] == "COPY" and words[1].startswith(_CODE))]
    total = hashlib.sha256(msgspec.json.encode([sorted({**arguments(name), **(given or {})}.items()), steps]))
    for file in context(name):
        if not file.startswith(_CODE) and file not in (_WARM, dockerfile(name)):
            total.update(file.encode() + b"\0" + _hash(file).encode())
    return total.hexdigest()[:12]


def described(name: str, reference: str, given: Mapping[str, str] | None = None) -> Image:
    """An image that was built from the files as they are.

    Args:
        name: Folder under images/.
        reference: What a task names.
        given: Build arguments that differ from the defaults.

    Raises:
        ParameterError: The Dockerfile has no such argument.
    """
    return Image(
        name=name,
        version=version(name, given),
        arguments=dict(given or {}),
        reference=reference,
        environment=environment(name, given),
        files={file: _hash(file) for file in context(name) if file.startswith(_CODE)},
    )


def _hash(file: str) -> str:
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()[:16]


def table_of(images: Iterable[Image]) -> ImageTable:
    """A table of images that were built one after the other."""
    table = ImageTable()
    for image in images:
        table = table.with_image(image)
    return table


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


def add_to_table(image: Image, uri: str, there: Callable[[str], bool] = lambda reference: True) -> None:
    """Note an image in a table, which is made when missing. The images that were built before stay, so that stages go on naming them.

    Args:
        image: That was built.
        uri: Address of the table.
        there: Whether an image of a reference can still be had; those that cannot are forgotten.
    """
    known = _read(uri) or ImageTable()
    known = msgspec.structs.replace(known, images=[other for other in known.images if there(other.reference)])
    put(uri, msgspec.json.format(msgspec.json.encode(known.with_image(image)), indent=1) + b"\n")


def reference(name: str, modules: Collection[str], table: ImageTable | None) -> str:
    """What names an image in which some modules run.

    Args:
        name: Folder under images/.
        modules: That run in it.
        table: The images that are built; None where tasks run as processes, and the name only has to follow the contents.

    Raises:
        ParameterError: No image of the table was built from the files that the modules need, as they are now.
    """
    needed = {file: _hash(file) for file in closure(modules, ROOT)}
    if table is None:
        total = hashlib.sha256(msgspec.json.encode([environment(name), *sorted(needed.items())]))
        return f"{REPOSITORIES[name]}:{total.hexdigest()[:12]}"
    newest = table.newest.get(name)
    if newest is None:
        raise ParameterError("--images", name, f"a table with this image; run `tutorloop images build {name}`")
    current = environment(name, newest.arguments)
    for image in table.images:
        # One that was built with other arguments computes otherwise.
        if image.name == name and image.environment == current and needed.items() <= image.files.items():
            return image.reference
    command = " ".join(["tutorloop images build", name, *(f"--build-arg {key}={value}" for key, value in newest.arguments.items())])
    raise ParameterError("--images", name, f"a table whose image {name} was built from the files as they are now; run `{command}`")


def resolve(package: str, table: ImageTable | None = None, *, vllm: bool = False) -> str:
    """Put references to images in the place of the symbolic names of a compiled pipeline.

    Args:
        package: Text of the compiled pipeline.
        table: As in :func:`reference`.
        vllm: Whether stages that generate use the vLLM engine, which has an image of its own.

    Raises:
        ParameterError: No image of the table has what a stage needs.
    """
    names = {AGENTS: "agents", TRAINER: "trainer", GENERATOR: "sampler" if vllm else "trainer", SYNC: "sync"}
    header, (spec, *platform) = read_package(package)
    known: dict[tuple[str, frozenset[str]], str] = {}
    for executor in spec["deploymentSpec"]["executors"].values():
        container = executor["container"]
        key = (names[container["image"]], frozenset(imported_modules(container["command"][-1])))
        if key not in known:
            known[key] = reference(*key, table)
        container["image"] = known[key]
    return written_package(header, [spec, *platform])


def images_of(package: str) -> set[str]:
    """The images that a package names.

    Args:
        package: Its text.
    """
    _, (spec, *_rest) = read_package(package)
    return {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
