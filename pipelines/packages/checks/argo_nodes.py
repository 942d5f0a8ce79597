"""The nodes that a workflow holds at its end: a small Argo carries out the compiled workflow, with stand-ins for Kubeflow's drivers.

Argo keeps a node for each template that it carries out, with all inputs and outputs (Argo 4.0: workflow/controller/operator.go). Where a
template has a retry strategy it keeps two: one of type Retry that stands for all attempts, with a second copy of everything, and one for
each attempt. That is the pods of tasks with attempts; with Kubeflow's own defaults every driver and graph as well
(manifests/components/kubeflow/patches/retries.yaml does without). A driver's output, the patch of a pod, is an input of the layer around
the pod and of the pod, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.packages.checks.argo_spec import Compiled
from pipelines.packages.checks.argo_templates import Json
from pipelines.packages.checks.ir import Path
from pipelines.packages.checks.pod_patch import Inputs, noise, pod_patch

UNKNOWN_ITEMS = 8
"""Iterations of a loop over what a task finds out."""
_SUFFIX = "-abcde"
_REFERENCE = re.compile(r"\{\{(.+?)\}\}")
_TIME = "2026-01-01T00:%s:%sZ"
Values = Mapping[str, Any]


@dataclass(frozen=True)
class _Layer:
    """What a driver of a layer notes in Kubeflow's record."""

    path: Path
    values: Values
    salt: str = ""
    items: tuple[Any, ...] | None = None


@dataclass
class Nodes:
    """The nodes of a workflow.

    Attributes:
        compiled: The workflow.
        everywhere: Every template has a retry strategy, and not only those of tasks with attempts.
        by_id: The nodes, as Argo keeps them.
        pods: How many of them are pods.
        executor_inputs: Bytes of the longest JSON that a task gets, by its path.
    """

    compiled: Compiled
    everywhere: bool = False
    by_id: dict[str, Json] = field(default_factory=dict)
    pods: int = 0
    executor_inputs: dict[Path, int] = field(default_factory=dict)
    _layers: dict[str, _Layer] = field(default_factory=dict)
    _iterations: dict[Path, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Carry the workflow out."""
        self._package = self.compiled.package
        self._inputs = Inputs(self._package, self._iterations)
        self._workflow = self._package.name + _SUFFIX
        self._template("entrypoint", self._workflow, {}, "", {})

    def _template(self, name: str, node_name: str, given: Mapping[str, str], boundary: str, flag: Json) -> tuple[str, Json, list[str]]:
        """Carry out a template: id of its node, its outputs, ids of the nodes that it ends with."""
        template = self.compiled.templates[name]
        inputs = [
            {**declared, "value": given[declared["name"]]}
            if declared["name"] in given
            else {**declared, "value": declared.get("default", "")}
            for declared in template["inputs"].get("parameters", [])
        ]
        outer = None
        if self.everywhere or "retryStrategy" in template:
            outer = self._node(node_name, "Retry", name, boundary, flag, inputs)
            flag, node_name = {**flag, "retried": True}, f"{node_name}(0)"
        kind = "DAG" if "dag" in template else "Pod"
        node = self._node(node_name, kind, name, boundary, flag, inputs)
        if outer is not None:
            outer["children"] = [node["id"]]
        values = {entry["name"]: entry["value"] for entry in inputs}
        outputs = self._dag(template, node, values) if kind == "DAG" else self._pod(template, node, values)
        if outer is not None and "outputs" in node:
            outer["outputs"] = node["outputs"]
        return (outer or node)["id"], outputs, list(node.get("outboundNodes", [node["id"]]))

    def _dag(self, template: Json, node: Json, values: Mapping[str, str]) -> Json:
        known = {f"inputs.parameters.{name}": value for name, value in values.items()}
        ends: dict[str, list[str]] = {}
        followed: set[str] = set()
        waiting = list(template["dag"]["tasks"])
        while waiting:
            task = next(task for task in waiting if all(name in ends for name in _needs(task)))
            waiting.remove(task)
            before = [end for name in _needs(task) for end in ends[name]] or [node["id"]]
            followed |= set(_needs(task))
            ends[task["name"]] = self._task(task, node, known, before)
        node["outboundNodes"] = [end for name, found in ends.items() if name not in followed for end in found]
        return {}

    def _task(self, task: Json, dag: Json, known: dict[str, str], before: list[str]) -> list[str]:
        name = f"{dag['name']}.{task['name']}"
        if "withSequence" not in task:
            first, outputs, ends = self._template(task["template"], name, self._arguments(task, known), dag["id"], {})
            self._follow(before, first)
            known.update({f"tasks.{task['name']}.outputs.parameters.{key}": value for key, value in outputs.items()})
            if hook := task.get("hooks", {}).get("exit"):
                first, _, _ = self._template(hook["template"], f"{name}.onExit", self._arguments(hook, known), dag["id"], {"hooked": True})
                self._follow(ends, first)
            return ends
        group = self._node(name, "TaskGroup", task["template"], dag["id"], {}, [])
        self._follow(before, group["id"])
        ends = []
        for index in range(int(_resolve(task["withSequence"]["count"], known))):
            given = self._arguments(task, {**known, "item": str(index)})
            first, _, found = self._template(task["template"], f"{name}({index}:{index})", given, dag["id"], {})
            self._follow([group["id"]], first)
            ends += found
        return ends or [group["id"]]

    def _arguments(self, task: Json, known: Mapping[str, str]) -> dict[str, str]:
        return {entry["name"]: _resolve(entry["value"], known, self.compiled.arguments) for entry in task["arguments"]["parameters"]}

    def _follow(self, before: list[str], node: str) -> None:
        for parent in before:
            self.by_id[parent].setdefault("children", []).append(node)

    def _pod(self, template: Json, node: Json, given: Mapping[str, str]) -> Json:
        self.pods += 1
        outputs = self._driver(template["name"], given)
        declared = [{**entry, "value": outputs[entry["name"]]} for entry in template["outputs"].get("parameters", [])]
        log = f"private-artifacts/tutorloop/{self._workflow}/2026/01/01/{node['id']}/main.log"
        node["outputs"] = {
            **({"parameters": declared} if declared else {}),
            "artifacts": [{"name": "main-logs", "s3": {"key": log}}],
            "exitCode": "0",
        }
        return outputs

    def _driver(self, name: str, given: Mapping[str, str]) -> dict[str, str]:
        if name == "system-dag-driver":
            return self._layer_driver(given)
        if name == "system-container-driver":
            layer = self._layers[given["parent-dag-id"]]
            task = self._package.tasks(layer.path)[given["task-name"]] if layer.items is None else self._package.task(layer.path)
            values = self._values(json.loads(given["task"]), layer)
            salt = layer.salt + given["iteration-index"]
            given_to_task = self._inputs.executor_input(task, values, salt)
            self.executor_inputs[task.path] = max(self.executor_inputs.get(task.path, 0), len(given_to_task.encode()))
            patch = pod_patch(self._package, task, given_to_task, given["component"])
            return {"pod-spec-patch": patch, "cached-decision": "false", "condition": ""}
        return {}

    def _layer_driver(self, given: Mapping[str, str]) -> dict[str, str]:
        number = str(len(self._layers) + 1)
        if given["driver-type"] == "ROOT_DAG":
            self._layers[number] = _Layer((), json.loads(given["runtime-config"])["parameterValues"])
            return {"execution-id": number, "iteration-count": "0", "condition": ""}
        parent, task = self._layers[given["parent-dag-id"]], json.loads(given["task"])
        index = int(given["iteration-index"])
        if index >= 0 and parent.items is not None:
            item = {task["parameterIterator"]["itemInput"]: parent.items[index]}
            self._layers[number] = _Layer(parent.path, {**parent.values, **item}, f"{parent.salt}/{index}")
            return {"execution-id": number, "iteration-count": "0", "condition": ""}
        path, values = (*parent.path, given["task-name"]), self._values(task, parent)
        items = _items(task["parameterIterator"], values) if "parameterIterator" in task else None
        self._layers[number] = _Layer(path, values, parent.salt, items)
        self._iterations[path] = 0 if items is None else len(items)
        return {"execution-id": number, "iteration-count": str(self._iterations[path]), "condition": ""}

    def _values(self, task: Json, layer: _Layer) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                found[name] = layer.values.get(source["componentInputParameter"], "")
            elif "runtimeValue" in source:
                found[name] = source["runtimeValue"].get("constant", "")
            else:
                found[name] = noise(f"{source}", 16)
        return found

    def _node(self, name: str, kind: str, template: str, boundary: str, flag: Json, inputs: list[Json]) -> Json:
        node_id = self._workflow if name == self._workflow else f"{self._workflow}-{_fnv(name)}"
        minute, second = int(noise(name, 4), 16) % 60, int(noise(name, 8), 16) % 60
        around = self.by_id[boundary]["name"] if boundary else ""
        node: Json = {
            "id": node_id,
            "name": name,
            "displayName": name.removeprefix(f"{around}.") if around else name,
            "type": kind,
            "templateName": template,
            "templateScope": f"local/{self._workflow}",
            "phase": "Succeeded",
            **({"boundaryID": boundary} if boundary else {}),
            "startedAt": _TIME % (f"{minute:02}", f"{second:02}"),
            "finishedAt": _TIME % (f"{(minute + 7) % 60:02}", f"{second:02}"),
            "progress": "1/1",
            "resourcesDuration": {"cpu": second, "memory": minute * 7},
            **({"nodeFlag": flag} if flag else {}),
            **({"inputs": {"parameters": inputs}} if inputs else {}),
            **({"hostNodeName": "tutorloop-test-control-plane", "taskResultSynced": True} if kind == "Pod" else {}),
        }
        self.by_id[node_id] = node
        return node


def _needs(task: Json) -> list[str]:
    return [name.removesuffix(".Succeeded") for name in task.get("depends", "").split(" && ") if name]


def _resolve(text: str, known: Mapping[str, str], arguments: Mapping[str, str] | None = None) -> str:
    """A reference as what it stands for; KFP's arguments are one reference, or JSON without any."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return text
    name = match[1]
    if arguments is not None and name.startswith("workflow.parameters."):
        return arguments[name.removeprefix("workflow.parameters.")]
    return known[name]


def _items(iterator: Json, values: Values) -> tuple[Any, ...]:
    if "raw" in iterator["items"]:
        return tuple(json.loads(iterator["items"]["raw"]))
    found = values.get(iterator["items"]["inputParameter"])
    return tuple(found) if isinstance(found, list) else tuple(str(index) for index in range(UNKNOWN_ITEMS))


def _fnv(text: str) -> int:
    number = 0x811C9DC5
    for byte in text.encode():
        number = ((number ^ byte) * 0x01000193) & 0xFFFFFFFF
    return number
