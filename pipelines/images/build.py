"""Builds and pushes the images with the ``docker`` command."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from components.core.errors import TutorLoopError
from pipelines.images import table as images
from pipelines.images.table import REPOSITORIES, ROOT, WHEELHOUSE, Image

PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
"""Environment variables that a build takes along; they say where packages come from, not which."""


class BuildError(TutorLoopError):
    """An image could not be built or pushed."""


def build(
    name: str,
    *,
    arguments: Mapping[str, str] | None = None,
    registry: str = "",
    wheelhouse: Path | None = None,
    certificate: Path | None = None,
    again: bool = False,
) -> Image:
    """Build an image from exactly the files that its version is the hash of; nothing is done when it is there already,
    on this machine or in the registry.

    Args:
        name: Folder under images/.
        arguments: Build arguments that differ from the Dockerfile's defaults.
        registry: Prefix of the repository, such as ``ghcr.io/acme``; none for an image that stays on this machine.
        wheelhouse: Folder of wheels that the index does not have; the repository's own when None.
        certificate: PEM file that package downloads are checked with; reaches the build as a secret and stays out of the image.
        again: Build even if an image of this version is there.

    Returns:
        The image, referred to by its version.

    Raises:
        BuildError: docker is missing or the build failed.
        ParameterError: A build argument does not exist.
    """
    changed = dict(arguments or {})
    current = images.version(name, changed)
    repository = f"{registry.rstrip('/')}/{REPOSITORIES[name]}" if registry else REPOSITORIES[name]
    image = images.described(name, f"{repository}:{current}", changed)
    # One that the registry has is taken from there: a second build would have another digest, and every stage would run again.
    if not again and (present(image.reference) or (registry and _succeeds("docker", "pull", "--quiet", image.reference))):
        return image
    command = ["docker", "build", "--file", images.dockerfile(name), "--tag", image.reference, "--build-arg", f"VERSION={current}"]
    for key, value in changed.items():
        command += ["--build-arg", f"{key}={value}"]
    for key in PASSED_ON:
        if os.environ.get(key):
            command += ["--build-arg", key]
    if certificate is not None:
        command += ["--secret", f"id=ca,src={certificate.resolve()}"]
    with tempfile.TemporaryDirectory(prefix="tutorloop-build-") as folder:
        _stage(name, Path(folder), wheelhouse)
        _docker([*command, "."], f"the image {name} could not be built", cwd=Path(folder))
    return image


def push(image: Image) -> Image:
    """Push an image; from then on it is referred to by its digest.

    Raises:
        BuildError: The registry refuses it or cannot be reached.
    """
    _docker(["docker", "push", "--quiet", image.reference], f"{image.reference} could not be pushed; log in with `docker login` first?")
    repository = image.reference.rpartition(":")[0]
    listed = _docker(
        ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image.reference], "docker does not know the digest"
    )
    digests = [digest for digest in msgspec.json.decode(listed, type=list[str]) if digest.startswith(f"{repository}@")]
    if not digests:
        raise BuildError(f"{image.reference} was pushed, and docker knows no digest of it", "push it again")
    return msgspec.structs.replace(image, reference=digests[-1])


def present(reference: str) -> bool:
    """Whether docker has an image on this machine."""
    return _succeeds("docker", "image", "inspect", reference)


def there(reference: str) -> bool:
    """Whether an image can be had: a registry has it, or docker."""
    return "@" in reference or present(reference)


def _succeeds(*command: str) -> bool:
    """Whether a command works; one that is not installed does not."""
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _stage(name: str, folder: Path, wheelhouse: Path | None) -> None:
    """Copy what goes into an image, and the wheels, into an empty folder."""
    for file in images.context(name):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, folder / file)
    (folder / WHEELHOUSE).mkdir(parents=True)
    for wheel in (wheelhouse or ROOT / WHEELHOUSE).glob("*.whl"):
        # A link where that is possible: torch alone has hundreds of megabytes.
        try:
            os.link(wheel.resolve(), folder / WHEELHOUSE / wheel.name)
        except OSError:
            shutil.copy2(wheel, folder / WHEELHOUSE / wheel.name)


def _docker(command: Sequence[str], complaint: str, cwd: Path | None = None) -> str:
    """Run docker; what it says about its progress is shown as it comes.

    Returns:
        Its standard output.
    """
    try:
        done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    except FileNotFoundError as error:
        raise BuildError("there is no docker command", "install Docker (20.10 or newer, with BuildKit)") from error
    if done.returncode:
        raise BuildError(complaint, "see what docker said above")
    return done.stdout
