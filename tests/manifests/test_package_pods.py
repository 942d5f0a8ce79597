"""Every pod of every compiled package is one that the namespaces of both overlays take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.manifests.objects import Cluster, Object, Workload, workload
from tests.manifests.package_pods import NAMESPACE, PACKAGES, package_pods, refused
from tests.manifests.quota import asked

RESOURCES: Object = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_namespace_takes_every_pod(overlay: Cluster, package: Path) -> None:
    taken = {name: value for name, value in asked(overlay, NAMESPACE).items() if name != "pods"}
    pods = list(package_pods(package, overlay))
    assert len(pods) > 20
    complaints = [f"{pod.identity.name}: {reason}" for pod in pods for reason in refused(pod, overlay, taken)]
    assert not complaints, "\n".join(complaints)


def test_packages_of_both_overlays_are_among_them() -> None:
    overlays = {path.relative_to(ROOT).parts[2] for path in PACKAGES if "overlays" in path.parts}
    assert overlays == {"kind", "production"}
    assert len(PACKAGES) > len(overlays)


def _pod(**containers: Object) -> Workload:
    first = [{"name": name, "resources": given} for name, given in containers.items() if name == "init"]
    others = [{"name": name, "resources": given} for name, given in containers.items() if name != "init"]
    found = workload(
        {"kind": "Pod", "metadata": {"name": "task", "namespace": "home"}, "spec": {"initContainers": first, "containers": others}}
    )
    assert found is not None
    return found


def _namespace(kind: str, spec: Object) -> Cluster:
    return Cluster([{"kind": kind, "metadata": {"name": "it", "namespace": "home"}, "spec": spec}])


QUOTAS: list[tuple[str, str, str]] = [
    ("requests.cpu", "1010m", "1009m"),
    ("requests.memory", "1Gi", "1023Mi"),
    ("limits.cpu", "2500m", "2499m"),
    ("pods", "1", "0"),
]
SMALL: Object = {"requests": {"cpu": "10m", "memory": "0"}, "limits": {"cpu": "500m", "memory": "0"}}


@pytest.mark.parametrize(("name", "enough", "too_little"), QUOTAS)
def test_a_quota_that_is_too_small_is_noticed(name: str, enough: str, too_little: str) -> None:
    def found(limit: str) -> list[str]:
        return list(refused(_pod(main=RESOURCES, wait=SMALL), _namespace("ResourceQuota", {"hard": {name: limit}}), {}))

    assert found(enough) == []
    assert len(found(too_little)) == 1


def test_what_servers_have_taken_counts() -> None:
    cluster = _namespace("ResourceQuota", {"hard": {"requests.cpu": "2"}})
    assert not list(refused(_pod(main=RESOURCES), cluster, {"requests.cpu": 1.0}))
    assert list(refused(_pod(main=RESOURCES), cluster, {"requests.cpu": 1.1}))


def test_a_quota_wants_every_container_to_say_what_it_counts() -> None:
    quota = {"kind": "ResourceQuota", "metadata": {"name": "it", "namespace": "home"}, "spec": {"hard": {"requests.memory": "9Gi"}}}
    pod = _pod(main=RESOURCES, init={"requests": {"cpu": "1"}})
    assert list(refused(pod, Cluster([quota]), {})) == ["init: no memory in its requests, and a quota counts them"]
    limits: Object = {"kind": "LimitRange", "metadata": {"name": "it", "namespace": "home"}}
    given = {**limits, "spec": {"limits": [{"type": "Container", "defaultRequest": {"memory": "64Mi"}}]}}
    assert not list(refused(pod, Cluster([quota, given]), {}))


@pytest.mark.parametrize(
    ("entry", "complaints"),
    [
        ({"max": {"memory": "1Gi"}}, 0),
        ({"max": {"memory": "1023Mi"}}, 1),
        ({"max": {"ephemeral-storage": "1Gi"}}, 1),
        ({"max": {"ephemeral-storage": "1Gi"}, "default": {"ephemeral-storage": "1Gi"}}, 0),
        ({"min": {"cpu": "1"}}, 0),
        ({"min": {"cpu": "1001m"}}, 1),
    ],
)
def test_the_bounds_of_a_limit_range_count(entry: dict[str, Any], complaints: int) -> None:
    cluster = _namespace("LimitRange", {"limits": [{"type": "Container", **entry}]})
    assert len(list(refused(_pod(main=RESOURCES), cluster, {}))) == complaints
