"""A sync that is killed at any call leaves nothing that the next one does not set right."""

from __future__ import annotations

import copy
import itertools

import pytest

from tests.kubeflow.conftest import Nursery
from tests.kubeflow.git import Git
from tests.kubeflow.server import Double

KILLED = -9


def before(git: Git, double: Double, *, first: bool) -> None:
    """What is there when the sync that is killed begins."""
    git.schedule("weekly")
    git.schedule("paused", cron="0 0 5 * * *", enabled=False)
    git.package()
    if first:
        return
    git.schedule("gone")
    git.schedule("steady", cron="0 30 1 * * *", enabled=True)
    git.sync(double.url)
    double.cluster.tick()
    git.schedule("weekly", cron="0 0 4 * * 1", parameters={"seed": 2})
    git.schedule("paused", cron="0 0 5 * * *", enabled=True)
    git.schedule("steady", cron="0 30 1 * * *", enabled=False)
    (git.schedules / "gone.yaml").unlink()
    git.package(salt="changed")


@pytest.mark.parametrize("first", [True, False], ids=["first", "changed"])
@pytest.mark.parametrize("moment", ["done", "answered"])
def test_killed_at_every_call(nursery: Nursery, git: Git, double: Double, moment: str, first: bool) -> None:
    """``done``: carried out, and never answered; ``answered``: the process may already be at its next call, which does not arrive."""
    before(git, double, first=first)
    start = copy.deepcopy(double.cluster)
    assert nursery.sync(git, double, "--prune") == 0, nursery.log()
    expected, calls = double.cluster.summary(), len(double.calls)
    assert len(double.changes) >= 5
    for number in itertools.count(1):
        double.cluster = copy.deepcopy(start)
        code = nursery.sync(git, double, "--prune", kill_at=number, moment=moment)
        if code == 0:
            break
        assert code == KILLED, nursery.log()
        killed = double.cluster.summary() == expected
        double.forget()
        git.sync(double.url, "--prune")
        assert bool(double.changes) != killed, "a sync that is killed after its last change has nothing left to do"
        double.cluster.tick()
        assert double.cluster.summary() == expected, f"killed at call {number}"
        assert not double.cluster.doubled
        assert not any(workflow.killed for workflow in double.cluster.workflows)
    # Whoever is killed once the last call is answered may have ended well before.
    assert number in ((calls, calls + 1) if moment == "answered" else (calls + 1,)), "every call was tried"
