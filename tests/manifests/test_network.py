"""Who reaches whom: the flows that TutorLoop needs get through, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.manifests.conftest import Build
from tests.manifests.network import Peer, allowed, peer
from tests.manifests.objects import Cluster, Object, workload
from tests.manifests.run_pods import TEACHER, executors, run_pods, stages_with, task_names
from tests.manifests.sample import REMOVED, changed, cluster

TASKS = task_names()
TEACHERS = {"offline-teacher": 8000, "vllm-teacher": 8000}

FLOWS: set[tuple[str, str, int]] = {
    *((task, "minio", 9000) for task in TASKS),
    *((task, "pushgateway", 9091) for task in TASKS),
    *((task, teacher, port) for task in TASKS for teacher, port in TEACHERS.items()),
    *((task, "ml-pipeline", port) for task in TASKS for port in (8887, 8888)),
    *((task, "metadata-grpc-deployment", 8080) for task in TASKS),
    ("ml-pipeline", "minio", 9000),
    ("ml-pipeline-ui", "minio", 9000),
    ("minio-setup", "minio", 9000),
    ("tutorloop-sync", "ml-pipeline", 8888),
    ("tutorloop-sync-drift", "ml-pipeline", 8888),
    ("tutorloop-sync", "pushgateway", 9091),
    ("tutorloop-sync-drift", "pushgateway", 9091),
    ("tutorloop-runs", "minio", 9000),
    ("tutorloop-runs", "pushgateway", 9091),
    ("prometheus", "pushgateway", 9091),
    ("prometheus", "alertmanager", 9093),
    ("prometheus", "minio", 9000),
    ("prometheus", "ml-pipeline", 8888),
    ("grafana", "prometheus", 9090),
    ("ml-pipeline", "mysql", 3306),
    ("metadata-grpc-deployment", "mysql", 3306),
}
"""From a workload's pods to those of another, at a port: all there is into our namespace, out of it, to the database and from tasks."""

WITHIN_KUBEFLOW = {("ml-pipeline-ui", "ml-pipeline", 8888), ("ml-pipeline-persistenceagent", "ml-pipeline", 8887)}
"""Some of what Kubeflow's own parts need of one another; they are not kept apart."""

INTERNET = Peer(address="93.184.215.14")
READ_A_HUB = {"base-model", "collect-seeds", "collect-benchmarks", "sources-version"}
OUTSIDE = {f"run-{stage}" for stage in READ_A_HUB | stages_with(TEACHER)}
MAY_REACH_THE_INTERNET = {"kind": set(), "production": {"vllm-teacher", *OUTSIDE}}


def _peers(overlay: Cluster) -> dict[str, Peer]:
    return {work.identity.name: peer(work) for work in overlay.workloads}


def _ports(overlay: Cluster, name: str) -> set[int]:
    work = next(work for work in overlay.workloads if work.identity.name == name)
    return {port["containerPort"] for container in work.containers for port in container.get("ports", [])}


def _of_kubeflow_itself(overlay: Cluster, name: str) -> bool:
    return _peers(overlay)[name].namespace == "kubeflow" and name not in TASKS | {"trainjob-node"}


def test_exactly_the_known_flows_get_through(overlay: Cluster) -> None:
    peers = _peers(overlay)
    del peers["trainjob-node"]  # of an option; see below
    found = {
        (source, target, port)
        for source in peers
        for target in peers
        for port in _ports(overlay, target)
        if source != target and allowed(overlay, peers[source], peers[target], port)
        if not (_of_kubeflow_itself(overlay, source) and _of_kubeflow_itself(overlay, target)) or target == "mysql"
    }
    expected = {(source, target, port) for source, target, port in FLOWS if source in peers and target in peers}
    assert found == expected


def test_kubeflow_reaches_itself(overlay: Cluster) -> None:
    peers = _peers(overlay)
    for source, target, port in WITHIN_KUBEFLOW:
        assert allowed(overlay, peers[source], peers[target], port), f"{source} -> {target}:{port}"


def test_every_flow_has_both_ends_in_some_overlay(build: Build) -> None:
    names = {item["metadata"]["name"] for part in ("kind", "production") for item in build(f"overlays/{part}").items}
    names |= {item["metadata"]["name"] for item in run_pods()}
    assert {name for source, target, _ in FLOWS for name in (source, target)} <= names


def test_stages_are_called_what_tasks_are_labelled_with() -> None:
    assert executors().keys() >= READ_A_HUB
    assert stages_with(TEACHER) >= {"preflight", "solve", "synthesize", "judge"}


def test_everybody_of_ours_and_every_task_finds_names(overlay: Cluster) -> None:
    resolver = Peer("kube-system", {"k8s-app": "kube-dns"})
    for name, pod in _peers(overlay).items():
        if name != "trainjob-node":
            assert allowed(overlay, pod, resolver, 53, "UDP"), name


@pytest.mark.parametrize("overlay_name", MAY_REACH_THE_INTERNET)
def test_few_reach_the_internet_and_none_the_clouds_metadata(build: Build, overlay_name: str) -> None:
    items = [*build(f"overlays/{overlay_name}").items, *run_pods()]
    peers = {name: pod for name, pod in _peers(Cluster(items)).items() if not _of_kubeflow_itself(Cluster(items), name)}
    peers.pop("trainjob-node")
    assert {name for name, pod in peers.items() if allowed(Cluster(items), pod, INTERNET, 443)} == MAY_REACH_THE_INTERNET[overlay_name]
    for name, pod in peers.items():
        for port in (80, 443):
            assert not allowed(Cluster(items), pod, Peer(address="169.254.169.254"), port), name


def test_training_on_several_nodes_is_an_option(build: Build) -> None:
    items = [*build("overlays/production").items, *build("components/multi-node").items, *run_pods()]
    found, peers = Cluster(items), _peers(Cluster(items))
    node = peers["trainjob-node"]
    assert allowed(found, node, node, 29500)
    assert allowed(found, node, peers["minio"], 9000)
    assert allowed(found, node, peers["pushgateway"], 9091)
    assert not allowed(found, node, peers["ml-pipeline"], 8888)
    assert not allowed(found, node, peers["mysql"], 3306)
    assert not allowed(found, node, INTERNET, 443)


STRANGER = st.builds(
    Peer,
    st.sampled_from(["default", "elsewhere", "tutorloop"]),
    st.dictionaries(st.sampled_from(["app", "team", "workflows.argoproj.io/workflow"]), st.sampled_from(["minio", "ml-pipeline", "x"])),
)


@pytest.mark.parametrize("overlay_name", MAY_REACH_THE_INTERNET)
@settings(max_examples=20, deadline=None)
@given(stranger=STRANGER, port=st.integers(1, 65535))
def test_a_stranger_reaches_nothing(build: Build, overlay_name: str, stranger: Peer, port: int) -> None:
    found = build(f"overlays/{overlay_name}")
    for work in found.workloads:
        for number in (port, *_ports(found, work.identity.name)):
            assert not allowed(found, stranger, peer(work), number), work.identity


@pytest.mark.parametrize(
    ("path", "value", "reached"),
    [
        ("metadata/name", "same", {"task"}),
        ("spec/ingress", [], set()),
        ("spec/ingress", [{}], {"task", "other", "stranger", "outside"}),
        ("spec/ingress/0/from", REMOVED, {"task", "other", "stranger", "outside"}),
        ("spec/ingress/0/ports/0/port", 8080, {"task"}),
        ("spec/ingress/0/ports/0/port", 8081, set()),
        ("spec/ingress/0/ports/0", {"port": 8000, "endPort": 8100}, {"task"}),
        ("spec/ingress/0/ports/0/protocol", "UDP", set()),
        ("spec/ingress/0/from/0", {"namespaceSelector": {}}, {"task", "other", "stranger"}),
        ("spec/ingress/0/from/0/namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": "away"}}, {"stranger"}),
        ("spec/ingress/0/from/0", {"ipBlock": {"cidr": "0.0.0.0/0"}}, {"outside"}),
        ("spec/ingress/0/from/0", {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}, set()),
        ("spec/podSelector", {"matchLabels": {"app": "nobody"}}, {"task", "other", "stranger", "outside"}),
        ("spec/podSelector", {}, {"task"}),
        ("spec/policyTypes", ["Egress"], {"task", "other", "stranger", "outside"}),
    ],
)
def test_policies_are_understood_as_kubernetes_does(path: str, value: Any, reached: set[str]) -> None:
    found = Cluster(changed(cluster(), "NetworkPolicy", path, value))
    server = peer(next(work for work in found.workloads if work.identity.kind == "Deployment"))
    sources = {
        "task": Peer("home", {"app": "task"}),
        "other": Peer("home", {"app": "other"}),
        "stranger": Peer("away", {"app": "task"}),
        "outside": Peer(address="10.1.2.3"),
    }
    assert {name for name, source in sources.items() if allowed(found, source, server, 8080)} == reached


def test_leaving_needs_a_policy_too() -> None:
    deny: Object = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "away"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
    }
    found = Cluster([deny, {"kind": "Namespace", "metadata": {"name": "away"}}])
    assert not allowed(found, Peer("away"), Peer("home"), 80)
    assert allowed(found, Peer("home"), Peer("away"), 80)
    assert workload(deny) is None
