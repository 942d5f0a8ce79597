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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import TutorLoopError
from components.core.options import parse_options
from components.core.stage import StageRun
from pipelines.local import containers
from pipelines.local import events as run_events
from pipelines.local.containers import DockerOptions
from pipelines.local.events import Channel, RunFailed, plain


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


@contextlib.contextmanager
def offline_teacher(
    options: dict[str, Any] | None, answer_key: list[dict[str, Any]], seed: int, folder: Path, docker: DockerOptions | None = None
) -> Iterator[None]:
    """Run the offline teacher for a while, and tell the tasks its address.

    Args:
        options: Its options; None when it is not needed.
        answer_key: Seed sources whose solutions it may give.
        seed: Of the run, for these sources.
        folder: Where these solutions are written.
        docker: How to run it as a container; None for a process.
    """
    if options is None:
        yield
        return
    from components.offline_teacher.background import ADDRESS_VARIABLE, start_background
    from components.offline_teacher.options import OfflineTeacherOptions

    chosen = parse_options(OfflineTeacherOptions, options, "offline_teacher")
    if answer_key:
        key = str(_write_answer_key(answer_key, seed, folder))
        chosen = msgspec.structs.replace(chosen, answer_key=(*chosen.answer_key, key))
        docker = docker and msgspec.structs.replace(docker, readable=[*docker.readable, key])
    with contextlib.ExitStack() as stack:
        if docker is None:
            address = stack.enter_context(start_background(chosen)).url
        else:
            address = stack.enter_context(containers.offline_teacher(docker, msgspec.to_builtins(chosen)))
        os.environ[ADDRESS_VARIABLE] = address
        yield


def _write_answer_key(answer_key: list[dict[str, Any]], seed: int, folder: Path) -> Path:
    """Collect the worked solutions that the offline teacher may give."""
    from components.seeds.options import SeedsOptions
    from components.seeds.stage import collect_seeds

    path = folder / "answer_key.jsonl"
    sources = parse_options(SeedsOptions, {"sources": answer_key}, "answer_key")
    collect_seeds(path, sources, seed, StageRun("answer_key"))
    return path


def run_package(job: Job) -> None:
    """Run the package; its tasks leave the results in the run's folder.

    Raises:
        TutorLoopError: The offline teacher or the containers' engine does not start.
        RuntimeError: A task failed.
    """
    if job.docker is not None:
        containers.remove_containers(job.docker.home)
        containers.give_folders(job.docker)
    with offline_teacher(job.offline_teacher, job.answer_key, job.arguments["seed"], Path(job.folder), job.docker):
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
