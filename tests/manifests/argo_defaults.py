"""What becomes of a workflow when Argo has put its defaults under it, and the names that KFP gives to a workflow's templates.

Argo merges as Kubernetes does (workflow/util/merge.go, MergeTo, a strategic merge of the Go type): mappings key by key, the list of
templates by name, any other value is the workflow's own where it has one. KFP's names are from kubeflow/pipelines 2.17.0,
backend/src/v2/compiler/argocompiler/container.go:359-392.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.manifests.objects import Cluster, Object, read_yaml


def defaults_of(cluster: Cluster) -> Object:
    """The defaults in Argo's configuration.

    Args:
        cluster: All layers of an overlay.
    """
    found = cluster.get("ConfigMap", "kubeflow", "workflow-controller-configmap")
    assert found is not None
    [defaults] = read_yaml(found["data"]["workflowDefaults"])
    return dict(defaults)


def merged(defaults: Object, workflow: Object) -> Object:
    """A workflow over the defaults.

    Args:
        defaults: What is used where the workflow says nothing.
        workflow: Wins.
    """
    result = {**defaults, **workflow}
    for key in defaults.keys() & workflow.keys():
        mine, given = workflow[key], defaults[key]
        if key == "templates":
            by_name = {entry["name"]: entry for entry in given}
            result[key] = [merged(by_name.pop(entry["name"], {}), entry) for entry in mine] + list(by_name.values())
        elif isinstance(mine, dict) and isinstance(given, dict):
            result[key] = merged(given, mine)
    return result


def workflow_of(package: Path) -> Object:
    """The part of the workflow that KFP makes of a package which has to do with retries and time to live.

    Args:
        package: As `tutorloop compile` writes it.

    Returns:
        A workflow with the templates that run a task's container, one of a driver and one of a graph.
    """
    pipeline, platform = read_yaml(package.read_text())
    kubernetes = platform["platforms"]["kubernetes"]
    templates: dict[str, Object] = {
        "system-container-driver": {"name": "system-container-driver", "container": {"image": "driver"}},
        "root": {"name": "root", "dag": {"tasks": []}},
    }
    for executor, retried in tasks_of(pipeline):
        name = name_of(kubernetes["deploymentSpec"]["executors"].get(executor, {}), retried)
        templates[name] = {"name": name, "container": {"image": "launcher"}}
        if retried:
            templates[name]["retryStrategy"] = {"limit": "{{inputs.parameters.retry-max-count}}", "backoff": {"duration": "2"}}
    spec: Object = {"templates": list(templates.values())}
    if ttl := kubernetes.get("pipelineConfig", {}).get("resourceTtlOnCompletion"):
        spec["ttlStrategy"] = {"secondsAfterCompletion": int(ttl)}
    return {"spec": spec}


def tasks_of(pipeline: Object) -> Iterator[tuple[str, bool]]:
    """Executor, and whether it has further attempts, of every task of a package that has a container."""
    components = pipeline["components"]
    dags = [pipeline["root"]["dag"], *(component["dag"] for component in components.values() if "dag" in component)]
    for task in (task for dag in dags for task in dag["tasks"].values()):
        component = components[task["componentRef"]["name"]]
        if "executorLabel" in component:
            yield component["executorLabel"], "retryPolicy" in task


def name_of(settings: Object, retried: bool) -> str:
    """Name of the template that runs a task's container.

    Args:
        settings: Of its executor, for Kubernetes.
        retried: Whether it has further attempts.
    """
    name = f"{'retry-' if retried else ''}system-container-impl"
    metadata = settings.get("podMetadata")
    if metadata is None:
        return name
    return f"metadata-{len(metadata.get('annotations', {}))}-{len(metadata.get('labels', {}))}-{name}"
