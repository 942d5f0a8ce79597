"""Several nodes: a TrainJob trains, its launcher may be killed, its failures are told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.errors import ParameterError
from components.core.options import parse_options
from components.core.records import write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.core.store.model_files import receive
from components.sft.options import SFTOptions
from components.sft.stage import run
from components.student.models.load import read_info
from components.student.options import ClusterOptions
from components.student.training.distributed import node
from components.student.training.distributed.kubernetes_api import ClusterError
from components.student.training.distributed.launcher import Place
from components.student.training.distributed.sharding import Spread
from components.student.training.distributed.trainjob_manifest import job_name, trainjob
from components.student.training.fitting import Fit, Outcome
from components.student.training.job import Job, make_job, write_job, write_result
from tests.support.kills import at_every_change
from tests.support.kubernetes_double import TRAINJOBS, KubernetesDouble, task_pod
from tests.support.s3 import S3Server
from tests.support.student_material import demonstrations, make_model, weights
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
SFT: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 4, "log_points": 1000, "cluster": {"poll_seconds": 0.2, "gpus": 0}}
SPREAD = Spread(local=2, nodes=3, batch=1, accumulation=1)
Start = Callable[..., KubernetesDouble]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainjob")
    write_records(folder / "train.jsonl", demonstrations(10))
    make_model(folder / "M0")
    return folder


@pytest.fixture
def cluster(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    doubles: list[KubernetesDouble] = []

    def start(**options: Any) -> KubernetesDouble:
        folder = tmp_path / "cluster"
        folder.mkdir()
        doubles.append(KubernetesDouble(folder, s3_server.environment(), **options))
        monkeypatch.setenv("KUBECONFIG", str(doubles[-1].kubeconfig()))
        monkeypatch.setenv("KFP_POD_NAME", doubles[-1].task_pod["metadata"]["name"])
        return doubles[-1]

    yield start
    for double in doubles:
        double.close()


def tune(material: Path, output: Path, store: str, **options: Any) -> StageRun:
    stage = StageRun("sft")
    parsed = parse_options(SFTOptions, {**SFT, **options}, "sft")
    run(str(material / "M0"), str(material / "train.jsonl"), parsed, stage, checkpoints=store, seed=1, output=str(output))
    return stage


LAUNCHER = """
import json, sys
from pathlib import Path
from components.core.stage import readable_errors
from tests.unit.student.test_trainjob import tune

material, output, store, options = sys.argv[1:]
with readable_errors("sft"):
    stage = tune(Path(material), Path(output), store, **json.loads(options))
print("counts", json.dumps([stage.counts, stage.curves]))
"""


def launched(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCHER, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.timeout(1200)
def test_two_nodes_train_one_model_though_launcher_and_node_are_killed(
    material: Path, cluster: Start, s3_bucket: str, tmp_path: Path
) -> None:
    double, store = cluster(retries=6), open_store(s3_bucket)
    options = {"epochs": 40, "nodes": 2, "processes": 1, "checkpoint_seconds": 0.5}
    arguments = (str(material), str(tmp_path / "M1"), s3_bucket, json.dumps(options))
    first = launched(*arguments)
    wait_until(lambda: first.poll() is not None or any(key.endswith("/complete") for key in store.list()), 500)
    assert first.poll() is None, first.communicate()[0]
    first.kill()
    first.wait()
    (nodes,) = double.nodes.values()
    assert len(nodes) == 2
    nodes[1].preempt()
    second = launched(*arguments)
    try:
        said, _ = second.communicate(timeout=500)
    finally:
        second.kill()
    assert second.returncode == 0, said + nodes[0].log.read_text() + nodes[1].log.read_text()
    assert "is at work already" in said
    assert nodes[1].starts > 1
    assert len(double.created) == [method for method, _ in double.requests].count("POST") == 1
    counts, curve = json.loads(said.rpartition("counts ")[2])
    assert 0 < counts["resumed_at_step"] < counts["steps"] == len(curve) == 100
    assert (counts["processes"], read_info(tmp_path / "M1").training["steps"]) == (2, 100)
    # Nothing is left but the models, which others may refer to.
    assert not double.jobs
    assert {key.split("/")[0] for key in store.list()} == {"models"}
    alone = tune(material, tmp_path / "alone", str(tmp_path / "store"), epochs=40)
    assert [point["loss"] for point in curve] == pytest.approx([point["loss"] for point in alone.curves], abs=2e-3)
    assert weights(tmp_path / "M1").keys() == weights(tmp_path / "alone").keys()


def test_a_failed_job_is_told_with_its_last_lines_and_replaced_by_the_next_try(
    material: Path, cluster: Start, s3_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double = cluster(command=["sh", "-c", "echo the driver of the GPU is too old; exit 3"])
    for tries in (1, 2):
        with pytest.raises(ClusterError, match=r"failed \(FailedJobs: jobset failed[\s\S]*run again"):
            tune(material, tmp_path / "M1", s3_bucket, nodes=2, processes=1)
        # The first node that fails ends the other one, which may not have said anything by then.
        assert re.search("node-0-[01]-x7k2p:\nthe driver of the GPU is too old", capsys.readouterr().out)
        assert len(double.created) == tries
    assert not (tmp_path / "M1").exists()


@pytest.mark.parametrize(
    ("verb", "resource", "message"),
    [
        ("get", "trainjobs", "get trainjobs of trainer.kubeflow.org in kubeflow"),
        ("create", "trainjobs", "create trainjobs of trainer.kubeflow.org in kubeflow"),
        ("get", "pods", "get pods in kubeflow"),
    ],
)
def test_a_missing_right_is_named(
    material: Path, cluster: Start, s3_bucket: str, tmp_path: Path, verb: str, resource: str, message: str
) -> None:
    cluster().forbidden.add((verb, resource))
    with pytest.raises(ClusterError, match=rf"is forbidden: User[\s\S]*let the task's service account {message} \(a Role\)"):
        tune(material, tmp_path / "M1", s3_bucket, nodes=2, processes=1)


def test_logs_that_may_not_be_read_hide_no_failure(
    material: Path, cluster: Start, s3_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(command=["false"]).forbidden.add(("get", "pods/log"))
    with pytest.raises(ClusterError, match="FailedJobs"):
        tune(material, tmp_path / "M1", s3_bucket, nodes=2, processes=1)
    assert "no log: get pods/log" in capsys.readouterr().out


def test_a_cluster_without_trainer_is_told(material: Path, cluster: Start, s3_bucket: str, tmp_path: Path) -> None:
    cluster().installed = False
    with pytest.raises(ClusterError, match="install Kubeflow Trainer"):
        tune(material, tmp_path / "M1", s3_bucket, nodes=2, processes=1)


def test_a_node_that_is_killed_leaves_no_result_without_its_model(
    material: Path, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher takes a result for the end of the training."""
    outcome = Outcome(info=read_info(material / "M0"), curve=[], steps=3, resumed_at_step=0)

    def trained(folder: Path, job: Job, *arguments: object) -> None:
        shutil.copytree(material / "M0", job.output)
        write_result(folder, outcome)

    monkeypatch.setattr("components.student.training.distributed.launcher.run", trained)
    fit = Fit(kind="sft", columns={}, learning_rate=1.0, seed=1, name="M1", config={}, facts={})
    write_job(tmp_path / "job", make_job("M0", fit, parse_options(SFTOptions, SFT, "sft"), SPREAD, "", "key"))

    def prepare(number: int) -> Callable[[], object]:
        store = f"{s3_bucket}/{number}"
        open_store(store).upload(tmp_path / "job", node.job_key("key"))
        return lambda: node.run(store, "key", Place(0, "", 0))

    killed = 0
    for number in at_every_change(prepare):
        assert not open_store(f"{s3_bucket}/{number}").exists(node.result_key("key"))
        killed = number
    assert killed == sum(path.is_file() for path in (material / "M0").rglob("*")) + 2, "files, their marker, the result"
    found = open_store(f"{s3_bucket}/{killed + 1}").read(node.result_key("key"))
    receive(msgspec.json.decode(found, type=node.Result).model, tmp_path / "received")
    assert read_info(tmp_path / "received") == outcome.info


def test_several_nodes_need_a_store_that_all_of_them_see(material: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="share no disk"):
        tune(material, tmp_path / "M1", str(tmp_path), nodes=2, processes=1)


def test_several_nodes_need_a_cluster(material: Path, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="several nodes need a cluster"):
        tune(material, tmp_path / "M1", s3_bucket, nodes=2, processes=1)


def test_the_trainjob_gives_its_nodes_what_the_task_has() -> None:
    options = ClusterOptions(
        gpus=8,
        node_selector={"pool": "a100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
        queue="training",
        service_account="tutorloop-run",
        deadline_hours=1.5,
    )
    job = trainjob(job_name("0AF" * 20), ["python3"], SPREAD, options, task_pod({"AWS_SECRET_ACCESS_KEY": "hidden"}))
    assert job["metadata"]["name"] == "train-0af0af0af0af0af0af0af0af"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "training"
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("Workflow", False, False)
    trainer = job["spec"]["trainer"]
    assert trainer["image"].endswith("@sha256:0abc") and (trainer["numNodes"], trainer["numProcPerNode"]) == (3, 2)
    assert {item["name"] for item in trainer["env"]} == {"AWS_SECRET_ACCESS_KEY", "TUTORLOOP_RUN"}
    assert "hidden" not in json.dumps(job)
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "8"
    assert job["spec"]["activeDeadlineSeconds"] == 5400
    (patch,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pods = patch["template"]["spec"]["template"]
    labels = pods["metadata"]["labels"]
    assert (labels["tutorloop.dev/stage"], labels["pipeline/runid"]) == ("sft", "1")
    assert "workflows.argoproj.io/workflow" not in labels, "network policies would let it go wherever tasks go"
    read = [item["valueFrom"]["fieldRef"]["fieldPath"] for item in trainer["env"] if "fieldRef" in item["valueFrom"]]
    assert [labels[path.removeprefix("metadata.labels['").removesuffix("']")] for path in read] == ["1"]
    assert (pods["spec"]["nodeSelector"], pods["spec"]["serviceAccountName"]) == ({"pool": "a100"}, "tutorloop-run")
    assert pods["spec"]["securityContext"]["runAsNonRoot"] and pods["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_only_the_rights_that_are_documented_are_used(material: Path, cluster: Start, s3_bucket: str, tmp_path: Path) -> None:
    double = cluster(command=["false"])
    with pytest.raises(ClusterError):
        tune(material, tmp_path / "M1", s3_bucket, nodes=2, processes=1)
    used = {(method, path.removeprefix(TRAINJOBS).count("/") if path.startswith(TRAINJOBS) else "pods") for method, path in double.requests}
    assert used <= {("GET", 1), ("POST", 0), ("DELETE", 1), ("GET", "pods")}
