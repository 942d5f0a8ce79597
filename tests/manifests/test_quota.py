"""Everything that an overlay starts fits into the quotas of its namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.objects import Cluster, Object
from tests.manifests.policies import quantity
from tests.manifests.quota import above_default, asked, exceeded
from tests.manifests.run_pods import task_names
from tests.manifests.sample import changed, cluster

QUOTA: Object = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota", "namespace": "home"}}


def test_everything_fits(overlay: Cluster) -> None:
    assert list(exceeded(overlay)) == []


def test_no_default_limit_is_below_a_request(overlay: Cluster) -> None:
    assert list(above_default(overlay)) == []


def test_a_default_limit_below_a_request_is_noticed() -> None:
    items = changed(cluster(), "Deployment", "spec/template/spec/containers/0/resources", {"requests": {"memory": "2Gi"}})
    limits: Object = {"kind": "LimitRange", "metadata": {"name": "limits", "namespace": "home"}}
    assert list(above_default(Cluster([*items, {**limits, "spec": {"limits": [{"default": {"memory": "1Gi"}}]}}])))
    assert not list(above_default(Cluster([*items, {**limits, "spec": {"limits": [{"default": {"memory": "2Gi"}}]}}])))


def test_every_task_of_a_run_fits_by_itself(overlay: Cluster) -> None:
    [quota] = [item for item in overlay.of("ResourceQuota") if item["metadata"]["namespace"] == "kubeflow"]
    others = asked(overlay, "kubeflow")
    for task in (work for work in overlay.workloads if work.identity.name in task_names()):
        [container] = task.containers
        for name, request in container["resources"]["requests"].items():
            limit = quantity(quota["spec"]["hard"].get(f"requests.{name}", "1P"))
            assert quantity(request) + others.get(f"requests.{name}", 0.0) <= limit, f"{task.identity}: {name}"


def test_a_gpu_is_left_for_runs(overlay: Cluster) -> None:
    quota = overlay.get("ResourceQuota", "kubeflow", "tutorloop")
    assert quota is not None
    assert float(quota["spec"]["hard"]["requests.nvidia.com/gpu"]) > asked(overlay, "kubeflow").get("requests.nvidia.com/gpu", 0.0)


@pytest.mark.parametrize(
    ("name", "enough", "too_little"),
    [
        ("requests.cpu", "200m", "199m"),
        ("limits.memory", "128Mi", "127Mi"),
        ("pods", "2", "1"),
        ("persistentvolumeclaims", "1", "0"),
        ("requests.storage", "1Gi", "1023Mi"),
    ],
)
def test_a_quota_that_is_too_small_is_noticed(name: str, enough: str, too_little: str) -> None:
    def found(limit: str) -> list[str]:
        return list(exceeded(Cluster([*cluster(), {**QUOTA, "spec": {"hard": {name: limit}}}])))

    assert found(enough) == []
    assert len(found(too_little)) == 1


@pytest.mark.parametrize(
    ("kind", "path", "value", "cpu"),
    [
        ("Deployment", "spec/replicas", 3, 0.4),
        ("Deployment", "spec/template/spec/initContainers", [{"resources": {"requests": {"cpu": "2"}}}], 2.1),
    ],
)
def test_replicas_and_init_containers_count(kind: str, path: str, value: Any, cpu: float) -> None:
    assert asked(Cluster(changed(cluster(), kind, path, value)), "home")["requests.cpu"] == pytest.approx(cpu)
