"""Runs the real ``tutorloop`` command, as a person would."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from components.core.records import StageRecord, read_records
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord

TUTORLOOP = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]
KEY = "sk-planted-0123456789abcdef"
"""In the environment of every finished run; no file may hold it."""
SHORT = ("--set", "rounds=1")
"""One practice round is enough for most tests."""
SMOKE = Path(__file__).with_name("smoke.yaml")


def start(
    home: Path | str, *arguments: str, environment: dict[str, str] | None = None, folder: Path | None = None
) -> subprocess.Popen[str]:
    """Start ``tutorloop run`` with the smoke profile; ``folder`` is that of the code to run, this checkout when None."""
    command = [*TUTORLOOP, "run", "--profile", str(SMOKE), "--home", str(home), *arguments]
    variables = {**os.environ, **(environment or {})}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables, cwd=folder)


def run(home: Path | str, *arguments: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> tuple[int, str]:
    """Run to the end; exit status and everything printed."""
    process = start(home, *arguments, environment=environment, folder=folder)
    output, _ = process.communicate(timeout=2400)
    return process.returncode, output


def latest(home: Path) -> RunRecord:
    """The record of the newest run."""
    return run_record.read(home / "latest")


def log_of(home: Path) -> str:
    """The newest run's log, as far as it is written."""
    path = home / "latest" / "log.txt"
    return path.read_text(errors="replace") if path.exists() else ""


def kill_in_new_stage(
    process: subprocess.Popen[str], home: Path, known: set[str], before: set[str], missed: set[str] | None = None, timeout: float = 600
) -> str | None:
    """Kill the command with SIGKILL as soon as its log shows a stage at work that is not among ``known``.

    Args:
        process: The running command.
        home: Its home.
        known: KFP names of stages, without the number that tells equal tasks apart.
        before: Names of the run folders that were there before it started.
        missed: Further stages that were seen only with the first, or after the end, are added here: they may have ended before the kill.
        timeout: In seconds.

    Returns:
        The stage; None when the run ended first.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        latest_run = home / "latest"
        if latest_run.exists() and latest_run.resolve().name not in before:
            seen = [re.sub(r"(-\d+)+$", "", name) for name in re.findall(r"Executing task '([^']+)'", log_of(home))]
            new = [stage for stage in seen if stage not in known]
            if new and not ended:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                if missed is not None:
                    missed.update(new[1:])
                return new[0]
            if ended and missed is not None:
                missed.update(new)
        if ended:
            return None
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


def wait_for_the_end_in(folder: Path) -> None:
    """Wait until no process works in a folder any more: what a killed command has started dies a moment later.

    Raises:
        AssertionError: One is still there after two minutes.
    """
    deadline = time.monotonic() + 120
    while left := [line for line in command_lines() if str(folder) in line]:
        assert time.monotonic() < deadline, f"still at work: {left}"
        time.sleep(0.1)


def scores(record: RunRecord) -> list[Any]:
    """Every score of every model."""
    return [msgspec.to_builtins(model) for model in record.models]


def ledger(folder: Path) -> list[StageRecord]:
    """What every task of a run did."""
    return list(read_records(folder / "ledger.jsonl", StageRecord))


def digests(folder: Path) -> dict[str, str]:
    """Digest of every model that a run trained, by task."""
    return {row.task: row.lineage["model"]["digest"] for row in ledger(folder) if "digest" in row.lineage.get("model", {})}


def until(condition: Callable[[], Any], process: subprocess.Popen[str], what: str, seconds: float = 600) -> Any:
    """Wait for something during a run; gives it back."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        assert process.poll() is None, f"the run ended before {what}:\n{process.stdout.read()[-3000:] if process.stdout else ''}"
        time.sleep(0.05)
    raise AssertionError(f"in {seconds:g} s: never {what}")
