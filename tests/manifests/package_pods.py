"""The pods of a compiled package as Kubernetes sees them: with the containers that KFP and Argo put beside and before each task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT
from tests.manifests.objects import Cluster, Object, Workload, read_yaml, workload
from tests.manifests.policies import quantity
from tests.manifests.quota import asked_by_containers
from tests.manifests.run_pods import resources

NAMESPACE = "kubeflow"
PACKAGES = [
    *sorted((ROOT / "pipelines" / "compiled").glob("*.yaml")),
    *sorted((ROOT / "manifests/overlays").glob("*/release/packages/*-*.yaml")),
]

DRIVER: Object = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
"""Of KFP's drivers (kubeflow/pipelines 2.17.0, backend/src/v2/compiler/argocompiler/argo.go:555)."""
LAUNCHER: Object = {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "256Mi"}}
"""Of the container that copies KFP's launcher into a task's pod (the same file, line 570)."""


def beside(cluster: Cluster) -> Object:
    """Resources of the containers that Argo adds, as its configuration says."""
    found = cluster.get("ConfigMap", NAMESPACE, "workflow-controller-configmap")
    assert found is not None
    [executor] = read_yaml(found["data"]["executor"])
    return dict(executor["resources"])


def package_pods(package: Path, cluster: Cluster) -> Iterator[Workload]:
    """One pod for each executor of a package, and one of a driver's.

    Args:
        package: As `tutorloop compile` writes it.
        cluster: With Argo's configuration.
    """
    argo = beside(cluster)
    pipeline = read_yaml(package.read_text())[0]
    yield _pod("driver", DRIVER, [{"name": "init", "resources": argo}], argo)
    for name, executor in pipeline["deploymentSpec"]["executors"].items():
        first = [{"name": "init", "resources": argo}, {"name": "kfp-launcher", "resources": LAUNCHER}]
        yield _pod(name, resources(executor), first, argo)


def _pod(name: str, main: Object, first: list[Object], argo: Object) -> Workload:
    containers = [{"name": "main", "resources": main}, {"name": "wait", "resources": argo}]
    metadata = {"name": name, "namespace": NAMESPACE}
    found = workload({"kind": "Pod", "metadata": metadata, "spec": {"initContainers": first, "containers": containers}})
    assert found is not None
    return found


def refused(pod: Workload, cluster: Cluster, taken: dict[str, float]) -> Iterator[str]:
    """Why a namespace does not take a pod, whatever the nodes have.

    Args:
        pod: What it asks for.
        cluster: With the namespace's LimitRange and ResourceQuota.
        taken: What the namespace's servers ask for already, as `quota.asked` says it.
    """
    pod = _with_defaults(pod, {})
    for item in cluster.of("LimitRange"):
        if item["metadata"]["namespace"] == pod.identity.namespace:
            for entry in item["spec"]["limits"]:
                pod = _with_defaults(pod, entry)
                yield from _outside(pod, entry)
    total = asked_by_containers(pod)
    for item in cluster.of("ResourceQuota"):
        if item["metadata"]["namespace"] != pod.identity.namespace:
            continue
        for name, limit in item["spec"]["hard"].items():
            if total.get(name, 0.0) + taken.get(name, 0.0) > quantity(limit):
                yield f"{name}: {total[name]:g} and {taken.get(name, 0.0):g} of servers are more than the quota's {limit}"
            part, _, resource = name.partition(".")
            if part in ("requests", "limits") and resource in ("cpu", "memory"):
                yield from (
                    f"{container['name']}: no {resource} in its {part}, and a quota counts them"
                    for container in pod.containers
                    if resource not in container["resources"].get(part, {})
                )


def _with_defaults(pod: Workload, entry: Object) -> Workload:
    """What a LimitRange gives to containers that say nothing; a limit that is stated is the request as well."""
    filled = []
    for key in ("initContainers", "containers"):
        for container in pod.pod.get(key, []):
            given = container["resources"]
            limits = {**entry.get("default", {}), **given.get("limits", {})}
            requests = {**entry.get("defaultRequest", {}), **given.get("limits", {}), **given.get("requests", {})}
            filled.append((key, {**container, "resources": {"limits": limits, "requests": requests}}))
    spec = {key: [container for place, container in filled if place == key] for key in ("initContainers", "containers")}
    return Workload(pod.identity, pod.controller, pod.labels, spec)


def _outside(pod: Workload, entry: Object) -> Iterator[str]:
    for container in pod.containers if entry["type"] == "Container" else []:
        for part, bound, wrong in (("limits", "max", 1), ("requests", "min", -1)):
            for name, value in entry.get(bound, {}).items():
                stated = container["resources"].get(part, {}).get(name)
                if stated is None or wrong * (quantity(stated) - quantity(value)) > 0:
                    yield f"{container['name']}: {name} in its {part} is {stated}, and the namespace's {bound} is {value}"
