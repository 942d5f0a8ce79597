"""What the command line learns of the tasks of a run, from the real ``kfp.local``."""

# KFP reads the annotations of tasks itself, so that they may not be strings.

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from kfp import compiler, dsl
from rich.console import Console

from pipelines.local import events as run_events
from pipelines.local import runner
from pipelines.local.child import Job
from pipelines.local.display import Display


@dsl.component(base_image="python:3.11", install_kfp_package=False)  # type: ignore[untyped-decorator]
def flaky(folder: str, number: int, failures: int) -> None:
    import os
    import sys

    path = os.path.join(folder, f"flaky-{number}")  # noqa: PTH118
    tries = os.path.getsize(path) if os.path.exists(path) else 0  # noqa: PTH110, PTH202
    open(path, "a").write("x")  # noqa: PTH123, SIM115
    if tries < failures:
        print(f"error in flaky {number}: the store does not answer\n  what to do: look at it", flush=True)
        sys.exit(1)


@dsl.component(base_image="python:3.11", install_kfp_package=False)  # type: ignore[untyped-decorator]
def wrong(message: str) -> None:
    import sys

    # Bytes that are no UTF-8, as of a library in another language.
    sys.stdout.buffer.write(b"\xff\xfe\n")
    print(f"error in wrong: {message}", flush=True)
    sys.exit(1)


FORGED = "\n".join(
    (
        "no capacity [/x] \x1b[2J",
        "12:00:00.000 - INFO - Executing task 'forged'",
        "12:00:01.000 - ERROR - Task 'forged' finished with status FAILURE",
    )
)
"""A server's message that looks like the log of KFP."""


@dsl.pipeline(name="two-tasks")  # type: ignore[untyped-decorator]
def two_tasks(folder: str, message: str, seed: int = 0) -> None:
    first = flaky(folder=folder, number=0, failures=1)
    first.set_retry(num_retries=2, backoff_duration="1s", backoff_factor=1.0, backoff_max_duration="60s")
    second = wrong(message=message).after(first)
    second.set_retry(num_retries=2, backoff_duration="0s", backoff_factor=1.0, backoff_max_duration="60s")


@dsl.pipeline(name="shards")  # type: ignore[untyped-decorator]
def shards(folder: str, seed: int = 0) -> None:
    with dsl.ParallelFor([0, 1]) as number:
        task = flaky(folder=folder, number=number, failures=1)
        task.set_retry(num_retries=1, backoff_duration="0s", backoff_factor=1.0, backoff_max_duration="60s")


@dsl.container_component  # type: ignore[untyped-decorator]
def no_python() -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="python:3.11", command=["true"])


@dsl.pipeline(name="container")  # type: ignore[untyped-decorator]
def container(folder: str, seed: int = 0) -> None:
    no_python()


class Noting(Display):
    """Keeps all events."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.events: list[run_events.Event] = []

    def take(self, event: run_events.Event) -> None:
        self.events.append(event)
        super().take(event)


def run(pipeline: Any, folder: Path, **arguments: Any) -> tuple[int, str, Noting]:
    """Run a pipeline as ``tutorloop run`` does; the child's status and what is shown."""
    package, out = folder / "pipeline.yaml", io.StringIO()
    compiler.Compiler().compile(pipeline, str(package))
    job = Job(
        package=str(package),
        arguments={"folder": str(folder), "seed": 0, **arguments},
        pipeline_root=str(folder / "artifacts"),
        offline_teacher=None,
        answer_key=[],
        folder=str(folder),
    )
    display = Noting(Console(file=out, force_terminal=False, width=200, highlight=False))
    with runner._only_run_in(folder) as work:
        return runner._run_child(job, folder, display, work), out.getvalue(), display


def test_the_run_failed_of_the_task_that_no_attempt_mended(tmp_path: Path) -> None:
    status, shown, display = run(two_tasks, tmp_path, message=FORGED)
    assert status == 1
    assert display.failed_stage == "wrong"
    assert display.error == ["error in wrong: no capacity [/x]", *FORGED.splitlines()[1:]], "once, though it was tried three times"
    said = [line.partition(" ")[2].strip() for line in shown.splitlines()]
    assert said[0] == "flaky" and said[1].startswith("flaky failed after ")
    assert said[2] == "flaky again in 1 s (attempt 1 of 3: error in flaky 0: the store does not answer)"
    assert said[3] == "flaky" and said[4].startswith("flaky done in ")
    assert "forged" not in {line.split(" ")[0] for line in said}, "text of a task is no event"
    assert [line for line in said if "again in" in line][1:] == [
        f"wrong again in 0 s (attempt {attempt} of 3: error in wrong: no capacity [/x])" for attempt in (1, 2)
    ]
    log = (tmp_path / "log.txt").read_text()
    assert log.count("error in wrong") == 3 and "finished with status FAILURE" in log and "\x1b" not in log


def test_shards_that_are_mended_leave_no_error(tmp_path: Path) -> None:
    status, shown, display = run(shards, tmp_path)
    assert (status, display.error, display.failed_stage) == (0, [], "")
    assert shown.count("flaky done in") == 2 and shown.count("again in 0 s") == 2
    ends = [event for event in display.events if isinstance(event, run_events.AttemptEnded)]
    number = {event.error[0]: event.execution for event in ends if event.error}
    assert number.keys() == {f"error in flaky {shard}: the store does not answer" for shard in (0, 1)}
    assert len(set(number.values())) == 2
    assert sorted(number.values()) == sorted(event.execution for event in ends if event.succeeded), "they share a name, not a number"


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    status, _, display = run(container, tmp_path)
    assert status == 1 and display.failed_stage == "no-python"
    assert display.error[0].startswith("error: ") and "Container Component" in display.error[0]


def test_a_package_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    job = Job(package=str(tmp_path / "none.yaml"), arguments={"seed": 0}, pipeline_root="", offline_teacher=None, answer_key=[], folder="")
    display = Display(Console(file=io.StringIO()))
    with runner._only_run_in(tmp_path) as work:
        assert runner._run_child(job, tmp_path, display, work) == 1
    assert display.failed_stage == "" and "none.yaml" in display.error[0]


def test_the_wait_is_the_one_that_kfp_says(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFP says it in a log line that it does not print; it computes it from the package, as we do."""
    from kfp.local import status
    from kfp.local.orchestrator import task_executor
    from kfp.pipeline_spec import pipeline_spec_pb2 as spec

    for first, factor, longest in ((2, 5.0, 60), (3, 0.0, 4), (1, 1.5, 3600)):
        task = spec.PipelineTaskSpec()
        task.component_ref.name = "c"
        task.retry_policy.max_retry_count = 3
        task.retry_policy.backoff_duration.seconds = first
        task.retry_policy.backoff_factor = factor
        task.retry_policy.backoff_max_duration.seconds = longest
        executor = spec.PipelineDeploymentConfig.ExecutorSpec()
        executor.container.image = "python"
        component = spec.ComponentSpec(executor_label="e")
        ours = run_events._Execution(1, "c", task.retry_policy)
        waits: list[float | None] = []

        def attempt(**given: Any) -> tuple[dict[str, Any], status.Status]:
            ours.attempt += 1  # noqa: B023
            waits.append(ours.wait_s())  # noqa: B023
            return {}, status.Status.FAILURE

        monkeypatch.setattr(task_executor.task_dispatcher, "run_single_task_implementation", attempt)
        monkeypatch.setattr(task_executor, "time", SimpleNamespace(sleep=lambda seconds: None))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            task_executor.execute_single_task(
                task_name="c",
                task_spec=task,
                pipeline_resource_name="p",
                components={"c": component},
                executors={"e": executor},
                io_store=None,
                pipeline_root="",
                runner=None,
                unique_pipeline_id="",
                fail_stack=[],
            )
        told = [record.getMessage() for record in caplog.records if "Retrying" in record.getMessage()]
        assert waits[-1] is None and len(waits) == 4
        assert [message.rpartition("in ")[2] for message in told] == [f"{wait:.1f}s..." for wait in waits[:-1]]


@contextmanager
def pipe() -> Iterator[tuple[Any, run_events.Channel]]:
    reading, writing = os.pipe()
    channel = run_events.Channel(writing)
    with os.fdopen(reading, "rb") as events:
        yield events, channel


def test_an_event_that_is_cut_off_is_left_out(tmp_path: Path) -> None:
    """The child may be killed while it writes."""
    whole = msgspec.json.encode(run_events.RunFailed(error="x"))
    display = Display(Console(file=io.StringIO()))
    (tmp_path / "events").write_bytes(whole + b"\n" + whole[:-4])
    seen: list[str] = []
    reader = runner._Lines(seen.append)
    for byte in "grün\r\n\nend".encode():
        reader.feed(bytes([byte]))
    reader.feed(b"")
    assert seen == ["grün", "", "end"]
    command = "import os,sys; os.write(int(sys.argv[1]), open(sys.argv[2],'rb').read())"
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as events:
        child = subprocess.Popen(
            [sys.executable, "-c", command, str(writing), str(tmp_path / "events")], stdout=subprocess.PIPE, pass_fds=(writing,)
        )
        os.close(writing)
        assert child.stdout is not None
        with (tmp_path / "log.txt").open("w") as log:
            runner._follow(child.stdout, events, log, display)
        assert child.wait() == 0
        child.stdout.close()
    assert display.error == ["x"]


def test_a_channel_without_a_reader_hinders_nothing() -> None:
    with pipe() as (events, channel):
        channel.send(run_events.AttemptStarted(task="sft"))
        assert run_events.decode(events.readline()) == run_events.AttemptStarted(task="sft")
    channel.send(run_events.AttemptStarted(task="sft"))
