"""Can the cluster give a run what its pods ask for? Asked of the Kubernetes API from within a pod."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from components.core.errors import TutorLoopError
from pipelines.parts.cluster import ClusterOptions, PodOptions, Toleration

TIMEOUT_S = (5.0, 60.0)
"""To connect, and to answer."""
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class TrainingPlan:
    """Where one training computes.

    Attributes:
        section: Section of the profile.
        nodes: 1 for the task's own pod, more for a TrainJob.
        gpus: GPUs of each.
        gpu_type: Resource name of the GPUs.
    """

    section: str
    nodes: int
    gpus: int
    gpu_type: str


class ClusterError(TutorLoopError):
    """The cluster cannot run what is asked for."""


def on_cluster() -> bool:
    """Whether this process runs in a pod that may speak to the Kubernetes API."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and NAMESPACE.is_file()


def connect() -> Any:
    """The core API, with the rights of the pod's service account."""
    from kubernetes import client, config

    config.load_incluster_config()
    return client.CoreV1Api()


def check_gpus(api: Any, cluster: ClusterOptions, trainings: Sequence[TrainingPlan], namespace: str = "") -> list[str]:
    """Check that quota and nodes can hold each pod with GPUs, and all nodes of a TrainJob.

    Args:
        api: ``kubernetes.client.CoreV1Api``.
        cluster: What the pods ask for.
        trainings: Where the run's trainings compute.
        namespace: Namespace of the runs; that of this pod when empty.

    Returns:
        What could not be checked or is only worth a word, in sentences.

    Raises:
        ClusterError: A pod could never start: the quota is smaller than what it asks for, or no node has it.
    """
    kinds = ["training"] if any(plan.nodes == 1 for plan in trainings) else []
    pods = [(kind, getattr(cluster.pods, kind)) for kind in [*kinds, "generation"]]
    pods = [(kind, pod) for kind, pod in pods if pod.gpus]
    wanted = [Wanted(f"a pod of {kind}", pod.gpu_type, pod.gpus, f"cluster.pods.{kind}.gpus") for kind, pod in pods]
    for plan in trainings:
        if plan.nodes > 1 and plan.gpus:
            what = f"the TrainJob of {plan.section}"
            wanted.append(Wanted(what, plan.gpu_type, plan.gpus * plan.nodes, f"{plan.section}.cluster.gpus or {plan.section}.nodes"))
    if not wanted:
        return []
    namespace = namespace or NAMESPACE.read_text().strip()
    told = list(_check_quota(api, namespace, wanted))
    return told + list(_check_nodes(api, pods, cluster.autoscaling))


@dataclass(frozen=True)
class Wanted:
    """GPUs that are asked for at once.

    Attributes:
        what: What asks, in words.
        gpu_type: Resource name.
        gpus: How many.
        setting: Parameter to lower.
    """

    what: str
    gpu_type: str
    gpus: int
    setting: str


def _check_quota(api: Any, namespace: str, asked: Sequence[Wanted]) -> Iterator[str]:
    quotas = _read(lambda: api.list_namespaced_resource_quota(namespace, _request_timeout=TIMEOUT_S).items)
    if quotas is None:
        yield f"the GPU quota was not checked: this service account may not list resourcequotas in {namespace}"
        return
    for quota in quotas:
        hard, used = quota.status.hard or {}, quota.status.used or {}
        for item in asked:
            # Kubernetes takes both forms for extended resources.
            names = [name for name in (f"requests.{item.gpu_type}", f"limits.{item.gpu_type}") if name in hard]
            for name in names:
                limit, taken = _number(hard[name]), _number(used.get(name, "0"))
                if limit < item.gpus:
                    raise ClusterError(
                        f"{item.what} asks for {item.gpus} {item.gpu_type}, and the quota {quota.metadata.name} of {namespace} "
                        f"allows {limit} in all",
                        f"raise {name} of the quota, or lower {item.setting} of the profile and compile again",
                    )
                if limit - taken < item.gpus:
                    yield f"{taken} of {limit} {item.gpu_type} in {namespace} are taken: {item.what} will wait for {item.gpus}"


def _check_nodes(api: Any, asked: list[tuple[str, PodOptions]], autoscaling: bool) -> Iterator[str]:
    nodes = _read(lambda: api.list_node(_request_timeout=TIMEOUT_S).items)
    if nodes is None:
        yield "nodes with GPUs were not looked for: this service account may not list nodes"
        return
    for kind, pod in asked:
        if any(_fits(node, pod) for node in nodes):
            continue
        wanted = f"a node with {pod.gpus} {pod.gpu_type}"
        if pod.node_selector:
            wanted += " and the labels " + ", ".join(f"{key}={value}" for key, value in sorted(pod.node_selector.items()))
        if not autoscaling:
            offered = max((_number((node.status.allocatable or {}).get(pod.gpu_type, "0")) for node in nodes), default=Decimal(0))
            raise ClusterError(
                f"a pod of {kind} needs {wanted}, and there is none (the most {pod.gpu_type} of a node: {offered})",
                f"add one, change cluster.pods.{kind} of the profile and compile again, or set cluster.autoscaling where nodes "
                "appear when they are asked for",
            )
        yield f"a pod of {kind} needs {wanted}: none is there, an autoscaler has to add it"


def _fits(node: Any, pod: PodOptions) -> bool:
    labels: Mapping[str, str] = node.metadata.labels or {}
    taints = [taint for taint in node.spec.taints or [] if taint.effect != "PreferNoSchedule"]
    # Many clusters let the admission controller ExtendedResourceToleration add that of the GPUs themselves.
    refused = [taint for taint in taints if taint.key != pod.gpu_type and not any(_tolerates(item, taint) for item in pod.tolerations)]
    return (
        not node.spec.unschedulable
        and not refused
        and all(labels.get(key) == value for key, value in pod.node_selector.items())
        and _number((node.status.allocatable or {}).get(pod.gpu_type, "0")) >= pod.gpus
    )


def _tolerates(toleration: Toleration, taint: Any) -> bool:
    same = (toleration.key, toleration.effect) == (taint.key, taint.effect)
    return same and (toleration.operator == "Exists" or toleration.value == (taint.value or ""))


def _number(quantity: str) -> Decimal:
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(quantity))


def _read(ask: Any) -> Any:
    """The answer, or None where the service account may not ask."""
    from kubernetes.client.exceptions import ApiException

    try:
        return ask()
    except ApiException as error:
        if error.status in (401, 403):
            return None
        raise ClusterError(f"the Kubernetes API answers {error.status} {error.reason}", "look at the state of the cluster") from error
