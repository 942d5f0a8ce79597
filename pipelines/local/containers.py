"""Runs the tasks of a pipeline as containers of this machine's Docker, closed in as a cluster would: read-only, without rights.

``kfp.local``'s own way to start a container loses two things that matter: the status of a container that ends quickly (it then counts
as a success) and the reason why one was killed. :func:`use` puts :func:`run_container` in its place.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import TutorLoopError
from components.core.store import is_remote
from pipelines.local import events as run_events

LABEL = "tutorloop.home"
"""Label of every container that a run starts; its value is the home of the run."""

IMAGE_USER = 65532
"""The user of our images (their Dockerfiles)."""

PASSED_ON = re.compile(
    r"TUTORLOOP_.*|AWS_(ENDPOINT_URL|ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|REGION)|SSL_CERT_FILE|OPENAI_API_KEY"
    r"|HF_(TOKEN|ENDPOINT|HUB_OFFLINE)|OMP_NUM_THREADS|(?:https?|no)_proxy|(?:HTTPS?|NO)_PROXY"
)
"""Environment variables of the command line that tasks see as well. The file of SSL_CERT_FILE is mounted."""

_ending = threading.Event()
"""Set when no container may be started any more."""
TEACHER_PORT = 8000
_START_S = 60.0

MEMORY_SETTINGS = {
    "sft": "sft.batch_size or sft.max_length",
    "tune": "preference_tuning.batch_size or preference_tuning.max_length",
    "sample": "sampling.batch_size",
    "evaluate": "evaluation.batch_size",
    "base_model": "student.tiny.batch_size, or take a smaller student.base_model",
}
"""KFP function to the parameters that make it need less memory."""


class DockerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the containers of a run are started.

    Attributes:
        teacher_image: Reference of the offline teacher's image; empty when the run has no use for it.
        home: Value of :data:`LABEL`.
        artifacts: Folder of the tasks' outputs, which KFP mounts.
        network: Docker network that the tasks are on; it has to reach teacher, stores and gateway, and need not reach more.
        memory: Memory limit of each container, as Docker writes it (``8g``); empty for none.
        writable: Folders that the tasks may write to.
        readable: Files and folders that they may read.
    """

    teacher_image: str
    home: str
    artifacts: str
    network: str = "bridge"
    memory: str = ""
    writable: list[str] = []
    readable: list[str] = []


class DockerError(TutorLoopError):
    """Docker is not there, or does not do what it is asked."""


def connect() -> Any:
    """A client of this machine's Docker.

    Raises:
        DockerError: The package or the engine is missing.
    """
    try:
        import docker
    except ImportError as error:
        raise DockerError("the package docker is not installed", "pip install docker, or use --runner process") from error
    try:
        return docker.from_env(timeout=120)
    except docker.errors.DockerException as error:
        raise DockerError(f"Docker does not answer: {error}", "start it, or let DOCKER_HOST name it, or use --runner process") from error


def arguments(options: DockerOptions, environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that every container of a run is started with (docker-py's ``containers.run``).

    Args:
        options: Options of the run.
        environment: Variables of the command line, of which :data:`PASSED_ON` are handed on.
    """
    from docker.types import Mount

    # The only place that a task may write to besides its outputs.
    mounts = [Mount("/tmp", None, type="volume")]  # noqa: S108
    mounts += [Mount(path, path, type="bind") for path in options.writable]
    mounts += [Mount(path, path, type="bind", read_only=True) for path in options.readable]
    given: dict[str, Any] = {
        "environment": {name: value for name, value in environment.items() if PASSED_ON.fullmatch(name)},
        "network": options.network,
        "labels": {LABEL: options.home},
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "shm_size": "1g",
        "mounts": mounts,
    }
    if options.memory:
        # Equal limits mean no swap: a task over its limit ends at once, instead of crawling.
        given |= {"mem_limit": options.memory, "memswap_limit": options.memory}
    if os.getuid() != 0:
        given["user"] = f"{os.getuid()}:{os.getgid()}"
    return given


def give_folders(options: DockerOptions) -> None:
    """Let the user of the images write where tasks write: needed where the command line runs as root, as in CI.

    Only below the run's home: what lies elsewhere has an owner who should be asked.
    """
    if os.getuid() != 0:
        return
    for folder in (options.artifacts, *options.writable):
        if Path(folder).is_relative_to(options.home):
            for path in (Path(folder), *Path(folder).rglob("*")):
                with contextlib.suppress(FileNotFoundError):
                    if path.lstat().st_uid != IMAGE_USER:
                        os.lchown(path, IMAGE_USER, IMAGE_USER)


def remove_containers(home: str, ending: bool = False) -> None:
    """Remove what an earlier run of this home left behind; a task that went on would train into the same checkpoints.

    Args:
        home: Value of :data:`LABEL`.
        ending: Whether this process ends: none is started any more.

    Raises:
        DockerError: Docker does not remove one.
    """
    import docker

    if ending:
        _ending.set()
    client = connect()
    while found := client.containers.list(all=True, filters={"label": f"{LABEL}={home}"}, ignore_removed=True):
        for container in found:
            try:
                container.remove(force=True, v=True)
            except docker.errors.APIError as error:
                # Gone, or being removed already.
                if error.status_code not in (404, 409):
                    raise DockerError(f"a container of {home} cannot be removed: {error.explanation}", "docker rm --force") from error
        time.sleep(0.1)


def use() -> None:
    """Let kfp.local start its containers with :func:`run_container`."""
    from kfp.local import docker_task_handler

    docker_task_handler.run_docker_container = run_container


def run_container(client: Any, image: str, command: Sequence[str], volumes: Mapping[str, Any], **given: Any) -> int:
    """Run one task, show what it prints, and say so when it was killed for want of memory.

    Args:
        client: Client of docker-py.
        image: Reference.
        command: Program and arguments.
        volumes: Folders that KFP mounts.
        given: :func:`arguments`.

    Returns:
        Exit status.

    Raises:
        DockerError: The image is neither here nor can it be pulled.
    """
    container = _start(client, image, command, volumes=dict(volumes), **given)
    try:
        for line in whole_lines(container.logs(stream=True, follow=True)):
            print(line, end="", flush=True)
            run_events.task_line(line)
        status = int(container.wait()["StatusCode"])
        container.reload()
        if status and container.attrs["State"]["OOMKilled"]:
            _say_error(command, str(out_of_memory(_task(command), str(given.get("mem_limit") or "that of the machine"))))
        elif status == 137:
            _say_error(command, "the container was killed (SIGKILL)")
        return status
    finally:
        container.remove(force=True, v=True)


def _say_error(command: Sequence[str], error: str) -> None:
    """Print the error of a container that could not say it itself."""
    for line in f"error in {_task(command)}: {error}".splitlines():
        print(line, file=sys.stderr, flush=True)
        run_events.task_line(line)


def whole_lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Whole lines; Docker cuts its stream wherever it likes."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") + "\n" for line in lines)
    if rest:
        yield rest.decode(errors="replace") + "\n"


@contextlib.contextmanager
def offline_teacher(options: DockerOptions, settings: Mapping[str, Any]) -> Iterator[str]:
    """Run the offline teacher in its container for the time of a run.

    Args:
        options: Options of the run.
        settings: Options of the offline teacher.

    Yields:
        Its base URL on the run's network.

    Raises:
        DockerError: It did not start.
    """
    keys = [str(Path(key).resolve()) if not is_remote(key) else key for key in settings.get("answer_key", ())]
    values = {**settings, "host": "0.0.0.0", "port": TEACHER_PORT, "answer_key": keys}  # noqa: S104
    command = ["--options", msgspec.json.encode(values).decode()]
    container = _start(connect(), options.teacher_image, command, **arguments(options, os.environ))
    try:
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        address = f"http://{networks[options.network]['IPAddress']}:{TEACHER_PORT}"
        _wait_until_healthy(container, address)
        yield f"{address}/v1"
    finally:
        container.remove(force=True, v=True)


def _wait_until_healthy(container: Any, address: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        container.reload()
        if container.status == "exited":
            break
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{address}/healthz", timeout=5):
            return
        time.sleep(0.1)
    raise DockerError(f"the offline teacher's container did not start: {container.logs().decode(errors='replace').strip()}")


def _start(client: Any, image: str, command: Sequence[str], **given: Any) -> Any:
    import docker

    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        print(f"pulling the image {image}", flush=True)
        try:
            client.images.pull(image)
        except docker.errors.APIError as error:
            hint = "build it (tutorloop images build), or log in to its registry"
            raise DockerError(f"the image {image} is not here and cannot be pulled: {error.explanation}", hint) from error
    if _ending.is_set():
        raise DockerError("the run is ending", "run it again")
    container = None
    try:
        container = client.containers.create(image, list(command), **given)
        container.start()
    except docker.errors.APIError as error:
        if container is not None:
            container.remove(force=True, v=True)
        raise DockerError(f"a container of {image} does not start: {error.explanation}", "check --network and --memory") from error
    return container


def _task(command: Sequence[str]) -> str:
    """KFP's name of the function in a task's command."""
    words = list(command)
    return words[words.index("--function_to_execute") + 1] if "--function_to_execute" in words else words[0]


def out_of_memory(function: str, limit: str) -> DockerError:
    """The error of a container that was killed for want of memory.

    Args:
        function: KFP's name of the function that ran in it.
        limit: Its limit, as Docker writes it.
    """
    smaller = next((settings for name, settings in MEMORY_SETTINGS.items() if function.startswith(name)), "")
    hint = "give the containers more with --memory" + (f", or lower {smaller}" if smaller else "")
    return DockerError(f"out of memory: the container went over its limit ({limit}) and was killed", hint)


def existing_paths(value: Any) -> list[str]:
    """Absolute paths of this machine in a profile's values, at any depth: what tasks need to see in their containers."""
    if isinstance(value, Mapping):
        return [path for item in value.values() for path in existing_paths(item)]
    if isinstance(value, list | tuple):
        return [path for item in value for path in existing_paths(item)]
    path = re.sub(r"^(file://|gguf:)", "", value) if isinstance(value, str) else ""
    return [path] if path.startswith("/") and Path(path).exists() else []
