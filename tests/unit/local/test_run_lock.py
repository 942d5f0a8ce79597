"""One run at a time in a folder, until what runs the pipeline of one that was killed is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.local import runner
from tests.conftest import ROOT
from tests.support.waiting import wait_until

COMMAND = """
import sys
from pathlib import Path
from pipelines.local import runner
from pipelines.local.child import Job
from pipelines.local.display import Display

home = Path(sys.argv[1])
sys.executable = str(home / "child")
job = Job(package="", arguments={}, pipeline_root="", offline_teacher=None, answer_key=[], folder=str(home))
with runner._only_run_in(home) as work:
    runner._run_child(job, home, Display(), work)
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[int]:
    """Process id of what a killed command line has started in the folder, and what has not ended yet."""
    child, number = tmp_path / "child", tmp_path / "number"
    child.write_text(f"#!/bin/sh\necho $$ >{number}.part && mv {number}.part {number} && exec sleep 600\n")
    child.chmod(0o755)
    command = subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path)], cwd=ROOT)
    try:
        wait_until(lambda: number.exists() or command.poll() is not None)
        assert number.exists(), "the child was not started"
    finally:
        command.kill()
        command.wait()
    started = int(number.read_text())
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.kill(started, signal.SIGKILL)


def ended(process: int) -> bool:
    """Whether a process has given back its locks: they go after its open files, and before it is a zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(") ")[2].startswith(("Z", "X"))


def at_each_look(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something instead of waiting for the next look, which comes ten seconds later."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += 10
        action()

    monkeypatch.setattr(runner, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))


def test_the_next_run_begins_when_what_a_killed_one_started_has_ended(
    orphan: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[bool] = []

    def end_it_at_the_second() -> None:
        looks.append(Path(f"/proc/{orphan}").exists())
        if len(looks) == 2:
            os.kill(orphan, signal.SIGKILL)
            wait_until(lambda: ended(orphan))

    at_each_look(monkeypatch, end_it_at_the_second)
    with runner._only_run_in(tmp_path):
        assert looks[:2] == [True, True]
    assert capsys.readouterr().out.count("what a killed run has started") == 1


def test_what_does_not_end_keeps_the_next_run_out(orphan: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_each_look(monkeypatch, lambda: None)
    with pytest.raises(runner.RunFailedError, match="still at work in"), runner._only_run_in(tmp_path):
        pytest.fail("both are at work")
    assert Path(f"/proc/{orphan}").exists()


def test_a_run_that_is_commanded_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_each_look(monkeypatch, lambda: pytest.fail("it waits"))
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(runner.RunFailedError, match="another run is active"), runner._only_run_in(tmp_path):
            pytest.fail("both are at work")
