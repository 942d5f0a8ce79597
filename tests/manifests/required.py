"""Whether Kubeflow's and Argo's containers are given what they end, or go wrong, without; ``required-2.17.0.yaml`` says what that is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tests.manifests.kubeflow import RELEASE
from tests.manifests.objects import Cluster, Object, Workload, read_yaml

FACTS = Path(__file__).with_name(f"required-{RELEASE}.yaml")
NAMESPACE = "kubeflow"


@cache
def facts() -> dict[str, list[dict[str, Any]]]:
    """``deployment/container`` to what it needs: setting, source, ways."""
    [found] = read_yaml(FACTS.read_text())
    return dict(found)


def unmet(cluster: Cluster) -> Iterator[str]:
    """What containers need and are given in none of the ways.

    Args:
        cluster: All layers of an overlay.

    Yields:
        Container and setting, with the place in the source that insists on it.
    """
    works = {work.identity.name: work for work in cluster.workloads if work.identity.namespace == NAMESPACE}
    for place, needs in facts().items():
        name, _, container_name = place.partition("/")
        work = works.get(name)
        container = next((part for part in work.containers if part["name"] == container_name), None) if work else None
        if work is None or container is None:
            yield f"{place}: there is no such container"
            continue
        for need in needs:
            if not any(_given(cluster, work, container, *way) for ways in need["ways"] for way in ways.items()):
                yield f"{place}: {need['setting']} comes from nowhere; needed by {need['source']}"


def _given(cluster: Cluster, work: Workload, container: Object, way: str, what: str) -> bool:
    if way == "image":
        return True
    if way == "env":
        return any(variable["name"] == what for variable in container.get("env", []))
    if way == "arg":
        return any(argument == what or argument.startswith(f"{what}=") for argument in container.get("args", []))
    if way == "mount":
        return any(mount["mountPath"] == what for mount in container.get("volumeMounts", []))
    if way == "configmap":
        name, _, key = what.partition("/")
        found = cluster.get("ConfigMap", NAMESPACE, name)
        return found is not None and (not key or key in found.get("data", {}))
    assert way in ("service", "reaches"), f"{FACTS.name}: no such way: {way}"
    if way == "service" and work.pod.get("enableServiceLinks") is False:
        return False
    return cluster.get("Service", NAMESPACE, what) is not None
