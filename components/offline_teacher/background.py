"""Starts the offline teacher as a child process and stops it again."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from components.core.errors import TeacherError
from components.offline_teacher.options import Mode, OfflineTeacherOptions

ADDRESS_VARIABLE = "TUTORLOOP_OFFLINE_TEACHER_URL"
"""Environment variable from which a teacher client with the base URL ``offline`` takes the address."""
_ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0
_ANSWER_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True)
class BackgroundTeacher:
    """A running offline teacher.

    Args:
        url: Base URL, ``http://127.0.0.1:<port>/v1``.
        process_id: Its process.
    """

    url: str
    process_id: int

    def stats(self) -> dict[str, Any]:
        """The counts of ``GET /admin/stats``."""
        return self._admin("stats", None)

    def set_faults(self, **values: float) -> dict[str, Any]:
        """Change faults by name (fields of FaultPlan, and ``down_s``); the others stay.

        Returns:
            The plan that holds now.
        """
        return self._admin("faults", msgspec.json.encode(values))

    def set_modes(self, *modes: Mode) -> None:
        """From now on play a server of these modes alone."""
        self._ask("modes", msgspec.json.encode(modes))

    def _admin(self, name: str, body: bytes | None) -> dict[str, Any]:
        return msgspec.json.decode(self._ask(name, body), type=dict[str, Any])

    def _ask(self, name: str, body: bytes | None) -> bytes:
        address = f"{self.url.removesuffix('/v1')}/admin/{name}"
        with urllib.request.urlopen(urllib.request.Request(address, data=body), timeout=_ANSWER_S) as response:
            answer: bytes = response.read()
        return answer


@contextmanager
def start_background(
    options: OfflineTeacherOptions | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[BackgroundTeacher]:
    """Run the offline teacher in a child process for the length of a ``with`` block.

    The child binds the port that the options name (0: one that the system chooses), and ends with its parent even when that is killed.

    Args:
        options: Its options; None for the defaults.
        environment: Variables on top of the process's own.

    Yields:
        The running teacher, which has answered a health check.

    Raises:
        TeacherError: It did not start; carries what it said.
    """
    chosen = options or OfflineTeacherOptions()
    command = [sys.executable, "-m", "components.offline_teacher", "--print-address", "--exit-with-stdin"]
    command += ["--options", msgspec.json.encode(_absolute(chosen)).decode()]
    # A file, not a pipe: nobody reads while the child runs, and a full pipe would stop it.
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            start_new_session=True,
        )
        try:
            yield _wait_until_healthy(process, complaints)
        finally:
            _stop(process)


def _absolute(options: OfflineTeacherOptions) -> OfflineTeacherOptions:
    """The same options with key files that are found from the child's folder too."""
    return msgspec.structs.replace(options, answer_key=tuple(str(Path(path).resolve()) for path in options.answer_key))


def _wait_until_healthy(process: subprocess.Popen[str], complaints: IO[str]) -> BackgroundTeacher:
    assert process.stdout is not None
    # A child that neither speaks nor ends would block the read for ever: the timer ends it.
    timer = threading.Timer(_START_S, process.kill)
    timer.start()
    try:
        url = process.stdout.readline().strip()
    finally:
        timer.cancel()
    if not url:
        process.wait()
        complaints.seek(0)
        said = complaints.read().strip()
        raise TeacherError(f"the offline teacher did not start: {said or 'it said nothing'}", "correct the options that the message names")
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with (
            # A reply that is late is a TimeoutError, which is no URLError.
            suppress(OSError),
            urllib.request.urlopen(f"{url.removesuffix('/v1')}/healthz", timeout=_STOP_S),
        ):
            return BackgroundTeacher(url, process.pid)
        time.sleep(_POLL_S)
    raise TeacherError(f"the offline teacher at {url} does not answer", "look for a firewall between this machine and itself")


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
