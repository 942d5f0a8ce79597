"""``tutorloop submit`` and ``watch``: the real commands against the doubles of Kubeflow and of the cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from components.core.records import Usage
from pipelines.cli.main import cli
from pipelines.images.table import REPOSITORIES, add_to_table, described
from pipelines.kubeflow import calls, following
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord
from tests.conftest import ROOT
from tests.kubeflow.git import INPUTS, Git
from tests.kubeflow.server import Double, Lost
from tests.kubeflow.server import serving as serving_kubeflow
from tests.support.argo_workflow import ArgoWorkflow
from tests.support.waiting import wait_until
from tests.support.workflows_double import Workflows
from tests.support.workflows_double import serving as serving_cluster

RUN = "6f1d2c3b-0000-4000-8000-000000000001"


@pytest.fixture
def kubeflow() -> Iterator[Double]:
    """An empty Kubeflow."""
    with serving_kubeflow() as double:
        yield double


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workflows]:
    """An API server, and a configuration that leads to it."""
    monkeypatch.setattr(following, "FIRST_WAIT_S", 0.02)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with serving_cluster() as served:
        file = str(served.kubeconfig(tmp_path))
        monkeypatch.setenv("KUBECONFIG", file)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", file)
        yield served


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of the tiny profile, as a release has it."""
    constants = {
        name: {"runtimeValue": {"constant": value}} for name, value in (("profile", "tiny"), ("records", "s3://artifacts/records"))
    }
    git = Git(tmp_path)
    git.package(root={"inputDefinitions": INPUTS, "dag": {"tasks": {"preflight": {"inputs": {"parameters": constants}}}}})
    return git.packages / "orca-math-tiny.yaml"


def call(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, list(arguments))


def test_a_package_becomes_a_version_and_its_run(kubeflow: Double, package: Path) -> None:
    first = call("submit", "--package", str(package), "--host", kubeflow.url, "--set", "seed=7", "--name", "seven")
    assert first.exit_code == 0, first.output
    [run] = kubeflow.cluster.runs.values()
    used = kubeflow.cluster.versions[run["pipeline_version_reference"]["pipeline_version_id"]]
    pipeline = kubeflow.cluster.pipelines[run["pipeline_version_reference"]["pipeline_id"]]
    assert pipeline["name"] == "orca-math-tiny-trials" and used["name"].startswith("orca-math-tiny-trials-")
    assert run["runtime_config"] == {"parameters": {"seed": 7}} and run["service_account"] == "tutorloop-run"
    assert kubeflow.cluster.experiments[run["experiment_id"]]["display_name"] == "tutorloop"
    assert first.output.splitlines() == [
        f"run: {run['run_id']}",
        f"page: {kubeflow.url}/#/runs/details/{run['run_id']}",
        f"record: s3://artifacts/records/{run['run_id']}",
    ]
    assert call("submit", "--package", str(package), "--host", kubeflow.url).exit_code == 0
    assert len(kubeflow.cluster.versions) == 1 and len(kubeflow.cluster.runs) == 2


def test_a_version_that_is_there_is_not_uploaded_again(kubeflow: Double, package: Path) -> None:
    first = package.read_text()
    for text in (first, first.replace("A pipeline", "A changed pipeline"), first):
        package.write_text(text)
        assert call("submit", "--package", str(package), "--host", kubeflow.url).exit_code == 0
    used = [run["pipeline_version_reference"]["pipeline_version_id"] for run in kubeflow.cluster.runs.values()]
    assert len(kubeflow.cluster.versions) == 2 and used[0] == used[2] != used[1]


@pytest.mark.parametrize("moment", ["before", "done"])
def test_an_answer_that_is_lost_starts_no_second_run(kubeflow: Double, package: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_WAIT_S", 0.02)
    lost: list[int] = []

    def accident(number: int, now: str) -> None:
        if now == moment and kubeflow.calls[-1] == ("POST", "/apis/v2beta1/runs") and not lost:
            lost.append(number)
            raise Lost

    kubeflow.accident = accident
    given = call("submit", "--package", str(package), "--host", kubeflow.url)
    assert given.exit_code == 0 and lost
    assert list(kubeflow.cluster.runs) == [given.output.splitlines()[0].removeprefix("run: ")]


def test_settings_that_need_no_package_of_their_own_share_a_version(kubeflow: Double, tmp_path: Path) -> None:
    table = str(tmp_path / "images.json")
    for image, repository in REPOSITORIES.items():
        add_to_table(described(image, f"{repository}:1"), table)
    for setting in ((), ("--set", "sft.learning_rate=1e-5"), ("--set", "cluster.cost_center=other")):
        given = call("submit", "--profile", "tiny", "--images", table, "--host", kubeflow.url, *setting)
        assert given.exit_code == 0, given.output
    plain, changed, other = kubeflow.cluster.runs.values()
    assert plain["runtime_config"]["parameters"] == {} and other["runtime_config"]["parameters"] == {}
    [(name, section)] = changed["runtime_config"]["parameters"].items()
    assert name == "sft" and section["learning_rate"] == 1e-5
    assert plain["pipeline_version_reference"] == changed["pipeline_version_reference"] != other["pipeline_version_reference"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give --profile or --package"),
        (("--package", "PACKAGE", "--profile", "7b"), "tiny, for which the package was compiled"),
        (("--package", "PACKAGE", "--set", "cluster.queue=x"), "this is compiled into it"),
        (("--package", "PACKAGE", "--set", "sft.lerning_rate=1"), "lerning_rate"),
        (("--profile", "tiny", "--images", "no-such-table.json"), "no-such-table.json"),
    ],
)
def test_what_is_wrong_is_said(kubeflow: Double, package: Path, arguments: tuple[str, ...], told: str) -> None:
    given = call("submit", "--host", kubeflow.url, *(str(package) if item == "PACKAGE" else item for item in arguments))
    assert given.exit_code != 0 and told in f"{given.output}{given.exception}"
    assert not kubeflow.cluster.runs


def record_of(home: Path) -> None:
    """What a run that succeeded leaves."""
    record = RunRecord(
        id=RUN, profile="tiny", status="succeeded", started_at="2025-12-01T02:00:00+00:00", seconds=61.0, usage=Usage(requests=3)
    )
    run_record.begin(record, home / RUN)


def test_a_run_is_watched_to_its_summary(cluster: Workflows, tmp_path: Path) -> None:
    record_of(tmp_path / "records")
    workflow = ArgoWorkflow(RUN, records=str(tmp_path / "records"))
    workflow.task("preflight", shown="Preflight")
    workflow.status["progress"] = "3/9"
    cluster.put(workflow.object())
    command = [sys.executable, "-u", "-m", "pipelines", "watch", RUN, "--host", "https://kubeflow.example/"]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        lines: list[str] = []
        assert process.stdout
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or []))
        reader.start()
        wait_until(lambda: lines, 60)
        assert "Preflight done in" in lines[0] and "pods 3 of 9 so far" in lines[0]
        workflow.task("sft", "", ("Running", ""), shown="Training")
        cluster.put(workflow.object())
        wait_until(lambda: len(lines) == 2, 60)
        assert "Training at work" in lines[1]
        workflow.end("Succeeded")
        cluster.put(workflow.object())
        assert process.wait(60) == 0
        reader.join()
    text = "".join(lines)
    assert "teacher: 3 requests paid" in text
    assert f"record: {tmp_path}/records/{RUN}; page: https://kubeflow.example/#/runs/details/{RUN}" in text


def test_a_run_that_fails_is_explained_and_ends_the_command_with_1(cluster: Workflows) -> None:
    workflow = ArgoWorkflow(RUN)
    [pod] = workflow.task("sft", "", ("Failed", "main: Error (exit code 1)"), shown="Training")
    cluster.logs[pod] = "error in sft: the loss is not a number\n"
    workflow.end("Failed")
    cluster.put(workflow.object())
    given = call("watch", RUN)
    assert given.exit_code == 1
    assert "Training failed after 0:01" in given.output and f"Training failed (pod {pod}): main: Error (exit code 1)" in given.output
    assert "    error in sft: the loss is not a number" in given.output
    assert f"record: s3://artifacts/records/{RUN}" in given.output


def test_a_run_is_submitted_and_watched(kubeflow: Double, cluster: Workflows, package: Path) -> None:
    def work() -> None:
        wait_until(lambda: kubeflow.cluster.runs, 60)
        [run] = kubeflow.cluster.runs
        workflow = ArgoWorkflow(run)
        workflow.end("Failed", "workflow is longer than maximum allowed size. compressed size 1051747 > maxSize 1048576", bubble=False)
        cluster.put(workflow.object())

    other = threading.Thread(target=work)
    other.start()
    given = call("submit", "--package", str(package), "--host", kubeflow.url, "--watch")
    other.join()
    assert given.exit_code == 1 and "MAX_WORKFLOW_SIZE" in given.output
