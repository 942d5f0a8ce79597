"""What is made good: half of a loop from the cache, a process that is killed; and what is not: a driver that fails."""

from __future__ import annotations

import pytest

from pipelines import run_record
from tests.kind.commands import WaitError, wait_until
from tests.kind.kubeflow import ENDED, NAMESPACE
from tests.kind.lab import Bill, Lab, probes_of_a_run
from tests.kind.packages import NOWHERE, changed, driver_that_fails, only_the_last_shard
from tests.kind.test_run import MODELS

SHARDS = "sampling_shards=2"
MEASURED_ANEW = "evaluation.max_new_tokens=38"
"""All before the evaluations is as in the run before."""
FIRST, LAST = (f"Practice round 1: M1 to M2 / {{}} [shard {index}]" for index in (0, 1))

KILL_PYTHON = """
import os, pathlib, signal, sys
def is_task(process):
    command = (process / "cmdline").read_bytes().split(b"\\0")
    return int(process.name) != os.getpid() and b"python" in command[0] and b"kfp.dsl.executor_main" in command
found = [int(process.name) for process in pathlib.Path("/proc").iterdir() if process.name.isdigit() and is_task(process)]
for process in found:
    os.kill(process, signal.SIGKILL)
sys.exit(not found)
"""
"""Run in a task's container: its Python is gone, as when memory runs out, and Kubeflow's launcher sees it."""


@pytest.fixture(scope="module")
def half(lab: Lab) -> str:
    """Id of a run that was ended when its only shard, the last of two, was sampled and judged."""
    package = changed(lab.package("two-shards", SHARDS), "last-shard", only_the_last_shard)
    run = lab.start(package, "the last shard")
    judged = FIRST.format("Judge the answers")
    for workflow in lab.kubeflow.follow(run, lab.run_seconds):
        if any(task.path == judged and task.state == "done" for task in workflow.tasks()):
            lab.kubeflow.terminate(run)
            return run
    raise WaitError(f"the run {run} ended before {judged}\n{lab.kubeflow.describe(run)}")


@pytest.fixture(scope="module")
def mixed(lab: Lab, half: str) -> str:
    """Id of a run of both shards, of which the first is new and the last comes from the cache."""
    before = Bill.of(lab)
    run = lab.start(lab.package("two-shards", SHARDS), "both shards")
    lab.kubeflow.wait(run, lab.run_seconds)
    assert list(Bill.of(lab).problems_since(before, probes_of_a_run())) == []
    return run


def test_a_loop_of_which_the_first_shard_is_new_and_another_from_the_cache_is_collected(lab: Lab, mixed: str) -> None:
    tasks = lab.kubeflow.tasks(mixed)
    for name in ("Sample M1", "Judge the answers"):
        states = {path.format(name): tasks[path.format(name)].state for path in (FIRST, LAST)}
        assert states == {FIRST.format(name): "done", LAST.format(name): "cached"}, "nothing is shown by this run"
    built = tasks["Practice round 1: M1 to M2 / Build preferences"]
    assert (built.state, built.attempts) == ("done", 1)
    assert list(lab.store.problems_of_record(mixed, MODELS)) == []


@pytest.fixture(scope="module")
def made_good(lab: Lab, mixed: str) -> str:
    """Id of a run with its loops from the cache, of which an evaluation's process was killed once, and the next attempt succeeded."""
    run = lab.start(lab.package("two-shards", SHARDS), "evaluation killed", lab.parameters(MEASURED_ANEW))

    def kill() -> bool:
        for pod in lab.kubeflow.pods(run, "evaluate"):
            if pod.phase == "Running":
                lab.deployment.kubectl(
                    "exec", pod.name, "--namespace", NAMESPACE, "--container", "main", "--", "python3", "-c", KILL_PYTHON, quiet=True
                )
                return True
        if (state := lab.kubeflow.state(run)) in ENDED:
            raise WaitError(f"the run ended as {state} before an evaluation could be killed\n{lab.kubeflow.describe(run)}")
        return False

    wait_until("the process of an evaluation, to be killed", kill, lab.run_seconds, every=0.5)
    lab.kubeflow.wait(run, lab.run_seconds)
    return run


def test_a_run_with_a_task_that_was_made_good_is_recorded_as_succeeded(lab: Lab, made_good: str) -> None:
    tasks = lab.kubeflow.tasks(made_good)
    again = [path for path, task in tasks.items() if "Evaluate" in path and task.attempts > 1]
    assert again, f"no attempt was made good: {tasks}"
    assert all(tasks[path.format("Sample M1")].state == "cached" for path in (FIRST, LAST))
    assert list(lab.store.problems_of_record(made_good, MODELS)) == []
    wait_until("the end of the run in Prometheus", lambda: lab.prometheus.query(f'tutorloop_run_failed{{run="{made_good}"}}'), 120)
    assert [series.value for series in lab.prometheus.query(f'tutorloop_run_failed{{run="{made_good}"}}')] == [0.0]
    assert [labels for labels in lab.alertmanager.alerts("TutorLoopRunFailed") if labels.get("run") == made_good] == []


def test_a_run_whose_driver_fails_is_recorded_as_failed_in_the_drivers_own_words(lab: Lab) -> None:
    run = lab.start(changed(lab.package("driver"), "driver-fails", driver_that_fails), "a driver fails")
    record = lab.ended_badly(run, lab.run_seconds)
    assert record.status == run_record.FAILED
    assert record.failed_stage == "Data: problems and solutions / Starting point"
    assert "the driver of Data: problems and solutions / Starting point failed" in record.error
    assert f"parent DAG does not have input parameter {NOWHERE}" in record.error
    [failure] = [found for found in lab.kubeflow.failures(run) if found.driver]
    assert NOWHERE in "\n".join(failure.last_lines), "this is what the tests would print"
