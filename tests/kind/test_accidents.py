"""Accidents that a run gets over, or is ended by: three runs after one that nothing happened to, all three at the same time."""

from __future__ import annotations

import pytest

from pipelines.runs import record as run_record
from tests.kind.commands import CommandError, WaitError, wait_until
from tests.kind.kubeflow import ENDED, NAMESPACE
from tests.kind.lab import Lab
from tests.kind.packages import with_a_driver_that_fails, with_shards_of_sampling
from tests.kind.test_run import MODELS

SHARDS = ["0/4", "1/2", "2/4"]
"""Of the two shards of the first run, 0/2 is split and has to be sampled anew, and 1/2 is in the cache: as in the second start of a run
that failed in its first shard."""
OTHER_EVALUATION = "evaluation.max_new_tokens=38"
"""What was measured before does not count: everything up to there comes from the cache, loops too."""
BROKEN = "collect-benchmarks"
KEEPER_S = 90.0
"""The keeper of records closes those of failed runs within half a minute."""

KILL = """
import os, pathlib, signal, time
for _ in range(400):
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\\0")
        except OSError:
            continue
        if int(folder.name) != os.getpid() and b"python" in words[0] and b"kfp.dsl.executor_main" in words:
            os.kill(int(folder.name), signal.SIGKILL)
            print("killed", folder.name)
            raise SystemExit
    time.sleep(0.05)
"""
"""Kills the Python process of a task from inside its container, as the kernel does when memory runs out: Kubeflow's launcher, its parent,
sees that, and publishes the attempt as failed."""


@pytest.fixture(scope="module")
def runs(lab: Lab, first_run: str) -> dict[str, str]:
    """What happens to a run, and its id; all of them are at work."""
    folder, released = lab.folder, lab.released()
    return {
        "child killed": lab.start(released, "evaluate is killed once", lab.parameters(OTHER_EVALUATION)),
        "half cached": lab.start(with_shards_of_sampling(released, SHARDS, folder / "half-cached.yaml"), "one shard in the cache"),
        # Another seed: a task from the cache would have its driver look at nothing.
        "driver fails": lab.start(
            with_a_driver_that_fails(released, BROKEN, folder / "driver-fails.yaml"), "a driver fails", {"seed": lab.seed + 1}
        ),
    }


@pytest.fixture(scope="module")
def killed_once(lab: Lab, runs: dict[str, str]) -> str:
    """Id of a run in which the Python process of one `evaluate` was killed."""
    run = runs["child killed"]

    def kill() -> str:
        if (state := lab.kubeflow.state(run)) in ENDED:
            raise WaitError(f"the run {run} ended as {state} before an evaluation could be killed\n{lab.kubeflow.describe(run)}")
        for pod in lab.kubeflow.pods(run, "evaluate"):
            if pod.phase == "Running":
                try:
                    options = ("--namespace", NAMESPACE, "--container", "main")
                    return lab.deployment.kubectl("exec", pod.name, *options, "--", "python3", "-c", KILL, quiet=True)
                except CommandError:
                    # The container does not run yet, or no longer.
                    continue
        return ""

    wait_until("the Python process of an evaluation", kill, lab.run_seconds, every=0.5)
    return run


def test_a_run_whose_task_was_killed_once_is_recorded_as_succeeded(lab: Lab, killed_once: str) -> None:
    lab.kubeflow.wait(killed_once, lab.run_seconds)
    failed = [pod for pod in lab.kubeflow.pods(killed_once, "evaluate") if pod.phase == "Failed"]
    assert failed, "no attempt has failed: nothing was killed"
    assert list(lab.store.problems_of_record(killed_once, MODELS)) == []


def test_a_driver_that_fails_ends_the_run_and_its_own_words_are_in_the_record(lab: Lab, runs: dict[str, str], killed_once: str) -> None:
    run = runs["driver fails"]
    lab.kubeflow.wait(run, lab.run_seconds, wanted="FAILED")
    assert BROKEN not in lab.kubeflow.executed(run)
    record = wait_until(
        "the run's record to be closed",
        lambda: found if (found := lab.store.record(run)).status != run_record.RUNNING else None,
        KEEPER_S * lab.deployment.settings.patience,
    )
    for said in (record.error, lab.kubeflow.describe(run)):
        assert record.status == run_record.FAILED and "the driver of" in said and "quantities must match" in said, said


def test_a_run_of_which_one_shard_is_cached_and_the_first_is_not_succeeds(lab: Lab, runs: dict[str, str], killed_once: str) -> None:
    run = runs["half cached"]
    lab.kubeflow.wait(run, lab.run_seconds)
    assert lab.kubeflow.executed(run)["sample"] == len(SHARDS) - 1, "the shard that the first run has was not taken from the cache"
    assert list(lab.store.problems_of_record(run, MODELS)) == []
