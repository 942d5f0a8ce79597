"""The keeper of records: the real command in a process of its own, a double of the cluster over HTTP, real stores, kills in the middle."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.core.ledger.last_words import last_words
from components.core.records import Usage
from components.core.stage import stage_run
from components.core.store import open_store
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord
from tests.cluster_runs import gateway as gateways
from tests.cluster_runs.gateway import Gateway
from tests.conftest import ROOT
from tests.support.argo_workflow import ArgoWorkflow
from tests.support.s3 import s3_bucket, s3_server
from tests.support.waiting import wait_until
from tests.support.workflows_double import Workflows, serving

__all__ = ["s3_bucket", "s3_server"]

SECONDS = 60.0


class Keepers:
    """Keepers of one namespace, one after the other.

    Args:
        folder: For health files, the log and access to the cluster.
        double: The cluster.
        gateway: Where metrics go.
        records: Home of records.
    """

    def __init__(self, folder: Path, double: Workflows, gateway: Gateway, records: str) -> None:
        self.double, self.gateway, self.records = double, gateway, records
        self.health = folder / "health"
        self._log = folder / "keeper.log"
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(double.kubeconfig(folder)),
            "TUTORLOOP_PUSHGATEWAY": gateway.url,
            "TUTORLOOP_STORE_PATIENCE_S": "1",
            "TUTORLOOP_KUBEFLOW_URL": "https://kubeflow.example/",
        }
        self._environment.pop("KUBERNETES_SERVICE_HOST", None)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start one, and wait until it has looked at everything."""
        command = [sys.executable, "-m", "pipelines", "keep-records", "--records", self.records, "--health", str(self.health)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=log, stderr=log)
        if ready:
            wait_until(lambda: self.ready, SECONDS)

    @property
    def ready(self) -> bool:
        """Whether the readiness probe would succeed."""
        return (self.health / "ready").exists()

    @property
    def log(self) -> str:
        """What keepers said."""
        return self._log.read_text()

    def kill(self) -> None:
        """End it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            (self.health / "ready").unlink(missing_ok=True)

    def folder(self, run: str) -> str:
        """Of a run's record."""
        return f"{self.records}/{run}"

    def begin(self, run: str, **more: Any) -> None:
        """What the first task of a run does."""
        record = RunRecord(id=run, profile="tiny", status=run_record.RUNNING, started_at="2025-12-01T02:00:00+00:00", **more)
        run_record.begin(record, self.folder(run))

    def status(self, run: str) -> str:
        """Of a run's record; ``missing`` where there is none."""
        try:
            return run_record.read(self.folder(run)).status
        except Exception:
            return "missing"

    def sure(self) -> None:
        """Wait until it has dealt with all there was: runs that end later are closed later."""
        last = ArgoWorkflow(str(uuid.uuid4()), records="")
        self.begin(last.run)
        last.end("Error", "the last one")
        self.double.put(last.object())
        wait_until(lambda: self.status(last.run) == "failed", SECONDS)


@pytest.fixture
def keepers(tmp_path: Path) -> Iterator[Keepers]:
    """Keepers with a folder of records."""
    with serving() as double, gateways.serving() as gateway:
        made = Keepers(tmp_path, double, gateway, str(tmp_path / "records"))
        yield made
        made.kill()


def new(**more: Any) -> ArgoWorkflow:
    """A workflow whose records are where the keeper's are."""
    return ArgoWorkflow(str(uuid.uuid4()), **{"records": "", **more})


def fail(keepers: Keepers, workflow: ArgoWorkflow) -> None:
    """Let training fail, for good."""
    [pod] = workflow.task("sft", "", ("Failed", "main: Error (exit code 1)"), shown="Training")
    keepers.double.logs[pod] = "error in sft: the loss is not a number\n  what to do: lower sft.learning_rate\n"
    workflow.end("Failed")
    keepers.double.put(workflow.object(packed=True))


def test_a_run_that_fails_is_closed_with_its_reason(keepers: Keepers) -> None:
    keepers.start()
    workflow = new(pipeline="orca-math-7b")
    keepers.begin(workflow.run)
    keepers.double.put(workflow.object())
    fail(keepers, workflow)
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    record = run_record.read(keepers.folder(workflow.run))
    assert record.failed_stage == "Training" and record.profile == "tiny" and record.seconds > 0
    assert "error in sft: the loss is not a number\n" in record.error and "lower sft.learning_rate" in record.error
    assert record.links == {"kubeflow": f"https://kubeflow.example/#/runs/details/{workflow.run}"}
    assert keepers.gateway.ends(workflow.run) == [("orca-math-7b", 1.0)]


def test_a_run_of_a_lost_log_is_explained_by_what_its_task_left(keepers: Keepers, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = new()
    keepers.begin(workflow.run)
    monkeypatch.setenv("TUTORLOOP_RUN", workflow.run)
    with pytest.raises(ValueError), last_words("sft", "sft", "0/1", keepers.records):
        raise ValueError("no GPU is left")
    workflow.task("sft", "", ("Error", "pod deleted"))
    workflow.end("Error")
    keepers.double.put(workflow.object())
    keepers.start()
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    assert "no GPU is left" in run_record.read(keepers.folder(workflow.run)).error


def test_the_record_of_a_run_that_fails_says_what_its_tasks_did_and_paid(keepers: Keepers, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = new()
    keepers.begin(workflow.run)
    monkeypatch.setenv("TUTORLOOP_RUN", workflow.run)

    def task(name: str, requests: int, error: Exception | None) -> None:
        artifact = SimpleNamespace(metadata={})
        with contextlib.suppress(ValueError), stage_run(name, artifact, records=keepers.records) as stage:
            stage.usage, stage.rows_in, stage.rows_kept = Usage(requests=requests, usd=requests / 10), 9, 7
            stage.drop("duplicate", 2)
            if error:
                raise error

    task("synthesis", 20, None)
    task("solving", 4, ValueError("the model is gone"))
    keepers.double.put(workflow.object())
    fail(keepers, workflow)
    keepers.start()
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    record = run_record.read(keepers.folder(workflow.run))
    assert (record.usage.requests, record.usage.usd) == (24, 2.4)
    assert [(stage.task, stage.status, stage.rows_kept, stage.dropped) for stage in record.stages] == [
        ("synthesis", "succeeded", 7, {"duplicate": 2}),
        ("solving", "failed", 7, {"duplicate": 2}),
    ]


@pytest.mark.parametrize(
    ("begun", "kept", "phase", "status", "ends"),
    [
        ({}, False, "Error", "failed", [1.0]),
        ({}, False, "Succeeded", "failed", [1.0]),
        ({"outputs": {"html": "s3://x"}}, True, "Succeeded", "succeeded", [0.0]),
        # Its last task was lost after it had kept everything.
        ({"outputs": {"html": "s3://x"}}, True, "Failed", "succeeded", [0.0]),
        ({"status": "succeeded", "outputs": {"html": "s3://x"}}, True, "Error", "succeeded", []),
        ({"status": "failed", "error": "as it was"}, False, "Failed", "failed", []),
        (None, False, "Failed", "failed", [1.0]),
        (None, False, "Succeeded", "missing", []),
    ],
)
def test_how_a_run_is_closed(
    keepers: Keepers, begun: dict[str, Any] | None, kept: bool, phase: str, status: str, ends: list[float]
) -> None:
    workflow = new()
    if begun is not None:
        record = RunRecord(
            **{"id": workflow.run, "profile": "tiny", "status": "running", "started_at": "2025-12-01T02:00:00+00:00", **begun}
        )
        run_record.begin(record, keepers.folder(workflow.run))
    workflow.end(phase)
    keepers.double.put(workflow.object())
    keepers.start()
    keepers.sure()
    assert keepers.status(workflow.run) == status
    assert [failed for _, failed in keepers.gateway.ends(workflow.run)] == ends
    if begun and "error" in begun:
        assert run_record.read(keepers.folder(workflow.run)).error == "as it was"


def test_others_are_left_alone(keepers: Keepers) -> None:
    foreign = new(pipeline="")
    foreign.end("Failed", "of somebody else")
    keepers.double.put(foreign.object())
    keepers.start()
    keepers.sure()
    assert keepers.status(foreign.run) == "missing" and keepers.gateway.ends(foreign.run) == []
    assert not any(foreign.run in key for key in open_store(keepers.records).list())


@pytest.mark.parametrize("watched", [True, False])
def test_a_run_whose_workflow_is_deleted_is_not_taken_for_running(keepers: Keepers, watched: bool) -> None:
    workflow, other = new(), new()
    keepers.start()
    for item in (workflow, other):
        keepers.begin(item.run)
        keepers.double.put(item.object())
    # Of a laptop, or of another cluster, that has its records in the same place.
    keepers.begin("of-another")
    keepers.sure()
    if not watched:
        keepers.kill()
    keepers.double.delete(workflow.name)
    if not watched:
        keepers.start()
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    assert "was deleted while the run was at work" in run_record.read(keepers.folder(workflow.run)).error
    keepers.sure()
    assert (keepers.status(other.run), keepers.status("of-another")) == ("running", "running")


def test_what_ends_while_no_keeper_is_there_is_closed_by_the_next(keepers: Keepers) -> None:
    workflow = new()
    keepers.start()
    keepers.begin(workflow.run)
    keepers.double.put(workflow.object())
    keepers.kill()
    fail(keepers, workflow)
    keepers.start()
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    keepers.kill()
    keepers.start()
    keepers.sure()
    assert len(keepers.gateway.ends(workflow.run)) == 1, "a record that is closed is left alone"


def test_a_keeper_that_is_killed_while_it_closes_is_made_good(keepers: Keepers) -> None:
    def kill(path: str) -> None:
        if "job/tutorloop" in path:
            keepers.gateway.during = None
            keepers.kill()

    workflow = new()
    keepers.start()
    keepers.begin(workflow.run)
    keepers.gateway.during = kill
    fail(keepers, workflow)
    wait_until(lambda: keepers.gateway.during is None, SECONDS)
    assert keepers.status(workflow.run) == "running", "it told, and died before it wrote"
    keepers.start()
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    assert len(keepers.gateway.ends(workflow.run)) == 2, "told twice rather than never"


def test_a_run_that_kubeflow_tries_again_may_succeed(keepers: Keepers) -> None:
    workflow = new()
    keepers.start()
    keepers.begin(workflow.run)
    fail(keepers, workflow)
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    again = ArgoWorkflow(workflow.run, records="")
    keepers.double.put(again.object())
    folder = keepers.folder(workflow.run)
    run_record.finish(folder, succeeded=True)
    again.end("Succeeded")
    keepers.double.put(again.object())
    keepers.sure()
    assert keepers.status(workflow.run) == "succeeded"


def test_a_store_that_is_away_is_waited_for(keepers: Keepers) -> None:
    home = Path(keepers.records)
    workflow = new()
    keepers.start()
    keepers.begin(workflow.run)
    keepers.double.put(workflow.object())
    keepers.sure()
    away = home.rename(home.with_name("away"))
    home.write_text("no folder")
    fail(keepers, workflow)
    wait_until(lambda: "the store does not do as it is asked" in keepers.log, SECONDS)
    wait_until(lambda: not keepers.ready, SECONDS)
    home.unlink()
    away.rename(home)
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    wait_until(lambda: keepers.ready, SECONDS)


def test_an_api_that_is_away_or_refuses_is_waited_for(keepers: Keepers) -> None:
    keepers.double.away = True
    keepers.start(ready=False)
    wait_until(lambda: keepers.health.joinpath("alive").exists() and "the Kubernetes API is away" in keepers.log, SECONDS)
    assert not keepers.ready
    workflow = new()
    keepers.begin(workflow.run)
    fail(keepers, workflow)
    keepers.double.away = False
    wait_until(lambda: keepers.status(workflow.run) == "failed", SECONDS)
    wait_until(lambda: keepers.ready, SECONDS)


def test_a_record_that_cannot_be_read_keeps_no_other_from_being_closed(keepers: Keepers) -> None:
    workflow = new()
    open_store(keepers.folder(workflow.run)).write("run.json", b'{"id": "from a later version", "news": 1}')
    workflow.end("Failed")
    keepers.double.put(workflow.object())
    keepers.start()
    keepers.sure()
    assert f"{workflow.run}: what the store holds cannot be read" in keepers.log
    assert b"from a later version" in open_store(keepers.folder(workflow.run)).read("run.json")


def test_records_in_a_bucket_are_found_by_what_the_run_was_given(tmp_path: Path, s3_bucket: str) -> None:
    with serving() as double, gateways.serving() as gateway:
        keepers = Keepers(tmp_path, double, gateway, f"{s3_bucket}/records")
        keepers.start()
        workflow = new(records=f"{s3_bucket}/elsewhere/")
        record = RunRecord(id=workflow.run, profile="tiny", status="running", started_at="2025-12-01T02:00:00+00:00")
        run_record.begin(record, f"{s3_bucket}/elsewhere/{workflow.run}")
        fail(keepers, workflow)
        wait_until(lambda: run_record.read(f"{s3_bucket}/elsewhere/{workflow.run}").status == "failed", SECONDS)
        keepers.kill()


def test_it_tells_the_gateway_that_it_is_there(keepers: Keepers) -> None:
    keepers.start()
    wait_until(lambda: any("job/keeper" in path for path, _ in keepers.gateway.pushes), SECONDS)
    [text] = [text for path, text in keepers.gateway.pushes if "job/keeper" in path]
    assert "tutorloop_keeper_last_look_timestamp_seconds 1." in text and "tutorloop_keeper_records_owed 0.0" in text
