"""A service of the cluster on a port of this machine, through a kubectl that is started anew when it has ended."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from queue import Empty, Queue
from typing import IO, Protocol

from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError, say

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> \d+")
START_S = 30.0
STOP_S = 10.0


class Address(Protocol):
    """Where a service can be reached."""

    name: str

    def url(self) -> str:
        """``http://host:port``, as it is now."""
        ...

    def again(self) -> None:
        """Nobody answered there: find another way, if there is one."""
        ...


class Forward:
    """One forwarded port.

    Args:
        kubectl: The cluster.
        namespace: Of the service.
        service: Its name.
        port: Its port; that of this machine is the operating system's choice.
        patience_s: How long to try to begin.
    """

    def __init__(self, kubectl: Kubectl, namespace: str, service: str, port: int, *, patience_s: float = 120.0) -> None:
        self.name = f"{service}.{namespace}:{port}"
        self._command = kubectl.command("port-forward", "--namespace", namespace, f"service/{service}", f":{port}")
        self._patience = patience_s
        self._process: subprocess.Popen[str] | None = None
        self._url = ""
        self._said: list[str] = []

    def url(self) -> str:
        """``http://127.0.0.1:<port>``; starts kubectl when it does not run, as after the pod behind the service has gone.

        Raises:
            CommandError: No port is forwarded; holds what kubectl says.
        """
        if self._process is not None and self._process.poll() is None:
            return self._url
        deadline = time.monotonic() + self._patience
        while not self._start():
            if time.monotonic() > deadline:
                raise CommandError(f"{self.name} cannot be reached through kubectl port-forward: {' '.join(self._said[-5:]).strip()}")
            time.sleep(1)
        return self._url

    @property
    def process_id(self) -> int:
        """Of the kubectl that runs; 0 for none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def stop(self) -> None:
        """End the kubectl that was started here, and no other."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def again(self) -> None:
        """Begin anew: kubectl may run and yet lead nowhere."""
        self.stop()

    def _start(self) -> bool:
        self.stop()
        process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._process = process
        lines: Queue[str] = Queue()
        assert process.stdout is not None
        # Reads to the end: a kubectl that nobody listens to would stop when the pipe is full.
        threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                line = lines.get(timeout=0.1)
            except Empty:
                if process.poll() is not None and lines.empty():
                    break
                continue
            self._said.append(line)
            if found := _FORWARDING.search(line):
                self._url = f"http://127.0.0.1:{found[1]}"
                say(f"{self.name} is at {self._url}")
                return True
        self.stop()
        return False


def _pass_on(stream: IO[str], lines: Queue[str]) -> None:
    with contextlib.suppress(ValueError):
        for line in stream:
            lines.put(line)
    stream.close()


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, namespace: str, service: str, port: int) -> Iterator[Forward]:
    """A forward that ends with the block."""
    forward = Forward(kubectl, namespace, service, port)
    try:
        yield forward
    finally:
        forward.stop()
