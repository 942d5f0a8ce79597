"""Pods of a run are killed in the middle of their work; the run goes on where they were."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.kind.commands import WaitError, wait_until
from tests.kind.kubeflow import ENDED, NAMESPACE, Pod
from tests.kind.lab import Bill, Lab, probes_of_a_run
from tests.kind.test_run import MODELS

LONGER = ("sft.batch_size=1", "sft.gradient_accumulation=8", "sampling.n=16", "sampling.chunk_size=4", "sampling.batch_size=4")
"""Work that is long enough to be killed in the middle of it, and a student like that of the other runs.

An update is still made from eight rows, but in eight passes: the training takes several times as long and learns the same. Seen on two
cores: 237 updates in 40 s; the student solves about half of the problems, and 1,131 of 1,536 answers are right, so that
there are pairs. (More epochs, or more rows, make a student that solves everything: nothing is left to practise on.) Sampling decodes four
answers at a time, and brings its work into the store after every four problems.
"""
ONE_SHARD = "sampling_shards=1"
"""So that the work in progress in the store is that of the pod that is killed."""


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
    """Kill a stage in the middle of its work, and wait for the next attempt.

    It is known by its UID: Argo makes a deleted pod anew under the same name when its node of the workflow had not ended
    (workflow/controller/workflowpod.go: the name follows from the node), and under another one when it is a new attempt.
    """
    pod = at_work(lab, run, stage)
    before = {other.uid for other in lab.kubeflow.pods(run, stage)}
    kill(lab, pod)
    wait_until(
        f"another attempt at {stage}",
        lambda: [other for other in lab.kubeflow.pods(run, stage) if other.uid not in before and other.phase != "Failed"],
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
    run = lab.start(lab.package("killed", ONE_SHARD, *LONGER), "killed")
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
