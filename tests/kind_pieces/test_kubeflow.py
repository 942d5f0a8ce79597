"""Runs through the real clients against doubles of Kubeflow's API and of the Kubernetes API; pods as a kubectl tells them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.argo_workflow import ArgoWorkflow
from tests.conftest import ROOT
from tests.kind import kubeflow as module
from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError, WaitError
from tests.kind.kubeflow import PIPELINE, Kubeflow
from tests.kind_pieces.conftest import Direct
from tests.kind_pieces.programs import Programs
from tests.kind_pieces.runs_double import Runs, serving_runs
from tests.workflows_double import Workflows, serving

PACKAGE = ROOT / "manifests/overlays/kind/release/packages/orca-math-tiny.yaml"


class Lab(NamedTuple):
    """A Kubeflow, the doubles of its API and of its workflows, and the way to it."""

    kubeflow: Kubeflow
    runs: Runs
    way: Direct
    workflows: Workflows


@pytest.fixture
def lab(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """As above."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving_runs() as (double, runs), serving() as workflows:
        way = Direct(double.url)
        kubectl = Kubectl("test", workflows.kubeconfig(tmp_path))
        yield Lab(Kubeflow(way, kubectl, patience_s=20), runs, way, workflows)


def pods(*items: tuple[str, str, str]) -> str:
    """Pods of name, stage and phase."""
    return json.dumps(
        {
            "items": [
                {
                    "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"tutorloop.dev/stage": stage, "pipeline/runid": "r"}},
                    "spec": {"nodeName": "worker"},
                    "status": {"phase": phase},
                }
                for name, stage, phase in items
            ]
        }
    )


def told(programs: Programs, workflow: ArgoWorkflow) -> None:
    """Let kubectl tell of a workflow."""
    programs.answers("get workflows.argoproj.io", out=json.dumps({"items": [workflow.object(packed=True)]}))


def soon(act: Callable[[], None]) -> None:
    """Do something while the test waits."""
    timer = threading.Timer(0.3, act)
    timer.daemon = True
    timer.start()


def test_a_run_is_a_run_of_a_version_of_the_tests_pipeline(lab: Lab) -> None:
    runs = lab.runs
    first = lab.kubeflow.submit(PACKAGE, "first", {"seed": 3, "sft_options": {"epochs": 2}})
    second = lab.kubeflow.submit(PACKAGE, "second")
    assert first != second
    [body, again] = runs.asked
    assert body["runtime_config"]["parameters"] == {"seed": 3, "sft_options": {"epochs": 2}}
    assert body["service_account"] == "tutorloop-run" and body["experiment_id"]
    assert body["pipeline_version_reference"] == again["pipeline_version_reference"], "the same package is the same version"
    pipeline = lab.kubeflow.call("look", lambda client: client.get_pipeline_id(PIPELINE))
    assert body["pipeline_version_reference"]["pipeline_id"] == pipeline


def test_a_run_is_followed_to_its_end_each_change_is_told_at_once(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    run = lab.kubeflow.submit(PACKAGE, "first")
    workflow = ArgoWorkflow(run)
    workflow.task("preflight", shown="Preflight")
    lab.workflows.put(workflow.object())

    def go_on() -> None:
        workflow.task("sft", "", ("Running", ""), shown="Train M1 (SFT)")
        lab.workflows.put(workflow.object())
        workflow.end("Succeeded")
        lab.workflows.put(workflow.object(packed=True))

    soon(go_on)
    lab.kubeflow.wait(run, 60)
    said = capsys.readouterr().err
    assert "done: Preflight" in said and "running: Train M1 (SFT)" in said


@pytest.mark.parametrize("driver", [False, True])
def test_a_run_that_fails_is_told_with_the_last_words_of_the_task_or_driver_that_did(lab: Lab, programs: Programs, driver: bool) -> None:
    lab.runs.coming = ["FAILED"]
    run = lab.kubeflow.submit(PACKAGE, "first")
    workflow = ArgoWorkflow(run)
    if driver:
        pod = workflow.driver("tune-driver", workflow.root, "Failed", "exit code 1", container=True, shown="Train M2")
        said, words = (
            "F1201 02:00:00.000000       1 main.go:68] KFP driver: no artifact of that name",
            "KFP driver: no artifact of that name",
        )
    else:
        pod = workflow.task("judge", "", ("Failed", "exit code 1"), shown="Train M2")[-1]
        said = words = "error: the teacher does not answer"
    workflow.end("Failed")
    lab.workflows.put(workflow.object())
    told(programs, workflow)
    programs.answers(f"logs {pod}", out=said)
    programs.answers("get pods", out=pods())
    with pytest.raises(WaitError, match=rf"ended as FAILED(.|\n)*{'the driver of ' if driver else ''}Train M2 failed(.|\n)*{words}"):
        lab.kubeflow.wait(run, 30)


def test_a_failure_that_is_wanted_is_waited_for_and_success_is_not_it(lab: Lab, programs: Programs) -> None:
    programs.answers("get pods", out=pods())
    for phase, state in (("Failed", "FAILED"), ("Succeeded", "SUCCEEDED")):
        lab.runs.coming = ["RUNNING", state]
        run = lab.kubeflow.submit(PACKAGE, state)
        workflow = ArgoWorkflow(run)
        workflow.end(phase)
        lab.workflows.put(workflow.object())
        told(programs, workflow)
        if state == "FAILED":
            lab.kubeflow.wait(run, 30, wanted="FAILED")
        else:
            with pytest.raises(WaitError, match="ended as SUCCEEDED, not FAILED"):
                lab.kubeflow.wait(run, 30, wanted="FAILED")


def test_a_run_that_takes_too_long_is_told_with_what_waits(lab: Lab, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 1.0)
    run = lab.kubeflow.submit(PACKAGE, "slow")
    workflow = ArgoWorkflow(run)
    lab.workflows.put(workflow.object())
    pending = json.loads(pods(("p-1", "evaluate", "Pending")))
    pending["items"][0]["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": "Insufficient nvidia.com/gpu"}]
    programs.answers("get pods", out=json.dumps(pending))
    told(programs, workflow)
    with pytest.raises(WaitError, match=r"not at its end(.|\n)*p-1 is Pending(.|\n)*Insufficient nvidia.com/gpu"):
        lab.kubeflow.wait(run, 0.5)


def test_a_run_whose_workflow_is_deleted_is_told_at_once(lab: Lab) -> None:
    run = lab.kubeflow.submit(PACKAGE, "first")
    workflow = ArgoWorkflow(run)
    lab.workflows.put(workflow.object())
    soon(lambda: lab.workflows.delete(workflow.name))
    with pytest.raises(WaitError, match="was deleted"):
        lab.kubeflow.wait(run, 60)


def test_tasks_are_told_with_those_from_the_cache(lab: Lab, programs: Programs) -> None:
    workflow = ArgoWorkflow("r", retries=False)
    inside = workflow.nested("data", shown="Data")
    for shard, item in enumerate(workflow.loop(1, 2, inside)):
        workflow.task("solve", item, cached=bool(shard), shown="Teacher solves")
    told(programs, workflow)
    states = {path: task.state for path, task in lab.kubeflow.tasks("r").items()}
    assert states == {"Data / Teacher solves [shard 0]": "done", "Data / Teacher solves [shard 1]": "cached"}


def test_what_cannot_be_told_hides_nothing(lab: Lab, programs: Programs) -> None:
    programs.answers("get", err="Unable to connect to the server", status=1)
    said = lab.kubeflow.describe("r")
    assert "why it failed cannot be told" in said and "its pods cannot be listed" in said


def test_answers_that_are_lost_are_asked_for_again_another_way(lab: Lab, programs: Programs) -> None:
    kubeflow, runs, way, _ = lab
    run = kubeflow.submit(PACKAGE, "first")
    runs.lose = 30
    assert kubeflow.state(run) in module.STATES
    assert way.repeated >= 1


def test_a_refusal_is_told_at_once(lab: Lab) -> None:
    kubeflow, _, way, _ = lab
    with pytest.raises(CommandError, match=r"cannot look at a run: 404(.|\n)*Run nobody not found"):
        kubeflow.state("nobody")
    assert way.repeated == 0


def test_a_run_can_be_ended(lab: Lab) -> None:
    kubeflow, runs, _, _ = lab
    runs.coming = ["RUNNING"]
    run = kubeflow.submit(PACKAGE, "first")
    kubeflow.terminate(run)
    assert kubeflow.state(run) == "CANCELED"


def test_what_was_carried_out_is_told_from_pods_of_all_attempts(lab: Lab, programs: Programs) -> None:
    kubeflow, _, _, _ = lab
    programs.answers("get pods", out=pods(("a", "sample", "Failed"), ("b", "sample", "Succeeded"), ("c", "sft", "Succeeded")))
    assert kubeflow.executed("r") == {"sample": 2, "sft": 1}
    kubeflow.pods("r", "sft")
    assert "pipeline/runid=r,tutorloop.dev/stage=sft " in programs.calls()[-1]


def test_a_pod_that_was_made_anew_under_the_same_name_is_another(lab: Lab, programs: Programs) -> None:
    found = json.loads(pods(("p-1", "sft", "Running")))
    programs.answers("get pods", out=json.dumps(found))
    [before] = lab.kubeflow.pods("r")
    found["items"][0]["metadata"]["uid"] = "another"
    (programs.folder / "rules.json").write_text("[]")
    programs.answers("get pods", out=json.dumps(found))
    [after] = lab.kubeflow.pods("r")
    assert before.name == after.name and before.uid != after.uid


def test_runs_at_work_are_those_of_everybody(lab: Lab, programs: Programs) -> None:
    told(programs, ArgoWorkflow("of-a-schedule"))
    assert lab.kubeflow.runs_at_work() == ["of-a-schedule"]
    assert "--selector workflows.argoproj.io/completed!=true" in programs.calls()[-1]
