"""What happens to the tasks of a run on this machine, told by the child process to the command line over a pipe of its own.

The child runs ``kfp.local`` in its own process, so that starts, attempts and ends of tasks are facts there. Its log is written by
tasks, servers and libraries as well: a server's message may hold any line that KFP prints. So nothing is read from the log.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from components.core.metrics.progress import PREFIX, ProgressEvent

_CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ERROR = re.compile(r"error(:| in )")
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
_DECODER = json.JSONDecoder()
MAX_ERROR_LINES = 100
"""Lines that are kept of a task's error; the log has all of them."""


class AttemptStarted(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """A task, or a further attempt of it, starts.

    Attributes:
        task: KFP name of the task.
    """

    task: str


class Advanced(msgspec.Struct, frozen=True, kw_only=True, tag="advanced"):
    """A task says how far it is.

    Attributes:
        progress: What it says.
    """

    progress: ProgressEvent


class AttemptEnded(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """An attempt of a task has ended.

    Attributes:
        execution: Number of the task in the run; its attempts share it, while shards of one task share only the name.
        task: KFP name of the task.
        attempt: Which attempt this was, from 1.
        attempts: How many there are at most.
        succeeded: Whether it ended well.
        seconds: How long it took.
        error: Lines of the error that it ended with; empty when it printed none.
        wait_s: Seconds until the next attempt starts; None when there is none.
    """

    execution: int
    task: str
    attempt: int
    attempts: int
    succeeded: bool
    seconds: float
    error: list[str] = []
    wait_s: float | None = None


class RunFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The run has ended with an error.

    Attributes:
        error: What it says.
    """

    error: str


Event = AttemptStarted | Advanced | AttemptEnded | RunFailed
_EVENTS: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode(line: bytes) -> Event:
    """The event of one line of the channel.

    Raises:
        msgspec.DecodeError: The line is not an event.
    """
    return _EVENTS.decode(line)


def plain(text: str) -> str:
    """The text without colours, commands to the terminal and other control characters; line ends and tabs stay."""
    return _CONTROLS.sub("", text)


class Channel:
    """Writes events, one JSON line each.

    Args:
        descriptor: Writing end of the pipe; it is closed to the processes that this one starts.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._pipe = os.fdopen(descriptor, "wb", buffering=0)
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Write an event; without effect when the command line is gone, which ends this process in any case."""
        rest = memoryview(msgspec.json.encode(event) + b"\n")
        with self._lock, contextlib.suppress(BrokenPipeError):
            while rest:
                rest = rest[self._pipe.write(rest) :]


class AttemptOutput:
    """Finds progress and the error in what one attempt of a task prints."""

    def __init__(self) -> None:
        self.error: list[str] = []
        self._in_error = False
        self._in_traceback = False

    def take(self, raw: str) -> list[ProgressEvent]:
        """Take one line, or several in one: threads and processes that share an output may lose a line's end.

        Args:
            raw: As it was printed.

        Returns:
            The progress in it.
        """
        text, *events = plain(raw).split(PREFIX)
        self._text(text.strip())
        found = []
        for event in events:
            try:
                fields, end = _DECODER.raw_decode(event)
                found.append(msgspec.convert(fields, ProgressEvent))
            except (json.JSONDecodeError, RecursionError, msgspec.ValidationError):
                # Torn apart by another's line; the next one tells more.
                continue
            self._text(event[end:].strip())
        return found

    def _text(self, text: str) -> None:
        if _ERROR.match(text) or text.startswith("Traceback "):
            self._in_error, self._in_traceback = True, text.startswith("Traceback ")
            if not self._in_traceback:
                self._keep(text)
        elif self._in_error and text and not self._in_traceback:
            self._keep(text)
        elif self._in_error and _EXCEPTION.match(text):
            # Of a traceback the last line says what went wrong; the log has the rest.
            self._keep(text)
            self._in_error = False

    def _keep(self, text: str) -> None:
        self.error = [*self.error, text][-MAX_ERROR_LINES:]


class _Execution:
    """A task of the run, with all its attempts.

    Args:
        number: Number of the task in the run.
        name: KFP name of the task.
        policy: KFP's retry policy of the task.
    """

    def __init__(self, number: int, name: str, policy: Any) -> None:
        self.number, self.name = number, name
        self.attempts = max(policy.max_retry_count, 0) + 1
        self.attempt = 0
        self._policy = policy

    def wait_s(self) -> float | None:
        """Seconds that KFP waits after the present attempt fails (``task_executor.execute_single_task``); None when it was the last."""
        if self.attempt >= self.attempts:
            return None
        policy = self._policy
        first = policy.backoff_duration.seconds if policy.HasField("backoff_duration") else 0
        factor = policy.backoff_factor if policy.backoff_factor > 0 else 2.0
        longest = policy.backoff_max_duration.seconds if policy.HasField("backoff_max_duration") else 3600
        return float(min(first * factor ** (self.attempt - 1), longest))


_channel: Channel | None = None
_numbers = itertools.count(1)
_execution: ContextVar[_Execution] = ContextVar("execution")
_output: ContextVar[AttemptOutput] = ContextVar("output")


def task_line(line: str) -> None:
    """Take a line that the task of this thread has printed; without effect outside a watched task."""
    output = _output.get(None)
    if output is None or _channel is None:
        return
    for progress in output.take(line):
        _channel.send(Advanced(progress=progress))


def watch(channel: Channel) -> None:
    """Let kfp.local tell the channel what happens to its tasks: three of its functions are wrapped for the rest of this process.

    Args:
        channel: Where events go.
    """
    global _channel
    from kfp.local import executor_input_utils, status, subprocess_task_handler, task_dispatcher
    from kfp.local.orchestrator import task_executor

    _channel = channel
    execute, attempt = task_executor.execute_single_task, task_dispatcher.run_single_task_implementation

    def execute_single_task(**given: Any) -> Any:
        spec = given["task_spec"]
        name = executor_input_utils.get_local_task_resource_name(spec.component_ref.name)
        with _set(_execution, _Execution(next(_numbers), name, spec.retry_policy)):
            return execute(**given)

    def run_single_task_implementation(**given: Any) -> Any:
        task, output, started = _execution.get(), AttemptOutput(), time.monotonic()
        task.attempt += 1
        channel.send(AttemptStarted(task=task.name))

        def ended(succeeded: bool, error: Sequence[str], wait_s: float | None) -> None:
            seconds = round(time.monotonic() - started, 3)
            channel.send(
                AttemptEnded(
                    execution=task.number,
                    task=task.name,
                    attempt=task.attempt,
                    attempts=task.attempts,
                    succeeded=succeeded,
                    seconds=seconds,
                    error=list(error),
                    wait_s=wait_s,
                )
            )

        try:
            with _set(_output, output):
                outputs, found = attempt(**given)
        except Exception as error:
            # KFP does not try again what it could not start.
            ended(False, [*output.error, *plain(f"error: {error}").splitlines()], None)
            raise
        if found == status.Status.SUCCESS:
            ended(True, (), None)
        else:
            ended(False, output.error, task.wait_s())
        return outputs, found

    task_executor.execute_single_task = execute_single_task
    task_dispatcher.run_single_task_implementation = run_single_task_implementation
    subprocess_task_handler.run_local_subprocess = run_process


@contextlib.contextmanager
def _set(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def run_process(full_command: Sequence[str], env_vars: Mapping[str, str] | None = None) -> int:
    """Run a task's process, print what it prints, and look for its progress and error.

    Args:
        full_command: Program and arguments.
        env_vars: Variables on top of this process's own.

    Returns:
        Exit status.
    """
    with subprocess.Popen(
        list(full_command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(env_vars or {})},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            task_line(line)
        return process.wait()
