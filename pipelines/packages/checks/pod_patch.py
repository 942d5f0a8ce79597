"""What Kubeflow's driver hands to the pod of a task (KFP 2.17: backend/src/v2/driver): its inputs and outputs, and a patch of its pod.

Ids, addresses and measured values are stand-ins of the length and variety that they have in a run, the same ones each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipelines.packages.checks.argo_templates import SERVERS, UID, Json
from pipelines.packages.checks.go_json import dumps
from pipelines.packages.checks.ir import Package, Path, Task
from pipelines.packages.checks.origins import Origin, origins

STORE = "s3://artifacts/runs"
METADATA_BYTES = {"system.Metrics": 450}
"""What a task's record carries beside its file; it travels with the record into every task that takes it."""
OTHER_METADATA_BYTES = 300


def noise(seed: str, length: int) -> str:
    """Hexadecimal digits that nothing else has."""
    text = ""
    while len(text) < length:
        text += hashlib.sha256(f"{seed}{len(text)}".encode()).hexdigest()
    return text[:length]


def uuid(seed: str) -> str:
    """An id as Kubeflow makes them."""
    digits = noise(seed, 32)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class Inputs:
    """Resolves the inputs and outputs of tasks of one package."""

    def __init__(self, package: Package, iterations: Mapping[Path, int]) -> None:
        """Prepare.

        Args:
            package: The package.
            iterations: Iterations of each loop, by its path.
        """
        self._package = package
        self._iterations = iterations
        self._origins: dict[tuple[Path, str], frozenset[Origin]] = {}

    def executor_input(self, task: Task, values: Mapping[str, Any], salt: str) -> str:
        """The JSON that the launcher gets as one argument, and user code once more.

        Args:
            task: A task that works.
            values: Its parameters.
            salt: Makes the ids of this iteration its own.
        """
        artifacts = {name: {"artifacts": self._inputs(task, name, salt)} for name in sorted(task.artifacts)}
        folder = f"{self._package.name}/{UID}/{task.key}/{uuid(task.where + salt)}"
        declared = task.component.get("outputDefinitions", {})
        made = {name: output["artifactType"] for name, output in declared.get("artifacts", {}).items()}
        made["executor-logs"] = {"schemaTitle": "system.Artifact"}
        outputs = {
            "artifacts": {
                name: {"artifacts": [{"name": name, "type": kind, "uri": f"{STORE}/{folder}/{name}"}]}
                for name, kind in sorted(made.items())
            },
            "parameters": {name: {"outputFile": f"/tmp/kfp/outputs/{name}"} for name in declared.get("parameters", {})},  # noqa: S108
            "outputFile": f"/s3/artifacts/runs/{folder}/output_metadata.json",
        }
        return dumps({"inputs": {"parameterValues": dict(values), "artifacts": artifacts}, "outputs": outputs})

    def _inputs(self, task: Task, name: str, salt: str) -> list[Json]:
        if (task.path, name) not in self._origins:
            self._origins[task.path, name] = origins(self._package, task, name)
        found = sorted(self._origins[task.path, name])
        if not found:
            return []
        origin = found[0]
        kind = task.declared("artifacts").get(name, {}).get("artifactType", {"schemaTitle": "system.Artifact"})
        length = METADATA_BYTES.get(kind["schemaTitle"], OTHER_METADATA_BYTES)
        return [self._artifact(origin, kind, length, f"{salt}/{number}") for number in range(self._count(origin))]

    def _count(self, origin: Origin) -> int:
        """How many artifacts a collected input holds: iterations of every loop between the task and whoever collects."""
        number = 1
        if origin.loop is not None:
            for end in range(len(origin.loop), len(origin.path)):
                number *= self._iterations.get(origin.path[:end], 1)
        return number

    def _artifact(self, origin: Origin, kind: Mapping[str, Any], length: int, salt: str) -> Json:
        producer = origin.path[-1] if origin.path else "importer"
        seed = f"{origin}{salt if origin.loop else ''}"
        number = int(noise(seed, 6), 16)
        # About half of it are names and braces that repeat, the rest numbers that no two artifacts share.
        fields = {f"measured_{index}": float(f"0.{int(noise(f'{seed}{index}', 12), 16)}") for index in range(length // 36)}
        return {
            "name": f"{origin.key}",
            "type": dict(kind),
            "uri": f"{STORE}/{self._package.name}/{UID}/{producer}/{uuid(seed)}/{origin.key}",
            "metadata": {"display_name": origin.key, **fields},
            "artifactId": str(number % 100_000),
        }


def pod_patch(package: Package, task: Task, executor_input: str, component: str) -> str:
    """The patch of a task's pod, as the driver leaves it.

    Args:
        package: The package.
        task: A task that works.
        executor_input: Its inputs and outputs.
        component: JSON of its component.
    """
    container = package.container(task.component) or {}
    settings = package.executors_on_kubernetes.get(task.component["executorLabel"], {})
    given = {"--pipeline_name": package.name, "--run_id": UID, "--execution_id": "1000", "--executor_input": executor_input}
    given |= {
        "--component_spec": component,
        "--pod_name": "$(KFP_POD_NAME)",
        "--pod_uid": "$(KFP_POD_UID)",
        **SERVERS,
        "--publish_logs": "true",
    }
    main: Json = {
        "name": "main",
        "image": container.get("image", ""),
        "command": ["/kfp-launcher/launch", *(word for pair in given.items() for word in pair), "--"],
        "args": [*container.get("command", []), *container.get("args", [])],
        "env": [*container.get("env", []), *_environment(settings)],
        "resources": _resources(container.get("resources", {})),
        "securityContext": settings.get("securityContext", {}),
    }
    pod: Json = {"containers": [main], "activeDeadlineSeconds": settings.get("activeDeadlineSeconds", "")}
    mounts = [*settings.get("pvcMount", []), *settings.get("emptyDirMounts", [])]
    if mounts:
        pod["volumes"] = mounts
        main["volumeMounts"] = mounts
    for name in ("nodeSelector", "tolerations", "imagePullSecret"):
        if name in settings:
            pod[name] = settings[name]
    return dumps(pod)


def _environment(settings: Mapping[str, Any]) -> list[Json]:
    variables: list[Json] = []
    for entry in settings.get("secretAsEnv", []):
        name = entry.get("secretName", entry.get("secretNameParameter", {}).get("runtimeValue", {}).get("constant", ""))
        for key in entry.get("keyToEnv", []):
            reference = {"name": name, "key": key["secretKey"], "optional": bool(entry.get("optional", False))}
            variables.append({"name": key["envVar"], "valueFrom": {"secretKeyRef": reference}})
    for entry in settings.get("configMapAsEnv", []):
        name = entry.get("configMapName", entry.get("configMapNameParameter", {}).get("runtimeValue", {}).get("constant", ""))
        for key in entry.get("keyToEnv", []):
            reference = {"name": name, "key": key["configMapKey"], "optional": bool(entry.get("optional", False))}
            variables.append({"name": key["envVar"], "valueFrom": {"configMapKeyRef": reference}})
    fields = settings.get("fieldPathAsEnv", [])
    return [*variables, *({"name": entry["name"], "valueFrom": {"fieldRef": {"fieldPath": entry["fieldPath"]}}} for entry in fields)]


def _resources(given: Mapping[str, Any]) -> Json:
    limits = {"memory": given.get("resourceMemoryLimit"), "cpu": given.get("resourceCpuLimit")}
    if accelerator := given.get("accelerator"):
        limits[accelerator.get("resourceType", "")] = accelerator.get("resourceCount")
    requests = {"memory": given.get("resourceMemoryRequest"), "cpu": given.get("resourceCpuRequest")}
    return {kind: {name: value for name, value in values.items() if value} for kind, values in (("limits", limits), ("requests", requests))}
