"""The TrainJob of a training on several nodes, as Kubeflow Trainer 2.2 and newer read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.student.options import ClusterOptions
from components.student.training.distributed.kubernetes_api import GROUP, VERSION
from components.student.training.distributed.sharding import Spread

CONTAINER = "node"
"""Name of the trainer's container, and of its replicated job, in the runtimes that come with Kubeflow Trainer."""
FOREIGN = ("KFP_", "_KFP_", "ARGO_", "PET_", "METADATA_", "ML_PIPELINE_", "KUBERNETES_")
"""Environment of the task's pod that says nothing to the nodes, or something wrong."""
KEPT_LABELS = ("tutorloop.dev/", "app.kubernetes.io/part-of", "pipeline/runid")
"""Of the task's pod: its environment reads run and pipeline from labels, and whoever looks for a run's pods finds the nodes as well."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
USER = 65532


def job_name(key: str) -> str:
    """Name of the TrainJob of a training: the same for every try, so that there are never two."""
    return f"train-{key[:24].lower()}"


def trainjob(name: str, command: list[str], spread: Spread, options: ClusterOptions, pod: Mapping[str, Any]) -> dict[str, Any]:
    """The TrainJob.

    Args:
        name: Its name.
        command: What each node runs.
        spread: Nodes and processes.
        options: The nodes.
        pod: The pod of the task that launches it: image, environment with references to Secrets, pull secrets, labels and owner are
            taken from there, so that the nodes are given what the profile gives to the task.
    """
    container = next((item for item in pod["spec"]["containers"] if item["name"] == "main"), pod["spec"]["containers"][0])
    labels = {key: value for key, value in pod["metadata"].get("labels", {}).items() if key.startswith(KEPT_LABELS)}
    labels["app.kubernetes.io/component"] = "training-node"
    metadata: dict[str, Any] = {"name": name, "labels": dict(labels)}
    if queue := options.queue or pod["metadata"].get("labels", {}).get(QUEUE_LABEL, ""):
        metadata["labels"][QUEUE_LABEL] = queue
    # The workflow, not this pod: a pod that is killed is replaced by one that goes on watching.
    owners = [{**owner, "controller": False, "blockOwnerDeletion": False} for owner in pod["metadata"].get("ownerReferences", [])]
    if owners:
        metadata["ownerReferences"] = owners
    resources: dict[str, Any] = {"cpu": options.cpu, "memory": options.memory}
    if options.gpus:
        resources[options.gpu_type] = str(options.gpus)
    spec: dict[str, Any] = {
        "runtimeRef": {"name": options.runtime},
        "trainer": {
            "image": container["image"],
            "command": command,
            "env": [item for item in container.get("env", []) if not item["name"].startswith(FOREIGN)],
            "numNodes": spread.nodes,
            "numProcPerNode": spread.local,
            "resourcesPerNode": {"requests": resources, "limits": resources},
        },
        "runtimePatches": [
            {
                "manager": "tutorloop.dev/launcher",
                "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [_patch(labels, options, pod)]}}},
            }
        ],
    }
    if options.deadline_hours:
        spec["activeDeadlineSeconds"] = max(1, round(options.deadline_hours * 3600))
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob", "metadata": metadata, "spec": spec}


def _patch(labels: Mapping[str, str], options: ClusterOptions, pod: Mapping[str, Any]) -> dict[str, Any]:
    """What the runtime leaves open about the pods: place, user, shared memory and a writable ``/tmp``."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}, {"name": "scratch", "mountPath": "/tmp"}]  # noqa: S108
    spec: dict[str, Any] = {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": options.shared_memory}},
            {"name": "scratch", "emptyDir": {"sizeLimit": options.scratch}},
        ],
        "containers": [{"name": CONTAINER, "securityContext": security, "volumeMounts": mounts}],
    }
    if options.node_selector:
        spec["nodeSelector"] = options.node_selector
    if options.tolerations:
        spec["tolerations"] = options.tolerations
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    if pod["spec"].get("imagePullSecrets"):
        spec["imagePullSecrets"] = pod["spec"]["imagePullSecrets"]
    return {"name": CONTAINER, "template": {"spec": {"template": {"metadata": {"labels": dict(labels)}, "spec": spec}}}}
