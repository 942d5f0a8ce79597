"""Runs the real ``tutorloop`` command, as a person would."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipelines import run_record
from pipelines.run_record import RunRecord

TUTORLOOP = [sys.executable, "-c", "from pipelines.cli import main; main()"]
SMOKE = Path(__file__).with_name("smoke.yaml")


def start(home: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start ``tutorloop run`` with the smoke profile."""
    command = [
        sys.executable,
        "-c",
        "from pipelines.cli import main; main()",
        "run",
        "--profile",
        str(SMOKE),
        "--home",
        str(home),
        *arguments,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(environment or {})})


def run(home: Path, *arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run to the end; exit status and everything printed."""
    process = start(home, *arguments, environment=environment)
    output, _ = process.communicate(timeout=900)
    return process.returncode, output


def latest(home: Path) -> RunRecord:
    """The record of the newest run."""
    return run_record.read(home / "latest")


def log_of(home: Path) -> str:
    """The newest run's log, as far as it is written."""
    path = home / "latest" / "log.txt"
    return path.read_text(errors="replace") if path.exists() else ""


def kill_in_new_stage(process: subprocess.Popen[str], home: Path, known: set[str], before: set[str], timeout: float = 600) -> str | None:
    """Kill the command with SIGKILL as soon as its log shows a stage at work that is not among ``known``.

    Args:
        process: The running command.
        home: Its home.
        known: KFP names of stages, without the number that tells equal tasks apart.
        before: Names of the run folders that were there before it started.
        timeout: In seconds.

    Returns:
        The stage; None when the run ended first.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return None
        latest_run = home / "latest"
        if latest_run.exists() and latest_run.resolve().name not in before:
            for name in re.findall(r"Executing task '([^']+)'", log_of(home)):
                stage = re.sub(r"(-\d+)+$", "", name)
                if stage not in known:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    return stage
        time.sleep(0.05)
    raise AssertionError(f"the run neither ended nor started a new stage:\n{log_of(home)[-3000:]}")


def run_folders(home: Path) -> set[str]:
    """Names of the run folders."""
    return {path.name for path in home.iterdir() if (path / "job.json").exists()} if home.exists() else set()


def command_lines() -> list[str]:
    """Command lines of all processes of this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return lines
