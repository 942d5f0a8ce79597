"""Pods of a run are killed in the middle of their work; the run goes on where they were."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.kind.commands import WaitError, wait_until
from tests.kind.kubeflow import ENDED, NAMESPACE, Pod
from tests.kind.lab import Bill, Lab, probes_of_a_run
from tests.kind.test_run import MODELS

LONGER = ("sft.epochs=40", "sft.learning_rate=1e-5", "sampling.n=16", "sampling.chunk_size=4")
"""A training that takes a minute rather than seconds, at a rate at which the student hardly moves in all its steps. One that learns for so
long at the profile's rate solves every problem each time, and then no answer is to be preferred. Of this one nearly every answer is
wrong, as of its base model, and the teacher's solutions are preferred."""

TRACES = {"sft": re.compile(r"/checkpoint-\d+/complete$"), "sample": re.compile(r"/\d{8}-4\.json$")}
"""Stage to what it leaves in the store of checkpoints while it works, and a killed one continues from."""


def at_work(lab: Lab, run: str, stage: str) -> Pod:
    """The pod of a stage that runs and has brought work in progress into the store since.

    Raises:
        WaitError: It was done, or the run ended, before that could be seen.
    """
    before = lab.store.checkpoints()

    def traces() -> list[str]:
        return [key for key in lab.store.checkpoints() - before if TRACES[stage].search(key)]

    def look() -> Pod | None:
        pods = lab.kubeflow.pods(run, stage)
        running = [pod for pod in pods if pod.phase == "Running"]
        if running and traces():
            return running[0]
        if any(pod.phase == "Succeeded" for pod in pods):
            raise WaitError(f"{stage} was done before it could be killed: give it more work in LONGER of {__file__}")
        if (state := lab.kubeflow.state(run)) in ENDED:
            raise WaitError(f"the run ended as {state} before {stage}\n{lab.kubeflow.describe(run)}")
        return None

    return wait_until(f"{stage} in the middle of its work", look, lab.run_seconds, every=0.5)


def evict(lab: Lab, pod: Pod) -> None:
    """End a pod as a drained or preempting node does: it is told to end, and fails."""
    lab.deployment.kubectl("delete", "pod", pod.name, "--namespace", NAMESPACE, "--grace-period", "5", "--wait=false")


def lose(lab: Lab, pod: Pod) -> None:
    """Let a pod be gone as when its node is lost: nobody hears from it again."""
    lab.deployment.kubectl.delete("pod", NAMESPACE, pod.name, now=True)


def killed(lab: Lab, run: str, stage: str, kill: Callable[[Lab, Pod], None]) -> None:
    """Kill a stage in the middle of its work, and wait for the next attempt."""
    pod = at_work(lab, run, stage)
    kill(lab, pod)
    wait_until(
        f"another attempt at {stage}",
        lambda: [other for other in lab.kubeflow.pods(run, stage) if other.uid != pod.uid and other.phase != "Failed"],
        600 * lab.deployment.settings.patience,
        describe=lambda: lab.kubeflow.describe(run),
    )


@pytest.fixture(scope="module")
def left_before(lab: Lab) -> set[str]:
    """Work in progress of earlier runs, which may have been ended in the middle of it."""
    return lab.store.checkpoints()


@pytest.fixture(scope="module")
def disturbed(lab: Lab, left_before: set[str]) -> str:
    """Id of a run that lost its training and its sampling once each, and succeeded; nothing was paid for twice."""
    before = Bill.of(lab)
    run = lab.start(lab.released(), "killed", lab.parameters(*LONGER))
    killed(lab, run, "sft", lose)
    killed(lab, run, "sample", evict)
    lab.kubeflow.wait(run, lab.run_seconds)
    assert list(Bill.of(lab).problems_since(before, probes_of_a_run())) == []
    return run


@pytest.mark.parametrize(("stage", "resumed"), [("sft", "resumed_at_step"), ("sampling", "resumed_problems")])
def test_a_killed_task_goes_on_where_it_was(lab: Lab, disturbed: str, stage: str, resumed: str) -> None:
    rows = [row for row in lab.store.ledger(disturbed) if row.stage == stage]
    assert [row for row in rows if row.counts.get(resumed, 0) > 0], f"began anew: {[(row.task, row.counts) for row in rows]}"


def test_the_run_is_whole(lab: Lab, disturbed: str) -> None:
    assert list(lab.store.problems_of_record(disturbed, MODELS)) == []


def test_finished_work_left_no_checkpoints(lab: Lab, disturbed: str, left_before: set[str]) -> None:
    left = lab.store.checkpoints() - left_before
    assert left == set(), f"work in progress is left: {sorted(left)[:5]}"
