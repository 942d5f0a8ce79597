"""The tasks that look after a run: its preflight, its record, its end."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.core.errors import InputError, ParameterError, StoreError, TutorLoopError
from components.core.ledger.task_records import keep_record
from components.core.records import ModelEntry, StageRecord, Usage
from components.core.stage import stage_run
from components.offline_teacher.background import start_background
from components.report.changes import changes
from pipelines.control import kubernetes_checks, preflight, results
from pipelines.control.kubernetes_checks import ClusterError, TrainingPlan
from pipelines.parameters import profile as parameters
from pipelines.parts.cluster import ClusterOptions, parse_cluster
from pipelines.runs import record as run_record
from tests.support.kills import Killed, at_every_change, killed_before

GPU = "nvidia.com/gpu"


@dataclass
class Cluster:
    """What the Kubernetes API answers."""

    quotas: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    node_status: int = 200


def quota(name: str = f"requests.{GPU}", hard: str = "8", used: str = "0") -> dict[str, Any]:
    return {"metadata": {"name": "gpus"}, "status": {"hard": {name: hard, "cpu": "64"}, "used": {name: used}}}


def node(
    gpus: str = "8", labels: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None, off: bool = False
) -> dict[str, Any]:
    return {
        "metadata": {"name": "n", "labels": labels or {}},
        "spec": {"taints": taints or [], "unschedulable": off},
        "status": {"allocatable": {GPU: gpus, "cpu": "8"}},
    }


@contextlib.contextmanager
def serving(cluster: Cluster) -> Iterator[Any]:
    """The real client of a Kubernetes API that answers as ``cluster`` says."""
    from kubernetes import client

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nodes = self.path.startswith("/api/v1/nodes")
            status = cluster.node_status if nodes else cluster.status
            assert nodes or self.path.startswith("/api/v1/namespaces/runs/resourcequotas")
            body = json.dumps({"items": cluster.nodes if nodes else cluster.quotas} if status == 200 else {"message": "no"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
        yield client.CoreV1Api(client.ApiClient(configuration))
    finally:
        server.shutdown()
        server.server_close()


def asking(**pod: Any) -> ClusterOptions:
    return parse_cluster({"autoscaling": pod.pop("autoscaling", False), "pods": {"training": {"gpus": 4, **pod}}})


HERE = [TrainingPlan("sft", 1, 4, GPU)]
POOL = {"pool": "train"}
TAINT = [{"key": "dedicated", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("cluster", "asked", "outcome"),
    [
        (Cluster(nodes=[node()]), asking(), ""),
        (Cluster(quotas=[quota()], nodes=[node()]), asking(), ""),
        (Cluster(quotas=[quota(hard="2")], nodes=[node()]), asking(), "!allows 2 in all"),
        (Cluster(quotas=[quota(f"limits.{GPU}", "2")], nodes=[node()]), asking(), "!raise limits.nvidia.com/gpu"),
        (Cluster(quotas=[quota(used="6")], nodes=[node()]), asking(), "will wait for 4"),
        (Cluster(nodes=[node("2"), node("3")]), asking(), "!the most nvidia.com/gpu of a node: 3"),
        (Cluster(), asking(), "!there is none"),
        (Cluster(nodes=[node("2")]), asking(autoscaling=True), "an autoscaler has to add it"),
        (Cluster(nodes=[node()]), asking(node_selector=POOL), "!pool=train"),
        (Cluster(nodes=[node(labels=POOL)]), asking(node_selector=POOL), ""),
        (Cluster(nodes=[node(taints=TAINT)]), asking(), "!there is none"),
        (Cluster(nodes=[node(taints=TAINT)]), asking(tolerations=[{"key": "dedicated"}]), ""),
        (Cluster(nodes=[node(taints=[{"key": GPU, "effect": "NoSchedule"}])]), asking(), ""),
        (
            Cluster(nodes=[node(taints=TAINT)]),
            asking(tolerations=[{"key": "dedicated", "operator": "Equal", "value": "x"}]),
            "!there is none",
        ),
        (Cluster(nodes=[node(off=True)]), asking(), "!there is none"),
        (Cluster(status=403, nodes=[node()]), asking(), "the GPU quota was not checked"),
        (Cluster(node_status=403), asking(), "may not list nodes"),
        (Cluster(status=500), asking(), "!answers 500"),
        (Cluster(status=500, node_status=500), ClusterOptions(), ""),
    ],
)
def test_gpus_are_looked_for_before_they_are_needed(cluster: Cluster, asked: ClusterOptions, outcome: str) -> None:
    with serving(cluster) as api:
        if outcome.startswith("!"):
            with pytest.raises(ClusterError, match=outcome[1:]) as caught:
                kubernetes_checks.check_gpus(api, asked, HERE, "runs")
            assert caught.value.hint
        else:
            told = kubernetes_checks.check_gpus(api, asked, HERE, "runs")
            assert len(told) == bool(outcome) and all(outcome in sentence for sentence in told)


@pytest.mark.parametrize(("hard", "refused"), [("64", False), ("63", True)])
def test_all_nodes_of_a_trainjob_have_to_fit_into_the_quota(hard: str, refused: bool) -> None:
    with serving(Cluster(quotas=[quota(hard=hard)])) as api:
        plans = [TrainingPlan("sft", 8, 8, GPU), TrainingPlan("preference_tuning", 8, 8, GPU)]
        if refused:
            with pytest.raises(ClusterError, match=r"the TrainJob of sft asks for 64.*allows 63"):
                kubernetes_checks.check_gpus(api, asking(gpus=0), plans, "runs")
        else:
            # The task's own pod only waits: nobody looks for a node with the GPUs that a profile gives to training.
            assert kubernetes_checks.check_gpus(api, asking(), plans, "runs") == []


@pytest.mark.parametrize(
    ("changed", "launchers", "named"),
    [
        ([], [], ""),
        (["sft.nodes=8"], ["sft"], ""),
        (["sft.nodes=8"], [], "sft.nodes"),
        ([], ["preference_tuning"], "preference_tuning.nodes"),
        (["preference_tuning.nodes=8"], ["preference_tuning"], "at least 2 rows per process"),
        (["sft.gradient_accumulation=1", "sft.batch_size=3"], [], r"sft\.batch_size = 3 .*8 processes can share"),
    ],
)
def test_a_training_that_cannot_be_shared_is_refused_before_anything_is_paid(changed: list[str], launchers: list[str], named: str) -> None:
    def plans() -> list[TrainingPlan]:
        options = parameters.load("orca_math_7b", changed)
        return preflight.training_plans(options, launchers)

    if not named:
        found = plans()
        assert [plan.section for plan in found] == ["sft", "preference_tuning"] and all(plan.gpus == 8 for plan in found)
        return
    with pytest.raises(ParameterError, match=named):
        plans()


def given(home: Path, **changed: Any) -> dict[str, Any]:
    """Arguments of the preflight, as KFP hands them over."""
    options = parameters.load("tiny")
    stores = {name: str(home / name) for name in ("responses", "checkpoints", "models")} | {"records": str(home)}
    arguments = parameters.pipeline_arguments(options, stores=stores, profile="tiny", pipeline_digest="d")
    arguments |= {"method": "orca_math", "shape": {"rounds": 2}, "cluster": msgspec.to_builtins(ClusterOptions()), "launchers": []}
    # Numbers in dicts arrive as floats.
    arrived: dict[str, Any] = json.loads(json.dumps({**arguments, **changed}), parse_int=float)
    return arrived


@pytest.fixture
def run_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Home of a run named r1, with the offline teacher at work; its metrics go to files."""
    monkeypatch.setenv("TUTORLOOP_RUN", "r1")
    monkeypatch.setenv("TUTORLOOP_METRICS_DIR", str(tmp_path / "metrics"))
    monkeypatch.delenv("TUTORLOOP_PUSHGATEWAY", raising=False)
    with start_background() as teacher:
        monkeypatch.setenv("TUTORLOOP_OFFLINE_TEACHER_URL", teacher.url)
        yield tmp_path


def ended(home: Path) -> dict[str, float]:
    """What the metrics say about the end of the run."""
    text = (home / "metrics" / "run.prom").read_text()
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def test_the_preflight_opens_the_record(run_of: Path) -> None:
    preflight.run(given(run_of))
    record = run_record.read(run_of / "r1")
    assert (record.id, record.status, record.profile, record.pipeline_digest) == ("r1", "running", "tiny", "d")
    assert record.parameters["sections"]["sft"]["learning_rate"] == 1.5e-3


@pytest.mark.parametrize(
    ("changed", "kind", "named"),
    [
        ({"sft": {"learning_rat": 1}}, ParameterError, "sft.learning_rat"),
        ({"cluster": {"queue": "a b"}}, ParameterError, "cluster.queue"),
        ({"models": "ftp://x"}, StoreError, "ftp://x"),
        ({"sft": {"nodes": 2, "batch_size": 16}}, ParameterError, "sft.nodes"),
        ({"teacher": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}}, TutorLoopError, "127.0.0.1:1"),
    ],
)
def test_what_the_preflight_finds_is_told(run_of: Path, changed: dict[str, Any], kind: type[Exception], named: str) -> None:
    with pytest.raises(kind, match=named):
        preflight.run(given(run_of, **changed))
    assert run_record.read(run_of / "r1").status == "running", "the record is there for the end of the run"


@dataclass
class Artifact:
    path: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)


def material(folder: Path) -> dict[str, Artifact]:
    """Results of a run as KFP hands them over."""
    folder.mkdir()
    record = StageRecord(stage="sft", task="sft", shard="0/1", started_at="2026-01-01T00:00:00+00:00", seconds=2.0, rows_in=3, rows_kept=3)
    contents = {
        "html": "<p>",
        "summary": '{"figures": {"accuracy % M0": 25.7}, "verdict": {"headline": "The student improved."}}',
        "ledger": msgspec.json.encode(record).decode() + "\n",
        "decision": '{"promoted": true}',
        "card": "{}",
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    found = {name: Artifact(str(folder / name), f"s3://artifacts/{name}") for name in contents}
    found["card"].metadata["model"] = "s3://artifacts/model"
    return found


def test_a_run_that_comes_to_its_last_task_succeeded(run_of: Path) -> None:
    preflight.run(given(run_of))
    last = StageRecord(stage="promotion", task="publishing", started_at="2026-01-01T00:00:00+00:00", seconds=1.5)
    results.keep(str(run_of), material(run_of / "made"), [keep_record(last, str(run_of))])
    record = run_record.read(run_of / "r1")
    assert record.status == "succeeded" and record.error == "" and record.seconds > 0
    assert record.promotion == {"promoted": True} and record.outputs["model"] == "s3://artifacts/model"
    assert record.seconds_by_stage == {"sft": 2.0, "promotion": 1.5}
    assert {path.name for path in (run_of / "r1").iterdir()} >= set(results.FILES.values())
    assert ended(run_of)["tutorloop_run_failed"] == 0


def test_an_attempt_that_failed_was_paid_for(run_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no ledger: its task was tried again and ended well."""
    preflight.run(given(run_of))
    monkeypatch.setenv("TUTORLOOP_RUN", "r1")
    with contextlib.suppress(ValueError), stage_run("sft", Artifact("", ""), records=str(run_of)) as stage:
        stage.usage, stage.rows_in = Usage(requests=7), 100
        raise ValueError
    results.keep(str(run_of), material(run_of / "made"))
    record = run_record.read(run_of / "r1")
    assert record.usage.requests == 7
    assert [(row.task, row.status, row.rows_in) for row in record.stages] == [("sft", "succeeded", 3)]


def test_the_record_of_a_run_that_fails_has_its_tasks_models_rows_and_cost(run_of: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.run(given(run_of))
    monkeypatch.setenv("TUTORLOOP_RUN", "r1")
    for name, error in (("sft", None), ("judging", ValueError())):
        with contextlib.suppress(ValueError), stage_run(name, Artifact("", ""), records=str(run_of)) as stage:
            stage.usage = Usage(requests=2)
            stage.models = [ModelEntry(id=name, role="sft")]
            if error:
                raise error
    record = run_record.finish(run_of / "r1", succeeded=False, error="no more")
    assert [(row.task, row.status) for row in record.stages] == [("sft", "succeeded"), ("judging", "failed")]
    assert record.usage.requests == 4 and [model.name for model in record.models] == ["sft", "judging"]
    assert run_record.read(run_of / "r1") == record


def test_killed_while_it_keeps_its_results_a_run_is_not_closed_without_them(run_of: Path) -> None:
    """Whoever looks after a run closes one with results as succeeded, so that they are named only when they are there."""
    made, home = material(run_of / "made"), str(run_of)

    def prepare(number: int) -> Callable[[], object]:
        shutil.rmtree(run_of / "r1", ignore_errors=True)
        preflight.run(given(run_of))
        return lambda: results.keep(home, made)

    seen = set()
    for _ in at_every_change(prepare):
        record, files = run_record.read(run_of / "r1"), {path.name for path in (run_of / "r1").iterdir()}
        assert record.status == "running"
        assert not record.outputs or files >= set(results.FILES.values())
        seen.add((bool(record.outputs), len(files & set(results.FILES.values()))))
        results.keep(home, made)
        assert run_record.read(run_of / "r1").status == "succeeded"
    assert seen == {*((False, number) for number in range(len(results.FILES) + 1)), (True, len(results.FILES))}


@pytest.mark.parametrize("succeeded", [True, False])
def test_killed_while_its_end_is_published_a_run_is_told_twice_rather_than_never(
    run_of: Path, monkeypatch: pytest.MonkeyPatch, succeeded: bool
) -> None:
    preflight.run(given(run_of))
    with killed_before(1), pytest.raises(Killed):
        run_record.finish(run_of / "r1", succeeded=succeeded, error="x")
    assert ended(run_of)["tutorloop_run_failed"] == (not succeeded), "published before it is noted"
    assert run_record.read(run_of / "r1").status == "running"
    (run_of / "metrics" / "run.prom").unlink()
    run_record.finish(run_of / "r1", succeeded=succeeded, error="x")
    assert ended(run_of)["tutorloop_run_failed"] == (not succeeded)


def test_what_an_earlier_run_paid_is_not_counted_as_paid_again(run_of: Path) -> None:
    opened = run_record.RunRecord(id="r1", profile="p", status="running", started_at="2026-01-02T00:00:00+00:00")

    def row(task: str, started_at: str, requests: int) -> StageRecord:
        usage = Usage(requests=requests, prompt_tokens=10 * requests, usd=requests / 4)
        return StageRecord(stage="solving", task=task, started_at=started_at, seconds=1.5, rows_in=4, rows_kept=3, usage=usage)

    ledger = [
        row("before", "2026-01-01T23:59:59+00:00", 8),
        row("first", "2026-01-02T00:00:00+00:00", 2),
        row("second", "2026-01-02T00:10:00+00:00", 1),
    ]
    record = run_record.from_ledger(opened, ledger)
    assert record.usage == Usage(requests=3, prompt_tokens=30, usd=0.75)
    assert record.usage_with_cached == Usage(requests=11, prompt_tokens=110, usd=2.75)
    assert [(stage.task, stage.cached) for stage in record.stages] == [("before", True), ("first", False), ("second", False)]
    assert record.seconds_by_stage == {"solving": 4.5}


def test_what_a_person_compares_says_what_the_run_changed(run_of: Path) -> None:
    arguments = given(run_of, seed=5.0)
    arguments["sft"] |= {"learning_rate": 2e-3, "packing": True}
    preflight.run(arguments)
    told = results.keep(str(run_of), material(run_of / "made"))
    assert told["accuracy % M0"] == 25.7 and told["headline"] == "The student improved." and told["record"] == str(run_of / "r1")
    changed = run_record.read(run_of / "r1").changed
    assert changed["seed"] == 5 and changed["sft.learning_rate"] == 2e-3
    assert told["set sft.learning_rate"] == 2e-3 and not [name for name in changed if name.startswith("judging")]
    assert told["set sft.packing"] == "true", "Kubeflow would show 1"


def test_what_a_run_changed_is_known_of_one_that_fails(run_of: Path) -> None:
    arguments = given(run_of, models="ftp://x")
    arguments["sft"]["epochs"] = 9.0
    with pytest.raises(StoreError):
        preflight.run(arguments)
    assert run_record.read(run_of / "r1").changed == {"sft.epochs": 9} == changes(str(run_of))


def test_results_that_are_not_there_leave_the_record_open(run_of: Path) -> None:
    preflight.run(given(run_of))
    made = material(run_of / "made")
    Path(made["ledger"].path).write_text("{}\n")
    with pytest.raises(InputError, match="not a valid StageRecord row"):
        results.keep(str(run_of), made)
    made = material(run_of / "again")
    Path(made["summary"].path).write_text("{}")
    with pytest.raises(KeyError):
        results.keep(str(run_of), made)
    assert run_record.read(run_of / "r1").status == "running"


def test_a_run_that_was_thought_lost_and_came_to_its_results_succeeded(run_of: Path) -> None:
    preflight.run(given(run_of))
    run_record.finish(run_of / "r1", succeeded=False, error="its node was lost")
    results.keep(str(run_of), material(run_of / "made"))
    record = run_record.read(run_of / "r1")
    assert (record.status, record.error) == ("succeeded", "")
    assert ended(run_of)["tutorloop_run_failed"] == 0


def test_the_end_is_recorded_even_where_nothing_began(run_of: Path) -> None:
    run_record.finish(run_of / "r1", succeeded=False, error="no image")
    record = run_record.read(run_of / "r1")
    assert (record.id, record.status, record.error) == ("r1", "failed", "no image")
    assert ended(run_of)["tutorloop_run_failed"] == 1


def test_what_a_watcher_knows_better_counts_and_is_published_once(run_of: Path) -> None:
    preflight.run(given(run_of))
    run_record.finish(run_of / "r1", succeeded=False, error="the run ended")
    (run_of / "metrics" / "run.prom").unlink()
    record = run_record.finish(run_of / "r1", succeeded=False, error="the disk is full", failed_stage="sft")
    assert (record.error, record.failed_stage) == ("the disk is full", "sft")
    assert not (run_of / "metrics" / "run.prom").exists()
