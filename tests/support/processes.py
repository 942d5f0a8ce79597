"""Servers that tests run in processes of their own, stopped by their process id."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def answering(
    command: Sequence[str],
    folder: Path,
    address: str,
    *,
    environment: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Iterator[None]:
    """Run a server for the length of a ``with`` block, which begins once it answers.

    Args:
        command: What starts it.
        folder: Its working directory, made when missing; ``log.txt`` there has what it prints.
        address: What it answers with success as soon as it is ready.
        environment: Variables besides those of this process.
        headers: For asking at that address.
        seconds: Longest time that it may take to start.

    Raises:
        RuntimeError: It ended, or did not answer in time; with the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + seconds
        while not answers(address, headers):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not answer at {address}:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        # Somebody else may have taken its port, which it then could not have, and answer instead.
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} has ended, and another answers at {address}:\n{log.read_text(errors='replace')[-3000:]}")
        yield
    finally:
        stop(process)


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process: kindly, then not."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(address: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a server answers there with success."""
    request = urllib.request.Request(address, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
