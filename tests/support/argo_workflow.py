"""Workflows as Argo 4.0.5 writes them for what KFP 2.17.0 compiles: names, types, templates and messages of nodes are theirs.

Read in argocompiler/{argo,dag,container}.go of KFP and workflow/controller/{operator,dag}.go, workflow/util/pod_name.go of Argo.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import json
from typing import Any

EXECUTOR, IMPL = "metadata-0-5-retry-system-container-executor", "metadata-0-5-retry-system-container-impl"
CONTAINER_DRIVER, DAG_DRIVER = "system-container-driver", "system-dag-driver"
START = datetime.datetime(2025, 12, 1, 2, 0, tzinfo=datetime.UTC)
CACHED = "when 'true != true' evaluated false"


def fnv32a(text: str) -> int:
    """The hash that Argo makes ids of nodes with."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def moment(seconds: float) -> str:
    """So many seconds after the workflow began, as Kubernetes writes times."""
    return (START + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


class ArgoWorkflow:
    """A workflow and what becomes of it.

    Args:
        run: Id of its run.
        retries: Whether the controller's default gives drivers and DAGs a retry strategy too, and with it a Retry node each.
        pipeline: Value of the label that TutorLoop's pipelines give their pods; empty for another's pipeline.
        records: What the run is given for its records.
    """

    def __init__(self, run: str, *, retries: bool = True, pipeline: str = "orca-math", records: str = "s3://artifacts/records") -> None:
        self.run = run
        self.name = f"orca-math-{run[:5]}"
        self.nodes: dict[str, dict[str, Any]] = {}
        self.status: dict[str, Any] = {"phase": "Running", "progress": "0/1", "startedAt": moment(0)}
        self.spec: dict[str, Any] = _spec(pipeline, records)
        self._retries = retries
        self._clock = 0.0
        self.root = self.dag("", "entrypoint")
        self.driver("root-driver", self.root)
        self.root = self.dag("root", "root", self.root)

    def tick(self) -> float:
        """Another second."""
        self._clock += 1.0
        return self._clock

    def node(self, name: str, kind: str, template: str, phase: str = "Succeeded", message: str = "", **inputs: str) -> dict[str, Any]:
        """Make a node; one that has ended began a second before."""
        key = self.name if name == self.name else f"{self.name}-{fnv32a(name)}"
        item: dict[str, Any] = {
            "id": key,
            "name": name,
            "type": kind,
            "templateName": template,
            "phase": phase,
            "startedAt": moment(self._clock),
        }
        if phase not in ("Running", "Pending"):
            item["finishedAt"] = moment(self.tick())
        if message:
            item["message"] = message
        if inputs:
            item["inputs"] = {"parameters": [{"name": name.replace("_", "-"), "value": value} for name, value in inputs.items()]}
        self.nodes[key] = item
        return item

    def dag(self, task: str, template: str, inside: str = "") -> str:
        """A DAG at work; returns what the names of its nodes begin with."""
        name = f"{inside}.{task}" if inside else self.name
        if self._retries:
            self.node(name, "Retry", template, "Running")
            name = f"{name}(0)"
        self.node(name, "DAG", template, "Running")
        return name

    def driver(
        self, task: str, inside: str, phase: str = "Succeeded", message: str = "", *, container: bool = False, shown: str = ""
    ) -> str:
        """A driver; returns the name of its pod."""
        name, template = f"{inside}.{task}", CONTAINER_DRIVER if container else DAG_DRIVER
        spec = json.dumps({"taskInfo": {"name": shown or task.removesuffix("-driver")}})
        if self._retries:
            self.node(name, "Retry", template, phase, "No more retries left" if phase in ("Failed", "Error") else "", task=spec)
            name = f"{name}(0)"
        return self.pod(self.node(name, "Pod", template, phase, message, task=spec))

    def nested(self, task: str, inside: str = "", shown: str = "") -> str:
        """A nested pipeline at work."""
        inside = inside or self.root
        self.driver(f"{task}-driver", inside, shown=shown)
        return self.dag(task, f"comp-{task}", inside)

    def loop(self, number: int, shards: int, inside: str) -> list[str]:
        """A loop at work; returns what the names in each iteration begin with."""
        name = self.dag(f"for-loop-{number}", f"comp-for-loop-{number}-for-loop-{number}-iterator", inside)
        self.driver("iteration-driver", name, shown=f"for-loop-{number}")
        self.node(f"{name}.iteration-iterations", "TaskGroup", "iterations", "Running")
        found = []
        for shard in range(shards):
            item = self.dag(f"iteration-iterations({shard}:{shard})", f"comp-for-loop-{number}-iteration", name)
            self.driver("iteration-item-driver", item, shown=f"for-loop-{number}")
            found.append(self.dag("iteration-item", f"comp-for-loop-{number}", item))
        return found

    def task(self, task: str, inside: str = "", *attempts: tuple[str, str], cached: bool = False, shown: str = "") -> list[str]:
        """A task with its driver.

        Args:
            task: Its name.
            inside: Where it is.
            attempts: Phase and message of each; one that succeeds when none is given.
            cached: Whether it comes from the cache.
            shown: Its display name.

        Returns:
            Names of its pods.
        """
        inside = inside or self.root
        self.driver(f"{task}-driver", inside, container=True, shown=shown)
        name = f"{self.dag(task, EXECUTOR, inside)}.executor"
        if cached:
            self.node(name, "Skipped", IMPL, "Skipped", CACHED)
            self.close(inside, task)
            return []
        attempts = attempts or (("Succeeded", ""),)
        last = attempts[-1][0]
        self.node(name, "Retry", IMPL, last, "No more retries left" if last in ("Failed", "Error") else "")
        pods = [self.pod(self.node(f"{name}({number})", "Pod", IMPL, *attempt)) for number, attempt in enumerate(attempts)]
        if last != "Running":
            self.close(inside, task, last)
        return pods

    def close(self, inside: str, task: str, phase: str = "Succeeded") -> None:
        """Let everything of a task end like this that has not ended."""
        for item in self.nodes.values():
            if item["name"].startswith(f"{inside}.{task}") and item["phase"] in ("Running", "Pending"):
                item |= {"phase": phase, "finishedAt": moment(self._clock)}

    def set(self, name: str, phase: str, message: str = "") -> None:
        """Change a node."""
        item = next(item for item in self.nodes.values() if item["name"] == name)
        item |= {"phase": phase, "message": message} | ({"finishedAt": moment(self.tick())} if phase not in ("Running", "Pending") else {})

    def pod(self, node: dict[str, Any]) -> str:
        """Name of a node's pod."""
        return f"{self.name}-{node['templateName']}-{fnv32a(node['name'])}"

    def end(self, phase: str, message: str = "", *, bubble: bool = True) -> None:
        """End it, and with ``bubble`` all that still runs: nodes that others lie in end as their run does."""
        self.status |= {"phase": phase, "message": message, "finishedAt": moment(self.tick())}
        broken = [item["name"] for item in self.nodes.values() if item["phase"] in ("Failed", "Error")]
        for item in self.nodes.values() if bubble else []:
            if item["phase"] == "Running":
                inside = any(name.startswith((f"{item['name']}.", f"{item['name']}(")) for name in broken)
                item |= {"phase": phase if inside else "Succeeded", "finishedAt": moment(self._clock)}

    def object(self, *, packed: bool = False) -> dict[str, Any]:
        """The object, with its nodes packed as Argo packs those of a large one."""
        status = dict(self.status)
        if packed:
            status["compressedNodes"] = base64.b64encode(gzip.compress(json.dumps(self.nodes).encode())).decode()
        else:
            status["nodes"] = self.nodes
        labels = {"pipeline/runid": self.run, "workflows.argoproj.io/phase": status["phase"]}
        made: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "apiVersion": "argoproj.io/v1alpha1",
                    "kind": "Workflow",
                    "metadata": {"name": self.name, "namespace": "kubeflow", "uid": f"uid-{self.run}", "labels": labels},
                    "spec": self.spec,
                    "status": status,
                }
            )
        )
        return made


def _spec(pipeline: str, records: str) -> dict[str, Any]:
    labels = {"tutorloop.dev/stage": "preflight", **({"tutorloop.dev/pipeline": pipeline} if pipeline else {})}
    if not pipeline:
        labels = {"app": "another"}
    runtime = {"parameterValues": {"seed": 0}}
    task = {"taskInfo": {"name": "Preflight"}, "inputs": {"parameters": {"records": {"runtimeValue": {"constant": records}}}}}
    preflight = {"name": "task", "value": json.dumps(task)}
    driver = {
        "name": "root-driver",
        "template": DAG_DRIVER,
        "arguments": {"parameters": [{"name": "runtime-config", "value": json.dumps(runtime)}]},
    }
    return {
        "entrypoint": "entrypoint",
        "arguments": {
            "parameters": [
                {"name": "components-root", "value": json.dumps({"dag": {}})},
                {"name": "kubernetes-comp-preflight", "value": json.dumps({"podMetadata": {"labels": labels}})},
            ]
        },
        "templates": [
            {"name": CONTAINER_DRIVER, "container": {}},
            {"name": "root", "dag": {"tasks": [{"name": "preflight-driver", "arguments": {"parameters": [preflight]}}]}},
            {"name": "entrypoint", "dag": {"tasks": [driver, {"name": "root", "template": "root"}]}},
        ],
    }
