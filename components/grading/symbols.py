"""Symbolic equality under a hard time limit: SymPy runs in a worker process that is killed when it takes too long."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

START_LIMIT_S = 120.0
"""Time for the worker to import SymPy and Math-Verify on a busy machine; not part of any check's limit."""
MAX_LENGTH = 600
"""Longer expressions are left undecided; characters."""


class SymbolWorker:
    """One worker process, started by the first check that needs it, shared by all threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self.starts = 0
        """How often a process was started."""

    def equal(self, left: str, right: str, time_limit_s: float) -> bool | None:
        """Whether two expressions are equal; None when undecided within the limit.

        Args:
            left: LaTeX or plain expression, without delimiters.
            right: The same.
            time_limit_s: Seconds for this check; the worker is killed when it takes longer.
        """
        if max(len(left), len(right)) > MAX_LENGTH:
            return None
        with self._lock:
            process = self._ready()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps([left, right]).encode() + b"\n")
                process.stdin.flush()
            except OSError:
                self.stop()
                return None
            line = self._line(process, time_limit_s)
            if line is None:
                self.stop()
                return None
        verdict = json.loads(line)
        return verdict if isinstance(verdict, bool) else None

    def stop(self) -> None:
        """Kill the worker; the next check starts a new one."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self.stop()
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        process = subprocess.Popen(
            [sys.executable, "-m", "components.grading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self._process, self._owner = process, os.getpid()
        self.starts += 1
        if self._line(process, START_LIMIT_S) is None:
            self.stop()
            raise RuntimeError("the process that compares expressions (components.grading.worker) did not start; its error is above")
        return process

    @staticmethod
    def _line(process: subprocess.Popen[bytes], limit_s: float) -> bytes | None:
        """The next line of the worker; None when it takes too long or the worker has died."""
        assert process.stdout is not None
        handle, deadline, received = process.stdout.fileno(), time.monotonic() + limit_s, b""
        poll = select.poll()
        poll.register(handle, select.POLLIN | select.POLLHUP)
        while not received.endswith(b"\n"):
            ready = poll.poll(max(0.0, 1000 * (deadline - time.monotonic())))
            chunk = os.read(handle, 65536) if ready else b""
            if not chunk:
                return None
            received += chunk
        return received


worker = SymbolWorker()
"""The worker of this process."""
atexit.register(worker.stop)


@lru_cache(maxsize=16384)
def symbolically_equal(left: str, right: str, time_limit_s: float) -> bool | None:
    """Cached ``SymbolWorker.equal``: the four samples of a problem tend to give the same expression."""
    return worker.equal(left, right, time_limit_s)
