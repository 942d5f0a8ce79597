"""The templates that Kubeflow's compiler writes into every workflow, whatever the pipeline (KFP 2.17: argocompiler/container.go, dag.go).

They are a few kilobytes of each workflow; only their sizes count here.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
_SECCOMP = {"seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, **_SECCOMP}
_ENV = [
    {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    {"name": "KFP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
]
_VOLUMES = {
    "kfp-launcher": "/kfp-launcher",
    "gcs-scratch": "/gcs",
    "s3-scratch": "/s3",
    "minio-scratch": "/minio",
    "dot-local-scratch": "/.local",
    "dot-cache-scratch": "/.cache",
    "dot-config-scratch": "/.config",
}
IMAGE = "ghcr.io/kubeflow/kfp-launcher:2.17.0"
SERVERS = {
    "--ml_pipeline_server_address": "ml-pipeline.kubeflow.svc.cluster.local",
    "--ml_pipeline_server_port": "8887",
    "--mlmd_server_address": "metadata-grpc-service.kubeflow.svc.cluster.local",
    "--mlmd_server_port": "8080",
}
RETRY = ("retry-max-count", "retry-backoff-duration", "retry-backoff-factor", "retry-backoff-max-duration")
UID = "00000000-0000-4000-8000-000000000000"


def parameters(*names: str, **defaults: str) -> list[Json]:
    """Declared inputs, with or without a default."""
    return [*({"name": name} for name in names), *({"name": name.replace("_", "-"), "default": value} for name, value in defaults.items())]


def template(name: str, inputs: list[Json], body: Json, *, role: str = "", outputs: list[Json] | None = None) -> Json:
    """One template of a workflow."""
    annotations = {"pipelines.kubeflow.org/runtime-role": role} if role else {}
    return {
        "name": name,
        "inputs": {"parameters": inputs} if inputs else {},
        "outputs": {"parameters": outputs} if outputs else {},
        "metadata": {"annotations": {**annotations, "sidecar.istio.io/inject": "false"}},
        **body,
    }


def _driver(name: str, inputs: list[Json], outputs: list[Json], pipeline: str) -> Json:
    flags = [word for entry in (*inputs, *outputs) for word in (f"--{entry['name']}", f"{{{{inputs.parameters.{entry['name']}}}}}")]
    common = ["--pipeline_name", pipeline, "--run_id", UID, "--run_name", "{{workflow.name}}", "--run_display_name", pipeline]
    proxies = ["--http_proxy", "", "--https_proxy", "", "--no_proxy", "", "--publish_logs", "true"]
    time = ["--pipeline_job_create_time_utc", "{{workflow.creationTimestamp}}"]
    container = {
        "name": "",
        "image": IMAGE,
        "command": ["driver"],
        "args": [*flags, *common, *time, *proxies, *(word for pair in SERVERS.items() for word in pair)],
        "env": _ENV,
        "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
        "securityContext": _CONTAINER,
    }
    body = {"container": container, "securityContext": {"runAsNonRoot": True, **_SECCOMP}}
    return template(name, inputs, body, role="driver", outputs=outputs)


def output(name: str, default: str | None = None) -> Json:
    """A declared output that a driver writes as a file."""
    given = {} if default is None else {"default": default}
    return {"name": name, "valueFrom": {"path": f"/tmp/outputs/{name}", **given}}  # noqa: S108


CONTAINER_DRIVER_INPUTS = parameters(
    "component", "task", "container", "task-name", "parent-dag-id", iteration_index="-1", kubernetes_config=""
)
CONTAINER_DRIVER_OUTPUTS = [
    output("pod-spec-patch", ""),
    {**output("cached-decision", "false"), "default": "false"},
    output("condition", "true"),
]
DAG_DRIVER_INPUTS = parameters(
    "component", runtime_config="", task="", task_name="", parent_dag_id="0", iteration_index="-1", driver_type="DAG"
)
DAG_DRIVER_OUTPUTS = [output("execution-id"), output("iteration-count", "0"), output("condition", "true")]


def container_driver(pipeline: str) -> Json:
    """Template of the driver of a task."""
    return _driver("system-container-driver", CONTAINER_DRIVER_INPUTS, CONTAINER_DRIVER_OUTPUTS, pipeline)


def dag_driver(pipeline: str) -> Json:
    """Template of the driver of a layer."""
    return _driver("system-dag-driver", DAG_DRIVER_INPUTS, DAG_DRIVER_OUTPUTS, pipeline)


def executor(prefix: str, labels: list[str], retried: bool) -> list[Json]:
    """Templates of the pods of tasks: a layer that may be skipped, and the pod in it."""
    extra = [*labels, *(RETRY if retried else ())]
    passed = ["pod-spec-patch", *extra]
    inner = {
        "name": "executor",
        "template": f"{prefix}system-container-impl",
        "arguments": {"parameters": [{"name": name, "value": f"{{{{inputs.parameters.{name}}}}}"} for name in passed]},
        "when": "{{inputs.parameters.cached-decision}} != true",
    }
    declared = [*parameters("pod-spec-patch", cached_decision="false"), *parameters(*labels)]
    declared += [{"name": name, "default": "0"} for name in RETRY if retried]
    outer = template(f"{prefix}system-container-executor", declared, {"dag": {"tasks": [inner]}})
    mounts = [{"name": name, "mountPath": path} for name, path in _VOLUMES.items()]
    main = {
        "name": "",
        "image": "gcr.io/ml-pipeline/should-be-overridden-during-runtime",
        "command": ["should-be-overridden-during-runtime"],
        "envFrom": [{"configMapRef": {"name": "metadata-grpc-configmap", "optional": True}}],
        "env": [*_ENV, {"name": "KFP_RETRY_INDEX", "value": "{{retries}}"}],
        "resources": {},
        "volumeMounts": mounts,
        "securityContext": _CONTAINER,
    }
    launcher = {
        "name": "kfp-launcher",
        "image": IMAGE,
        "command": ["launcher-v2"],
        "args": ["--copy", "/kfp-launcher/launch", "--publish_logs", "true"],
        "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "100m"}},
        "volumeMounts": mounts[:1],
        "securityContext": _CONTAINER,
    }
    body: Json = {
        "container": main,
        "volumes": [{"name": name, "emptyDir": {}} for name in _VOLUMES],
        "initContainers": [launcher],
        "securityContext": _SECCOMP,
        "podSpecPatch": "{{inputs.parameters.pod-spec-patch}}",
    }
    if retried:
        limit, duration, factor, longest = (f"{{{{inputs.parameters.{name}}}}}" for name in RETRY)
        body["retryStrategy"] = {"limit": limit, "backoff": {"duration": duration, "factor": factor, "maxDuration": longest}}
    return [outer, template(f"{prefix}system-container-impl", parameters("pod-spec-patch", *extra), body, role="launcher")]


def importer(pipeline: str) -> Json:
    """Template of the pods that only name an artifact."""
    return _driver("system-importer", parameters("task", "component", "importer", "parent-dag-id"), [], pipeline)
