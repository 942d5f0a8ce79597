"""Runs a profile on this machine: one folder a run, shared stores beside them, and a record of what happened."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from components.core import data_folder
from components.core.errors import ParameterError, TutorLoopError
from components.core.ledger import task_records
from components.core.metrics import progress
from components.core.records import write_records
from components.core.redaction import redact
from components.core.store import is_remote
from pipelines.images import table as images
from pipelines.images.table import ImageTable
from pipelines.local import containers
from pipelines.local import events as run_events
from pipelines.local.child import Job
from pipelines.local.containers import DockerError, DockerOptions
from pipelines.local.display import Display
from pipelines.local.remote_home import RemoteHome
from pipelines.packages.compile import package_digest, package_for
from pipelines.parameters import profile as parameters
from pipelines.parameters.profile import RunOptions
from pipelines.parameters.required_files import require_files
from pipelines.runs import record as run_record
from pipelines.runs import summary
from pipelines.runs.record import RunRecord

STORES = ("responses", "checkpoints", "models")
"""What outlives a run: paid answers, work in progress, published models."""
INTERRUPTED = "interrupted"
"""Error of a run that Ctrl-C or SIGTERM has ended."""
INTERRUPT_S = 60.0
"""What an interrupted run has started has so long to bring home the answers that are paid for, and to note what it did."""
DYING_S = 60.0
"""What a run that was killed has started is waited for so long."""


class RunFailedError(TutorLoopError):
    """The run ended with an error; its record and log say which."""


@dataclass(frozen=True)
class Docker:
    """Run tasks as containers rather than as processes.

    Attributes:
        images: The images that are built.
        network: Docker network that reaches teacher, stores and gateway.
        memory: Memory limit of each container (``8g``); empty for none.
    """

    images: ImageTable
    network: str = "bridge"
    memory: str = ""


def require_home(home: str) -> None:
    """Refuse a home that would silently become a folder of an odd name, or the current one.

    Raises:
        ParameterError: It is empty, or an address that is neither of a folder nor of a bucket.
    """
    if not home.strip() or ("://" in home and not is_remote(home) and not home.startswith("file://")):
        raise ParameterError("--home", redact(home), "a folder or s3://bucket/prefix")


def run_profile(
    profile: str,
    options: RunOptions,
    home: str | Path,
    stores: Mapping[str, str] | None = None,
    display: Display | None = None,
    docker: Docker | None = None,
) -> Path:
    """Run a profile to its end and leave ``run.json``, ``report.html`` and ``log.txt`` in a new folder under ``home``.

    Whatever an earlier run has finished with the same parameters is taken from the caches; a task that was killed continues.

    Args:
        profile: Name for the run's id and record.
        options: Checked parameters.
        home: Folder of all runs, or ``s3://bucket/prefix``; ``home/shared`` holds responses, checkpoints, models and artifacts.
        stores: URIs of ``responses``, ``checkpoints`` and ``models``; folders under ``home/shared`` where left out.
        display: Where progress is shown.
        docker: How to run the tasks as containers; None for processes.

    Returns:
        The run's folder on this machine; ``latest`` beside it points at it.

    Raises:
        InputError: A source needs the data folder and none is set.
        ParameterError: The home is no place for runs, or a file of the profile is missing or cannot be read.
        BusyError: Another run is at work in this home in S3.
        RunFailedError: A stage failed; ``run.json`` and ``log.txt`` hold the cause.
    """
    require_home(str(home))
    require_files(options, profile)
    for told in parameters.warnings(options):
        print(f"warning: {told}", file=sys.stderr, flush=True)
    if not is_remote(str(home)):
        return _run_in(
            Path(str(home).removeprefix("file://")).resolve(), profile, options, dict(stores or {}), display or Display(), docker
        )
    remote = RemoteHome(str(home))
    addresses = {name: f"{remote.uri}/shared/{name}" for name in STORES} | dict(stores or {})
    with remote.open():
        return _run_in(remote.folder, profile, options, addresses, display or Display(), docker)


def _run_in(home: Path, profile: str, options: RunOptions, stores: dict[str, str], display: Display, docker: Docker | None) -> Path:
    """Run in a folder of this machine."""
    shared = home / "shared"
    addresses = {name: str(shared / name) for name in STORES}
    # Tasks run in other folders, so that they need the whole path.
    addresses |= {name: uri if is_remote(uri) else str(Path(uri.removeprefix("file://")).resolve()) for name, uri in stores.items()}
    (shared / "artifacts").mkdir(parents=True, exist_ok=True)
    with _only_run_in(home) as work:
        folder = _new_folder(home, profile)
        _point_latest(home, folder)
        package = package_for(options, folder)
        text = images.resolve(package.read_text(), docker.images if docker else None, vllm=parameters.uses_vllm(options))
        (folder / "pipeline.yaml").write_text(text)
        digest = package_digest(package.read_text())
        job = Job(
            package=str(folder / "pipeline.yaml"),
            arguments=parameters.pipeline_arguments(
                options, stores={**addresses, "records": str(home)}, profile=profile, pipeline_digest=digest
            ),
            pipeline_root=str(shared / "artifacts"),
            offline_teacher=options.profile.offline_teacher if parameters.uses_offline_teacher(options) else None,
            answer_key=options.profile.answer_key,
            pipeline=options.cluster.pipeline,
            docker=_docker_options(docker, options, addresses, folder) if docker else None,
            folder=str(folder),
        )
        record = RunRecord(
            id=folder.name,
            profile=profile,
            status=run_record.RUNNING,
            started_at=run_record.now(),
            parameters=options.record(),
            pipeline_digest=digest,
        )
        run_record.write(record, folder)
        status, interrupted = 1, False
        try:
            status = _run_child(job, folder, display, work)
        except KeyboardInterrupt:
            interrupted = True
            raise
        finally:
            told = INTERRUPTED if interrupted else "\n".join(display.error) or f"the run's process ended with status {status}"
            stage = "" if interrupted else display.failed_stage
            record = run_record.finish(
                folder,
                succeeded=status == 0,
                error=told,
                failed_stage=stage,
                metrics=folder / "metrics",
                pipeline=os.environ.get("TUTORLOOP_PIPELINE", job.pipeline),
            )
            if status != 0:
                _report_unfinished(folder, record)
    if status != 0:
        raise RunFailedError(
            f"run {folder.name} failed{' in ' + record.failed_stage if record.failed_stage else ''}: {record.error}",
            f"see {folder / 'log.txt'}; the same command continues where this run stopped. {summary.paid(record.usage)}",
        )
    return folder


def _report_unfinished(folder: Path, record: RunRecord) -> None:
    """Write ledger and report of what a run did that did not come to its end; how it ended matters more than that they can be written."""
    notes = task_records.read_notes(str(folder))
    if not notes:
        return
    try:
        from components.report.stage import run as report

        write_records(folder / "ledger.jsonl", notes)
        where = f" in {record.failed_stage}" if record.failed_stage else ""
        reason = f"It ended{where}: {record.error}"
        report(folder / "ledger.jsonl", None, folder / "report.html", folder / "report.json", record.changed, unfinished=reason)
    except (TutorLoopError, OSError, ImportError) as error:
        print(f"the report of what there is could not be written: {error}", file=sys.stderr, flush=True)


def _docker_options(docker: Docker, options: RunOptions, addresses: Mapping[str, str], folder: Path) -> DockerOptions:
    """What the containers of a run need of this machine.

    Raises:
        ParameterError: An image that the run needs is not in the table.
    """
    local = [address for address in addresses.values() if not is_remote(address)]
    for path in local:
        Path(path).mkdir(parents=True, exist_ok=True)
    tasks = folder.parent / task_records.FOLDER
    tasks.mkdir(parents=True, exist_ok=True)
    certificates = os.environ.get("SSL_CERT_FILE", "")
    named = [options.record(), os.environ.get(data_folder.VARIABLE, ""), certificates]
    return DockerOptions(
        teacher_image=_teacher_image(docker.images) if parameters.uses_offline_teacher(options) else "",
        home=str(folder.parent),
        artifacts=str(folder.parent / "shared" / "artifacts"),
        network=docker.network,
        memory=docker.memory,
        writable=[*local, str(folder), str(tasks)],
        readable=sorted(set(containers.existing_paths(named)) - set(local)),
    )


def _teacher_image(table: ImageTable) -> str:
    return images.reference("offline-teacher", ["components.offline_teacher.__main__"], table)


@contextlib.contextmanager
def _only_run_in(home: Path) -> Iterator[int]:
    """Two runs in one home would train into the same checkpoints: the second is refused.

    Yields:
        Descriptor of a second lock, which the child is to keep: it dies a moment after a command line that is killed.
    """
    with (home / ".lock").open("w") as lock, (home / ".work.lock").open("w") as work:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFailedError(f"another run is active in {home}", "wait for it, stop it, or give another --home") from error
        _wait_for_work(home, work)
        yield work.fileno()


def _wait_for_work(home: Path, work: IO[str]) -> None:
    """Take the lock on the work in a home: nobody commands whoever still has it, so that it is about to end."""
    deadline = time.monotonic() + DYING_S
    waiting = False
    while True:
        try:
            fcntl.flock(work, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                hint = "end the processes whose command line names it, or give another --home"
                raise RunFailedError(f"what a killed run has started is still at work in {home}", hint) from error
        if not waiting:
            waiting = True
            print(f"waiting up to {DYING_S:.0f} s for what a killed run has started in {home} to end", flush=True)
        time.sleep(0.1)


def _new_folder(home: Path, profile: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = Path(profile).stem
    for attempt in range(100):
        folder = home / (f"{stamp}-{name}" if attempt == 0 else f"{stamp}-{name}-{attempt}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise RunFailedError(f"no free name for a run in {home}", "remove old runs")


def _point_latest(home: Path, folder: Path) -> None:
    partial = home / f".latest.{os.getpid()}"
    partial.unlink(missing_ok=True)
    partial.symlink_to(folder.name)
    partial.replace(home / "latest")


def _run_child(job: Job, folder: Path, display: Display, work: int) -> int:
    """Start the child, follow its output into log and display, and end everything it started.

    Args:
        job: What it is to do.
        folder: The run's folder.
        display: Where progress is shown.
        work: Descriptor of the lock that it keeps.

    Returns:
        Its exit status.
    """
    (folder / "job.json").write_bytes(msgspec.json.format(msgspec.json.encode(job), indent=1))
    environment = {
        **os.environ,
        "TUTORLOOP_RUN": folder.name,
        "TUTORLOOP_PIPELINE": os.environ.get("TUTORLOOP_PIPELINE", job.pipeline),
        "TUTORLOOP_METRICS_DIR": str(folder / "metrics"),
        "PYTHONUNBUFFERED": "1",
        progress.MODE_VARIABLE: "json",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Idle OpenMP threads that spin make a busy two-core machine ten times slower.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as events:
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "pipelines.local.child", str(folder / "job.json"), str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(work, writing),
            )
        finally:
            os.close(writing)
        return _follow_child(child, events, job, folder, display)


def _follow_child(child: subprocess.Popen[bytes], events: IO[bytes], job: Job, folder: Path, display: Display) -> int:
    """Follow the child to its end; its exit status."""
    assert child.stdout is not None
    try:
        with display, (folder / "log.txt").open("w") as log, _terminated_like_interrupted():
            try:
                _follow(child.stdout, events, log, display)
            except KeyboardInterrupt:
                _interrupt(child)
                raise
        return child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if job.docker is not None:
            try:
                containers.remove_containers(job.docker.home)
            except DockerError as error:
                # How the run ended matters more; the next run in this home removes them first.
                print(error, file=sys.stderr, flush=True)


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    """Interrupt all processes of a run, and wait a while for them to end; a second interrupt ends the wait.

    Args:
        child: Leader of their process group.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
    deadline = time.monotonic() + INTERRUPT_S
    while time.monotonic() < deadline and _at_work(child.pid):
        time.sleep(0.1)


def _at_work(group: int) -> bool:
    """Whether a process of a group runs; False as well where the system does not tell (no ``/proc``)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        # The fields after the name, which may hold anything: state, parent, group.
        with contextlib.suppress(OSError):
            state, _, own, *_ = path.read_text().rpartition(") ")[2].split()
            if int(own) == group and state not in "ZX":
                return True
    return False


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, so that the record is written."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _follow(output: IO[bytes], events: IO[bytes], log: IO[str], display: Display) -> None:
    """Write what the child prints to the log, and show its events, until it has closed both."""

    def write(line: str) -> None:
        log.write(run_events.plain(line) + "\n")
        log.flush()

    def show(line: str) -> None:
        # A last line without an end is of a child that was killed while it wrote.
        with contextlib.suppress(msgspec.DecodeError):
            display.take(run_events.decode(line.encode()))

    with selectors.DefaultSelector() as ready:
        ready.register(output, selectors.EVENT_READ, _Lines(write))
        ready.register(events, selectors.EVENT_READ, _Lines(show))
        while ready.get_map():
            for key, _ in ready.select():
                chunk = os.read(key.fd, 1 << 16)
                key.data.feed(chunk)
                if not chunk:
                    ready.unregister(key.fileobj)


class _Lines:
    """Cuts chunks of bytes into lines.

    Args:
        take: Takes each line, without its end.
    """

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        self._rest = ""

    def feed(self, chunk: bytes) -> None:
        """Take a chunk; an empty one is the end."""
        *lines, self._rest = (self._rest + self._decoder.decode(chunk, final=not chunk)).split("\n")
        if not chunk and self._rest:
            lines.append(self._rest)
        for line in lines:
            self._take(line)
