"""Runs through the real client against the double of Kubeflow's API server; pods as a kubectl tells them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.kubeflow.packages import read_package
from tests.conftest import ROOT
from tests.kind import kubeflow as module
from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError, WaitError
from tests.kind.kubeflow import Kubeflow
from tests.kind_pieces.conftest import Direct
from tests.kind_pieces.programs import Programs
from tests.kind_pieces.runs_double import Runs, serving_runs
from tests.support.argo_workflow import ArgoWorkflow

PACKAGE = ROOT / "manifests" / "overlays" / "kind" / "release" / "packages" / "orca-math-tiny.yaml"


@pytest.fixture
def lab(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kubeflow, Runs, Direct]]:
    """A Kubeflow, its double and the way to it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with serving_runs() as (double, runs):
        way = Direct(double.url)
        yield Kubeflow(way, Kubectl("lab"), patience_s=120), runs, way


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


def changes(*items: tuple[str, str, str]) -> str:
    """The same as kubectl's watch tells them."""
    return "".join(json.dumps({"type": "ADDED", "object": item}) + "\n" for item in json.loads(pods(*items))["items"])


@pytest.fixture(autouse=True)
def quiet(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for, and there are no workflows unless a test has some."""
    monkeypatch.setattr(module, "QUIET_S", 0.5)
    programs.answers("get workflows", out='{"items": []}')


def test_a_run_is_started_with_package_parameters_and_account_and_watched_to_its_end(
    lab: tuple[Kubeflow, Runs, Direct], programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeflow, runs, _ = lab
    programs.answers("get pods --watch", out=changes(("p-1", "sft", "Running"), ("p-2", "", "Running"), ("p-3", "", "Failed")))
    run = kubeflow.submit(PACKAGE, "first", {"seed": 3, "sft": {"epochs": 2}})
    kubeflow.wait(run, 30)
    [body] = runs.asked
    assert body["runtime_config"]["parameters"] == {"seed": 3, "sft": {"epochs": 2}}
    assert body["service_account"] == "tutorloop-run" and body["experiment_id"]
    assert kubeflow.shown(run) == (module.PIPELINE, f"{module.PIPELINE}-{read_package(PACKAGE).digest[:12]}")
    said = capsys.readouterr().err
    assert "sft running (p-1)" in said and "a driver failed (p-3)" in said and "p-2" not in said
    assert said.count("(p-1)") == 1, "kubectl ends here after each answer, and tells the same when it is started again"
    assert f"--watch --output-watch-events --output json --namespace kubeflow --selector pipeline/runid={run}" in programs.calls()[0]


def test_a_run_that_fails_is_told_with_the_last_words_of_what_failed_drivers_too(
    lab: tuple[Kubeflow, Runs, Direct], programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow, runs, _ = lab
    runs.coming = ["RUNNING", "FAILED"]
    workflow = ArgoWorkflow("r")
    pod = workflow.driver("judge-driver", workflow.root, "Failed", "Error (exit code 255)", container=True, shown="Judge")
    workflow.end("Failed")
    programs.folder.joinpath("rules.json").write_text("[]")
    programs.answers("get workflows", out=json.dumps({"items": [workflow.object(packed=True)]}))
    programs.answers(f"logs {pod}", out="F1201 02:00:01.000000  1 main.go:79] KFP driver: quantities must match")
    programs.answers("get pods --watch", out="")
    programs.answers("get pods", out=pods(("p-1", "sft", "Succeeded")))
    run = kubeflow.submit(PACKAGE, "first")
    with pytest.raises(WaitError, match=r"ended as FAILED(.|\n)*the driver of Judge failed(.|\n)*quantities must match"):
        kubeflow.wait(run, 30)


def test_a_failure_that_is_wanted_is_waited_for_and_success_is_not_it(lab: tuple[Kubeflow, Runs, Direct], programs: Programs) -> None:
    kubeflow, runs, _ = lab
    programs.answers("get pods --watch", out="")
    programs.answers("get pods", out=pods())
    runs.coming = ["RUNNING", "FAILED"]
    kubeflow.wait(kubeflow.submit(PACKAGE, "fails"), 30, wanted="FAILED")
    runs.coming = ["RUNNING", "SUCCEEDED"]
    with pytest.raises(WaitError, match="ended as SUCCEEDED, not FAILED"):
        kubeflow.wait(kubeflow.submit(PACKAGE, "does not"), 30, wanted="FAILED")


def test_a_run_that_takes_too_long_is_told_with_what_waits(
    lab: tuple[Kubeflow, Runs, Direct], programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeflow, runs, _ = lab
    runs.coming = ["RUNNING"]
    pending = json.loads(pods(("p-1", "evaluate", "Pending")))
    status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient nvidia.com/gpu"}]}
    pending["items"][0]["status"] = status
    programs.answers("get pods --watch", out="")
    programs.answers("get pods", out=json.dumps(pending))
    programs.answers("get pod p-1", out=json.dumps(pending["items"][0]))
    with pytest.raises(WaitError, match=r"evaluate: p-1 is Pending(.|\n)*Insufficient nvidia.com/gpu"):
        kubeflow.wait(kubeflow.submit(PACKAGE, "slow"), 0.5)


def test_answers_that_are_lost_are_asked_for_again_another_way(lab: tuple[Kubeflow, Runs, Direct], programs: Programs) -> None:
    kubeflow, runs, way = lab
    run = kubeflow.submit(PACKAGE, "first")
    runs.lose = 30
    assert kubeflow.state(run) in module.STATES
    assert way.repeated >= 1


def test_a_refusal_is_told_at_once(lab: tuple[Kubeflow, Runs, Direct]) -> None:
    kubeflow, _, way = lab
    with pytest.raises(CommandError, match=r"cannot look at a run: 404(.|\n)*Run nobody not found"):
        kubeflow.state("nobody")
    assert way.repeated == 0


def test_a_run_can_be_ended(lab: tuple[Kubeflow, Runs, Direct]) -> None:
    kubeflow, runs, _ = lab
    runs.coming = ["RUNNING"]
    run = kubeflow.submit(PACKAGE, "first")
    kubeflow.terminate(run)
    assert kubeflow.state(run) == "CANCELED"


def test_what_was_carried_out_is_told_from_pods_of_all_attempts(lab: tuple[Kubeflow, Runs, Direct], programs: Programs) -> None:
    kubeflow, _, _ = lab
    programs.answers("get pods", out=pods(("a", "sample", "Failed"), ("b", "sample", "Succeeded"), ("c", "sft", "Succeeded")))
    assert kubeflow.executed("r") == {"sample": 2, "sft": 1}
    kubeflow.pods("r", "sft")
    assert "pipeline/runid=r,tutorloop.dev/stage=sft " in programs.calls()[-1]


def test_tasks_are_told_with_those_from_the_cache_each_shard_by_itself(lab: tuple[Kubeflow, Runs, Direct], programs: Programs) -> None:
    workflow = ArgoWorkflow("r", retries=False)
    inside = workflow.nested("data", shown="Data")
    for shard, item in enumerate(workflow.loop(1, 2, inside)):
        workflow.task("solve", item, cached=bool(shard), shown="Teacher solves")
    (programs.folder / "rules.json").write_text("[]")
    # Argo packs the nodes of nearly every run.
    programs.answers("get workflows.argoproj.io", out=json.dumps({"items": [workflow.object(packed=True)]}))
    states = {task.path: task.state for task in lab[0].tasks("r")}
    assert states == {"Data / Teacher solves [shard 0]": "done", "Data / Teacher solves [shard 1]": "cached"}


def test_a_run_whose_workflow_is_gone_has_no_tasks_that_could_be_told(lab: tuple[Kubeflow, Runs, Direct]) -> None:
    with pytest.raises(CommandError, match="has no workflow"):
        lab[0].tasks("r")
