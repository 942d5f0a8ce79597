"""Command lines of kind and kubectl, and what is told when a cluster does not come up."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.kind.cluster import Kind, Kubectl
from tests.kind.commands import CommandError, WaitError
from tests.kind.deploy import Checkout, Deployment, build_images, troubles
from tests.kind.settings import Settings
from tests.kind_pieces.programs import Programs

CONFIG = Path("/nowhere/config")
FLAGS = "--kubeconfig /nowhere/config --context kind-lab"


@pytest.fixture
def kind() -> Kind:
    return Kind("lab", CONFIG)


def test_a_new_cluster_has_two_nodes_that_take_pods_and_leaves_the_users_kubeconfig_alone(programs: Programs, kind: Kind) -> None:
    programs.answers("taint nodes", err='error: taint "node-role.kubernetes.io/control-plane:NoSchedule" not found', status=1)
    kind.create("kindest/node:v1.36.1", seconds=60)
    created, tainted = programs.calls()
    assert created.startswith("kind create cluster --name lab --image kindest/node:v1.36.1 --config ")
    assert created.endswith("--kubeconfig /nowhere/config --wait 60s --retain")
    assert tainted == f"kubectl {FLAGS} taint nodes --all node-role.kubernetes.io/control-plane:NoSchedule-"


def test_a_taint_that_cannot_be_removed_for_another_reason_is_an_error(programs: Programs, kind: Kind) -> None:
    programs.answers("taint nodes", err="Forbidden", status=1)
    with pytest.raises(CommandError, match="Forbidden"):
        kind.create("kindest/node:v1.36.1")


OURS, THEIRS = "tutorloop/agents-python:1", "tutorloop/sync-python:2"


def listed(**images: str) -> str:
    """What crictl tells of a node: digests by reference."""
    return json.dumps({"images": [{"id": f"sha256:{digest}", "repoTags": [f"docker.io/{name}"]} for name, digest in images.items()]})


@pytest.mark.parametrize(
    ("first", "second", "loaded"),
    [
        ({}, {}, f" {OURS} {THEIRS}"),
        ({OURS: "a" * 64, THEIRS: "b" * 64}, {OURS: "a" * 64}, f" {THEIRS}"),
        ({OURS: "a" * 64, THEIRS: "b" * 64}, {OURS: "c" * 64, THEIRS: "b" * 64}, f" {OURS}"),
        ({OURS: "a" * 64, THEIRS: "b" * 64}, {OURS: "a" * 64, THEIRS: "b" * 64}, None),
    ],
    ids=["none is there", "one node lacks one", "one node has another of that name", "all are there"],
)
def test_only_images_that_are_new_to_a_node_are_loaded(
    programs: Programs, kind: Kind, first: dict[str, str], second: dict[str, str], loaded: str | None
) -> None:
    programs.answers("get nodes", out="lab-control-plane\nlab-worker\n")
    programs.answers("exec lab-control-plane crictl images", out=listed(**first))
    programs.answers("exec lab-worker crictl images", out=listed(**second))
    programs.answers("image inspect", out=f"sha256:{'a' * 64}\nsha256:{'b' * 64}\n")
    kind.load_images([OURS, THEIRS])
    calls = [call for call in programs.calls() if call.startswith("kind load")]
    assert calls == ([] if loaded is None else [f"kind load docker-image --name lab{loaded}"])


@pytest.mark.parametrize("there", [True, False])
def test_an_archive_is_loaded_unless_every_node_has_its_images(programs: Programs, kind: Kind, tmp_path: Path, there: bool) -> None:
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as archive:
        data = json.dumps([{"Config": f"blobs/sha256/{'d' * 64}", "RepoTags": ["mysql:8.4"]}]).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    programs.answers("get nodes", out="lab-worker\n")
    programs.answers("crictl images", out=listed(**{"library/mysql:8.4": "d" * 64} if there else {}))
    kind.load_archive(path)
    assert (f"kind load image-archive --name lab {path}" in programs.calls()) == (not there)


def test_an_archive_in_another_form_is_loaded(programs: Programs, kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "other.tar").write_bytes(b"no archive of docker")
    kind.load_archive(tmp_path / "other.tar")
    kind.delete()
    assert programs.calls() == [
        f"kind load image-archive --name lab {tmp_path / 'other.tar'}",
        "kind delete cluster --name lab --kubeconfig /nowhere/config",
    ]


def test_a_cluster_is_found_by_its_whole_name(programs: Programs, kind: Kind) -> None:
    programs.answers("get clusters", out="lab-2\nother\n")
    assert not kind.exists()
    programs.folder.joinpath("rules.json").write_text("[]")
    programs.answers("get clusters", out="other\nlab\n")
    assert kind.exists()


def test_the_context_that_is_chosen_is_used_as_it_is(programs: Programs) -> None:
    Kubectl("current")("get", "nodes")
    Kubectl("team")("get", "nodes")
    assert programs.calls() == ["kubectl get nodes", "kubectl --context team get nodes"]


def test_objects_are_applied_on_the_servers_side_and_force_is_for_pods_that_must_be_gone(programs: Programs, kind: Kind) -> None:
    kubectl = kind.kubectl
    kubectl.apply("kind: Thing")
    kubectl.delete("pod", "kubeflow", "a", now=True)
    kubectl.delete("job", "tutorloop", "b", "c")
    kubectl.wait("job/b", "Complete", "tutorloop", seconds=5)
    kubectl.patch_status("node", "n", [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}])
    assert programs.calls() == [
        f"kubectl {FLAGS} apply --server-side --force-conflicts --field-manager tutorloop-kind --filename -",
        f"kubectl {FLAGS} delete pod a --namespace kubeflow --ignore-not-found --grace-period 0 --force",
        f"kubectl {FLAGS} delete job b c --namespace tutorloop --ignore-not-found",
        f"kubectl {FLAGS} wait job/b --for condition=Complete --namespace tutorloop --timeout 5s",
        f"kubectl {FLAGS} patch node n --subresource status --type json "
        '--patch [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "1"}]',
    ]
    assert programs.read()[0] == "kind: Thing"


def test_lists_and_single_objects(programs: Programs, kind: Kind) -> None:
    programs.answers("get pods", out='{"items": [{"a": 1}]}')
    programs.answers("get node n", out='{"kind": "Node"}')
    assert kind.kubectl.get("pods", "kubeflow", labels="a=b,c") == [{"a": 1}]
    assert kind.kubectl.get("node", name="n") == {"kind": "Node"}
    assert programs.calls() == [
        f"kubectl {FLAGS} get pods --namespace kubeflow --selector a=b,c --output json --request-timeout 60s",
        f"kubectl {FLAGS} get node n --output json --request-timeout 60s",
    ]


LAYERS = {
    "crds": "kind: CustomResourceDefinition\nmetadata: {name: workflows.argoproj.io}\n---\nkind: Namespace\nmetadata: {name: kubeflow}\n",
    "platform": "kind: StatefulSet\nmetadata: {name: minio, namespace: tutorloop}\n---\nkind: ConfigMap\nmetadata: {name: c}\n",
    "pipelines": "kind: Deployment\nmetadata: {name: ml-pipeline, namespace: kubeflow}\n",
    "schedules": "kind: Job\nmetadata: {name: tutorloop-sync, namespace: tutorloop}\n",
}


class Built(Checkout):
    """Layers that need no kustomize."""

    def build(self, layer: str) -> str:
        return LAYERS[layer]


@pytest.fixture
def deployment(kind: Kind) -> Deployment:
    return Deployment(Built(Path("/nowhere")), kind.kubectl, Settings())


def job(state: str) -> str:
    return json.dumps({"status": {"conditions": [{"type": state, "status": "True"}]}})


def test_layers_come_in_order_each_when_the_one_before_works(programs: Programs, deployment: Deployment) -> None:
    programs.answers("get job", out=job("Complete"))
    deployment.all()
    assert [call.removeprefix(f"kubectl {FLAGS} ").split(" --")[0] for call in programs.calls()] == [
        "apply",
        "wait customresourcedefinition/workflows.argoproj.io",
        "delete job minio-setup",
        "apply",
        "rollout status statefulset/minio",
        "get job minio-setup",
        "apply",
        "rollout status deployment/ml-pipeline",
        "delete job tutorloop-sync",
        "apply",
        "get job tutorloop-sync",
    ]
    assert [text for text in programs.read() if text] == list(LAYERS.values())


def test_the_job_against_drift_rests_for_a_block_also_one_that_fails(programs: Programs, deployment: Deployment) -> None:
    programs.answers("get cronjob", out='{"status": {"lastScheduleTime": "2025-12-01T02:00:00Z"}}')
    with pytest.raises(ZeroDivisionError), deployment.without_drift():
        raise ZeroDivisionError
    suspended, looked, resumed = programs.calls()
    assert "patch cronjob tutorloop-sync-drift" in suspended and '"suspend": true' in suspended
    assert "get cronjob tutorloop-sync-drift" in looked and '"suspend": false' in resumed


def test_a_job_against_drift_that_is_at_work_is_waited_for(programs: Programs, kind: Kind) -> None:
    programs.answers("get cronjob", out='{"status": {"active": [{"name": "tutorloop-sync-drift-1"}]}}')
    impatient = Deployment(Built(Path("/nowhere")), kind.kubectl, Settings(patience=0.001))
    with pytest.raises(WaitError, match="CronJob"), impatient.without_drift():
        pytest.fail("it went on beside the job")
    assert '"suspend": false' in programs.calls()[-1]


SECRETS = """
kind: Secret
metadata: {name: minio-root, namespace: tutorloop}
---
kind: Secret
metadata: {name: mysql-secret, namespace: kubeflow}
---
kind: ConfigMap
metadata: {name: minio-root, namespace: tutorloop}
"""


def test_a_cluster_that_stays_keeps_its_keys(programs: Programs, kind: Kind) -> None:
    class WithSecrets(Checkout):
        def build(self, layer: str) -> str:
            return SECRETS

    programs.answers("get secrets --namespace tutorloop", out='{"items": [{"metadata": {"name": "minio-root"}}]}')
    programs.answers("get secrets --namespace kubeflow", out='{"items": []}')
    Deployment(WithSecrets(Path("/nowhere")), kind.kubectl, Settings()).layer("platform", "tutorloop")
    [applied] = [list(yaml.safe_load_all(text)) for text in programs.read() if text]
    assert [(item["kind"], item["metadata"]["name"]) for item in applied] == [("Secret", "mysql-secret"), ("ConfigMap", "minio-root")]


POD = {
    "metadata": {"name": "minio-0"},
    "status": {
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available: insufficient memory"}],
        "containerStatuses": [
            {"name": "minio", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
            {"name": "beside", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
        ],
    },
}


def test_a_server_that_does_not_come_up_is_named_with_what_its_pods_say(programs: Programs, deployment: Deployment) -> None:
    programs.answers("rollout status", err="error: timed out waiting for the condition", status=1)
    programs.answers("get pods", out=json.dumps({"items": [POD]}))
    with pytest.raises(CommandError) as caught:
        deployment.layer("platform", "tutorloop")
    message = str(caught.value)
    assert message.startswith("statefulset/minio does not come up")
    for text in ("timed out", "insufficient memory", "ImagePullBackOff: no such image", "ended with 137: OOMKilled"):
        assert text in message


def test_a_job_that_has_failed_is_told_at_once_with_its_log(programs: Programs, deployment: Deployment) -> None:
    programs.answers("get job", out=job("Failed"))
    programs.answers("logs job/tutorloop-sync", out="error: the pipeline is gone")
    programs.answers("get pods", err="the server is away", status=1)
    with pytest.raises(WaitError, match=r"tutorloop-sync has failed(.|\n)*the pipeline is gone") as caught:
        deployment.schedules()
    assert "cannot be told" in str(caught.value) and "the server is away" in str(caught.value)


def test_a_job_that_takes_too_long_is_told_with_its_log(programs: Programs, kind: Kind) -> None:
    programs.answers("get job", out='{"status": {}}')
    programs.answers("logs job/tutorloop-sync", out="waiting for Kubeflow")
    programs.answers("get pods", out='{"items": []}')
    with pytest.raises(WaitError, match=r"tutorloop-sync to be done(.|\n)*waiting for Kubeflow"):
        Deployment(Built(Path("/nowhere")), kind.kubectl, Settings(patience=0.001)).schedules()


def test_pods_that_are_well_are_no_trouble(programs: Programs, kind: Kind) -> None:
    programs.answers("get pods", out='{"items": [{"metadata": {"name": "a"}, "status": {"phase": "Running"}}]}')
    assert troubles(kind.kubectl, "kubeflow") == "all pods are well"


def test_images_are_built_for_cpus_with_the_wheels_and_certificates_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr("tests.kind.deploy.run", lambda command, **more: called.append(command))
    table = build_images(Settings(wheelhouse="wheels", certificate="/ca.pem"))
    assert table.name == "kind-images.json"
    line = " ".join(called[0][3:])
    assert line.startswith("images build agents trainer offline-teacher sync --build-arg TORCH=cpu --table ")
    assert line.endswith("--wheelhouse wheels --ca-cert /ca.pem")
