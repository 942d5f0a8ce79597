"""Running the server and the clients, and what they use of the machine."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from tests.benchmarks.teacher.behaviour import Behaviour
from tests.benchmarks.teacher.clients.job import Texts
from tests.benchmarks.teacher.environments import ROOT, Client
from tests.benchmarks.teacher.server import Counts

WATCH_S = 0.01
"""Between two looks at whether a client has ended."""

LOOK_S = 0.2
"""How often the memory of a client's processes is looked at."""


class Server:
    """The race's server, in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.teacher.server"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self._usage = psutil.Process(self._process.pid)

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    @property
    def cpu_s(self) -> float:
        """Processor time so far."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def behave(self, behaviour: Behaviour) -> None:
        """Start a new count."""
        self._call("/behaviour", msgspec.json.encode(behaviour))

    def answered(self) -> int:
        """Replies so far."""
        return int(self._call("/progress"))

    def counts(self) -> Counts:
        """Everything so far."""
        return msgspec.json.decode(self._call("/counts"), type=Counts)

    def unread(self) -> set[str]:
        """Prompts whose replies lie in the kernel, since the client has not read them from its connection."""
        port = int(self.url.rpartition(":")[2])
        last = msgspec.json.decode(self._call("/last"), type=dict[int, str])
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues, *_ = line.split()
            if int(remote.rpartition(":")[2], 16) == port and int(queues.rpartition(":")[2], 16):
                found.add(last.get(int(local.rpartition(":")[2], 16), ""))
        return found - {""}

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=30) as response:
            answer: bytes = response.read()
        return answer


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server()
    try:
        yield server
    finally:
        server.close()


@dataclass
class Run:
    """One run of one client.

    Attributes:
        texts: What it handed back, a list for each stage; empty if it did not come to its end.
        seconds: From the call to the results, without the start of the interpreter and the imports.
        process_s: Life of its process.
        cpu_s: Processor time (user and system) of its process and the children it waited for.
        start_cpu_s: The part of it that went into the start of the interpreter and the imports.
        peak_mb: Peak resident memory, of all its processes together.
        problem: Why it did not come to its end; empty if it did.
    """

    texts: list[Texts] = field(default_factory=list)
    seconds: float = 0.0
    process_s: float = 0.0
    cpu_s: float = 0.0
    start_cpu_s: float = 0.0
    peak_mb: float = 0.0
    problem: str = ""


class Process:
    """A client at work.

    Args:
        client: Which.
        job: What it is to do, but for the place of its output.
        folder: For its output and its log.
    """

    def __init__(self, client: Client, job: dict[str, object], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / f"output-{time.monotonic_ns()}.json"
        self._log = self._output.with_suffix(".log")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "TUTORLOOP_"))}
        # Caches that a client keeps beside its own (datasets') are in its folder as well: a fresh one for each race.
        environment |= {"HF_HOME": str(folder / "hf"), "HOME": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                client.command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job | {"output": str(self._output)}).encode())
        self._process.stdin.close()
        self._peaks: dict[int, float] = {}

    def freeze(self) -> None:
        """Stop it and its children where they are."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        """End it and its children at once, as a lost machine would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, limit_s: float, look: Callable[[], bool] = lambda: False) -> Run:
        """Wait for its end, or kill it after ``limit_s`` seconds or once ``look`` says so."""
        try:
            problem, status, usage = self._watch(limit_s, look)
        finally:
            # What it left running goes with it, and all of it when the race is broken off.
            self.kill()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        run = Run(process_s=time.monotonic() - self._started, cpu_s=usage.ru_utime + usage.ru_stime, problem=problem)
        run.peak_mb = sum(self._peaks.values())
        if self._process.returncode or not self._output.is_file():
            run.problem = problem or f"fails: {self._last_words()}"
        else:
            result = json.loads(self._output.read_bytes())
            run.seconds, run.texts, run.start_cpu_s = result["seconds"], result["texts"], result["start_cpu_s"]
        return run

    def _watch(self, limit_s: float, look: Callable[[], bool]) -> tuple[str, int, resource.struct_rusage]:
        problem = ""
        looked = 0.0
        while True:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                return problem, status, usage
            if look():
                problem = "killed"
                self.kill()
            elif time.monotonic() - self._started > limit_s:
                problem = f"fails: not done after {limit_s:g} s"
                self.kill()
            if time.monotonic() - looked > LOOK_S:
                self._look()
                looked = time.monotonic()
            time.sleep(WATCH_S)

    def _look(self) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self._process.pid)
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError):
                    self._peaks[each.pid] = max(self._peaks.get(each.pid, 0.0), each.memory_info().rss / 1e6)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:160] if lines else f"exit status {self._process.returncode}"
