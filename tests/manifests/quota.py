"""Whether everything that an overlay starts fits into its namespaces' quotas: a pod that does not is refused, without a word elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.manifests.objects import Cluster, Object, Workload, identify
from tests.manifests.policies import quantity


def asked_by_containers(work: Workload) -> dict[str, float]:
    """What one pod asks for, by the names that quotas use."""
    total: dict[str, float] = defaultdict(float)
    for part in ("requests", "limits"):
        for container in work.pod["containers"]:
            for name, value in container.get("resources", {}).get(part, {}).items():
                total[f"{part}.{name}"] += quantity(value)
    for container in work.pod.get("initContainers", []):
        for part in ("requests", "limits"):
            for name, value in container.get("resources", {}).get(part, {}).items():
                total[f"{part}.{name}"] = max(total[f"{part}.{name}"], quantity(value))
    return {**total, "pods": 1.0}


def asked(cluster: Cluster, namespace: str) -> dict[str, float]:
    """What a namespace's workloads and claims ask for, all running at once.

    Args:
        cluster: The objects.
        namespace: Its name.

    Returns:
        Name of a resource, as quotas write it, to the sum.
    """
    total: dict[str, float] = defaultdict(float)
    claims: list[tuple[Object, int]] = []
    for work in cluster.workloads:
        if work.identity.namespace != namespace or work.identity.kind == "Pod":
            continue
        count = int(work.controller["spec"].get("replicas", 1)) if work.is_server else 1
        for name, value in asked_by_containers(work).items():
            total[name] += count * value
        claims += [(template["spec"], count) for template in work.controller["spec"].get("volumeClaimTemplates", [])]
    claims += [(item["spec"], 1) for item in cluster.of("PersistentVolumeClaim") if item["metadata"]["namespace"] == namespace]
    for spec, count in claims:
        total["persistentvolumeclaims"] += count
        total["requests.storage"] += count * quantity(spec["resources"]["requests"]["storage"])
    return total


def exceeded(cluster: Cluster) -> Iterator[str]:
    """Quotas that the objects of a cluster do not fit into."""
    for item in cluster.of("ResourceQuota"):
        sums = asked(cluster, item["metadata"]["namespace"])
        for name, limit in item["spec"]["hard"].items():
            if sums.get(name, 0.0) > quantity(limit):
                yield f"{identify(item)}: {name} is {limit}, and {sums[name]:.4g} are asked for"


def above_default(cluster: Cluster) -> Iterator[str]:
    """Requests without a limit, where the limit that the namespace then gives is lower: such a pod is refused."""
    for item in cluster.of("LimitRange"):
        namespace = item["metadata"]["namespace"]
        for entry in item["spec"]["limits"]:
            for work in (work for work in cluster.workloads if work.identity.namespace == namespace):
                for container in work.containers:
                    given = container.get("resources", {})
                    for name, limit in entry.get("default", {}).items():
                        request = given.get("requests", {}).get(name, "0")
                        if name not in given.get("limits", {}) and quantity(request) > quantity(limit):
                            yield f"{work.identity}: {container['name']} requests {name} {request}, its limit by default is {limit}"
