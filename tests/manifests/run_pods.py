"""The pods that Kubeflow makes of a run: they are in no manifest, and the manifests are there for them.

What they are given and how they are labelled is read from the compiled package of the 7B profile.
"""

from __future__ import annotations

from functools import cache

from components.student.options import ClusterOptions
from components.student.training.distributed.sharding import Spread
from components.student.training.distributed.trainjob_manifest import trainjob
from tests.conftest import ROOT
from tests.manifests.objects import Object, read_yaml

PACKAGE = ROOT / "pipelines" / "compiled" / "orca_math_7b.yaml"
OPTIONAL = {"tutorloop-hub", "tutorloop-pushgateway"}
"""Secrets that a cluster may do without. A task takes any as optional, so that it can say itself what is missing."""

STAGE = "tutorloop.dev/stage"
ENVIRONMENT = "tutorloop-environment"
TEACHER = "tutorloop-teacher"


@cache
def executors() -> dict[str, Object]:
    """Stage to the pod settings of its task, with its container."""
    pipeline, platform = read_yaml(PACKAGE.read_text())
    containers = {name: part.get("container", {}) for name, part in pipeline["deploymentSpec"]["executors"].items()}
    found = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].items()
    return {settings["podMetadata"]["labels"][STAGE]: {**settings, "container": containers[name]} for name, settings in found}


def environment_keys() -> set[str]:
    """Keys of the ConfigMap with the environment that some task reads."""
    maps = [part for settings in executors().values() for part in settings["configMapAsEnv"] if part["configMapName"] == ENVIRONMENT]
    return {entry["configMapKey"] for part in maps for entry in part["keyToEnv"]}


def stages_with(secret: str) -> set[str]:
    """Stages whose tasks are given a Secret."""
    return {stage for stage, settings in executors().items() if secret in {part["secretName"] for part in settings["secretAsEnv"]}}


def resources(settings: Object) -> Object:
    """What Kubernetes is asked for by a task with these settings; KFP writes only what the package names."""
    given = settings["container"].get("resources", {})
    found: Object = {"requests": {}, "limits": {}}
    for part, words in (("requests", "Request"), ("limits", "Limit")):
        for name, word in (("cpu", "Cpu"), ("memory", "Memory")):
            if value := given.get(f"resource{word}{words}"):
                found[part][name] = value
    if accelerator := given.get("accelerator"):
        found["limits"][accelerator["resourceType"]] = accelerator["resourceCount"]
        found["requests"][accelerator["resourceType"]] = accelerator["resourceCount"]
    return found


def _pod(name: str, labels: dict[str, str], settings: Object) -> Object:
    environment = {"env": _environment(settings), "envFrom": [{"configMapRef": {"name": ENVIRONMENT}}]}
    container = {"name": "main", **environment, "resources": resources(settings)}
    metadata = {"name": name, "namespace": "kubeflow", "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"serviceAccountName": "tutorloop-run", "containers": [container]},
    }


def _environment(settings: Object) -> list[Object]:
    return [
        {
            "name": entry["envVar"],
            "valueFrom": {
                "secretKeyRef": {"name": part["secretName"], "key": entry["secretKey"], "optional": part["secretName"] in OPTIONAL},
            },
        }
        for part in settings["secretAsEnv"]
        for entry in part["keyToEnv"]
    ]


@cache
def task_names() -> frozenset[str]:
    """Names of the pods of a run."""
    return frozenset({"run-driver", *(f"run-{stage}" for stage in executors())})


def _node(task: Object) -> Object:
    """A pod of the TrainJob that a training task starts, labelled by the task and by JobSet."""
    container = {**task["spec"]["containers"][0], "image": "trainer"}
    job = trainjob(
        "sft-1", [], Spread(local=8, nodes=2, batch=1, accumulation=1), ClusterOptions(), {**task, "spec": {"containers": [container]}}
    )
    [patch] = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    labels = patch["template"]["spec"]["template"]["metadata"]["labels"]
    return _pod("trainjob-node", {**labels, "jobset.sigs.k8s.io/jobset-name": "sft-1"}, executors()["sft"])


def run_pods() -> list[Object]:
    """A driver of Kubeflow's, a task of each stage, and a node of a training on several."""
    workflow = {"workflows.argoproj.io/workflow": "run-1", "pipeline/runid": "1"}
    tasks = [_pod(f"run-{stage}", {**workflow, **settings["podMetadata"]["labels"]}, settings) for stage, settings in executors().items()]
    [training] = [task for task in tasks if task["metadata"]["name"] == "run-sft"]
    return [_pod("run-driver", workflow, {"secretAsEnv": [], "container": {}}), *tasks, _node(training)]
