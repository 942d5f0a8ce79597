"""A double of Kubeflow, folders as Git has them, and a parent of syncs that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.kubeflow.git import Git
from tests.kubeflow.server import Double, Lost, serving


@pytest.fixture
def double() -> Iterator[Double]:
    """An empty Kubeflow."""
    with serving() as server:
        yield server


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A schedule and its package."""
    folders = Git(tmp_path)
    folders.schedule()
    folders.package()
    return folders


class Nursery:
    """A process that has imported everything and forks a sync on demand: each is a process of its own, and starts at once."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "syncs.log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kubeflow.nursery"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("ab"),
            text=True,
        )

    def sync(self, git: Git, double: Double, *options: str, kill_at: int = 0, moment: str = "") -> int:
        """Run a sync to its end, or to the given moment of its n-th call.

        Returns:
            Its exit code; negative when a signal ended it.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        print("\t".join(git.arguments(double.url, *options)), file=stdin, flush=True)
        child = int(stdout.readline())
        dead = False

        def accident(number: int, now: str) -> None:
            nonlocal dead
            if dead:
                raise Lost
            if (number, now) == (kill_at, moment):
                dead = True
                os.kill(child, signal.SIGKILL)
                raise Lost

        double.forget()
        double.accident = accident
        print("go", file=stdin, flush=True)
        code = int(stdout.readline())
        double.accident = None
        return code

    def log(self) -> str:
        """What the syncs said."""
        return self._log.read_text()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(120)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """A nursery of syncs."""
    with contextlib.closing(Nursery(tmp_path_factory.mktemp("nursery"))) as made:
        yield made
