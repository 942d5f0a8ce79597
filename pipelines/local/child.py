"""The child process of ``tutorloop run``: runs a compiled package through ``kfp.local``.

A process of its own because ``local.init`` is process-global and kfp.local swaps ``print`` and logging handlers between threads.
It leads a process group that holds everything it starts, and ends that group when the command line dies, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import TutorLoopError
from components.offline_teacher.options import OfflineTeacherOptions
from pipelines.local import containers
from pipelines.local import events as run_events
from pipelines.local.containers import DockerOptions
from pipelines.local.events import Channel, RunFailed, plain
from pipelines.runs.offline_teacher import Start, as_process, offline_teacher


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is asked to do, handed over as a JSON file.

    Attributes:
        package: Compiled pipeline to run.
        arguments: Pipeline arguments.
        pipeline_root: Folder for artifacts and KFP's cache.
        offline_teacher: Options of the offline teacher; None when it is not needed.
        answer_key: Seed sources whose solutions the offline teacher may give.
        pipeline: Name of the pipeline, for the metrics.
        docker: How to run the tasks as containers; None for processes.
        folder: The run's own folder.
    """

    package: str
    arguments: dict[str, Any]
    pipeline_root: str
    offline_teacher: dict[str, Any] | None
    answer_key: list[dict[str, Any]]
    pipeline: str = ""
    docker: DockerOptions | None = None
    folder: str


def _die_with_parent(docker: DockerOptions | None) -> None:
    """End the whole process group, and the containers, when standard input, held by the command line, is closed."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        if docker is not None:
            with contextlib.suppress(Exception):
                containers.remove_containers(docker.home, ending=True)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _start(job: Job) -> Start:
    """How the offline teacher is started: as the tasks are."""
    docker = job.docker
    if docker is None:
        return as_process

    def as_container(options: OfflineTeacherOptions) -> contextlib.AbstractContextManager[str]:
        # Solutions that were collected for this run are among those that it may read.
        readable = sorted({*docker.readable, *containers.existing_paths(options.answer_key)})
        return containers.offline_teacher(msgspec.structs.replace(docker, readable=readable), msgspec.to_builtins(options))

    return as_container


def run_package(job: Job) -> None:
    """Run the package; its tasks leave the results in the run's folder.

    Raises:
        TutorLoopError: The offline teacher or the containers' engine does not start.
        RuntimeError: A task failed.
    """
    if job.docker is not None:
        containers.remove_containers(job.docker.home)
        containers.give_folders(job.docker)
    with offline_teacher(job.offline_teacher, job.answer_key, job.arguments["seed"], Path(job.folder), _start(job)):
        runner = _runner(job)
        warnings.filterwarnings("ignore", module="kfp")
        from kfp import components, local

        local.init(runner, pipeline_root=job.pipeline_root, raise_on_error=True, enable_caching=True)
        components.load_component_from_file(job.package)(**job.arguments)


def _runner(job: Job) -> Any:
    """KFP's runner for the tasks."""
    from kfp import local

    if job.docker is None:
        return local.SubprocessRunner(use_venv=False)
    containers.use()
    return local.DockerRunner(**containers.arguments(job.docker, os.environ))


def main() -> int:
    """Entry of the child: ``python -m pipelines.local.child JOB.json CHANNEL``; the latter is the descriptor for events."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    # An interrupt reaches the tasks as well, which have something to note; kfp.local would only start the next attempt of each.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    channel = Channel(int(sys.argv[2]))
    _die_with_parent(job.docker)
    run_events.watch(channel)
    try:
        run_package(job)
    except TutorLoopError as error:
        channel.send(RunFailed(error=plain(f"error: {error}")))
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except RuntimeError as error:
        channel.send(RunFailed(error=plain(f"pipeline failed: {error}")))
        print(f"pipeline failed: {error}", file=sys.stderr, flush=True)
        return 1
    except Exception as error:
        channel.send(RunFailed(error=plain(f"{type(error).__name__}: {error}")))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
