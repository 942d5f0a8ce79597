"""Reads the Argo workflow that Kubeflow Pipelines makes of a run: which of its nodes are tasks and drivers, and how they fare.

Read in the sources of KFP 2.17.0 (``backend/src/v2/compiler/argocompiler``: names of templates and tasks) and of Argo Workflows 4.0.5
(``workflow/controller``: names of nodes, ``workflow/packer``: how they are packed). A node is named after all that it lies in, each
step after a dot, an attempt or an iteration in brackets: ``run-x(0).root(0).practice-round-1(0).sample(0).executor(1)``.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.core.errors import TutorLoopError

RUN_LABEL = "pipeline/runid"
PIPELINE_LABEL = "tutorloop.dev/pipeline"
ENDED = ("Succeeded", "Failed", "Error")
"""Phases in which a workflow is at its end."""
BROKEN = ("Failed", "Error")

_STEP = re.compile(r"(?P<name>[^()]*)(?P<suffix>(?:\([^()]*\))*)")
_UNNAMED = re.compile(r"root|executor|iteration-item|for-loop-\d+|condition-\d+|condition-branches-\d+|iteration")
"""Steps that the compilers put in, which tell a person nothing."""
_ITERATIONS = "iteration-iterations"


class WorkflowError(TutorLoopError):
    """A workflow cannot be read."""


@dataclass(frozen=True)
class Node:
    """A node of a workflow.

    Attributes:
        id: Id of the node.
        name: As above.
        type: ``Pod``, ``DAG``, ``Retry``, ``TaskGroup`` or ``Skipped``.
        template: Name of its template.
        phase: ``Pending``, ``Running``, ``Succeeded``, ``Skipped``, ``Failed``, ``Error`` or ``Omitted``; may be empty.
        message: Why it is in this phase.
        started: Seconds since 1970; 0 where it is not known.
        finished: The same.
        inputs: Its parameters.
    """

    id: str
    name: str
    type: str
    template: str
    phase: str
    message: str
    started: float
    finished: float
    inputs: Mapping[str, str]

    @property
    def is_driver(self) -> bool:
        """Whether it prepares a task or a nested pipeline."""
        return self.template in ("system-dag-driver", "system-container-driver")

    @property
    def is_task(self) -> bool:
        """Whether it does the work of a task, or would if that were not in the cache."""
        return self.template.endswith("system-container-impl") or self.template == "system-importer"

    @property
    def broken(self) -> bool:
        """Whether it ended badly."""
        return self.phase in BROKEN


@dataclass(frozen=True)
class Task:
    """A task of a run.

    Attributes:
        path: What it is called, with the nested pipelines that it is in: ``Practice round 1 / sample [shard 0]``.
        state: ``preparing``, ``running``, ``retrying``, ``done``, ``cached``, ``skipped`` or ``failed``.
        attempts: Pods that were made for it.
        started: Seconds since 1970; 0 where it is not known.
        finished: The same.
        pod: Name of its last pod; empty before there is one.
    """

    path: str
    state: str
    attempts: int
    started: float
    finished: float
    pod: str


class Workflow:
    """A workflow as the Kubernetes API has it.

    Args:
        given: The object.

    Raises:
        WorkflowError: Its nodes are not in it, or cannot be read.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._status: Mapping[str, Any] = given.get("status") or {}
        self.nodes: Mapping[str, Node] = {node.name: node for node in _nodes(self._status, self.name)}
        """By name."""

    @property
    def name(self) -> str:
        """Its name."""
        return name_of(self._given)

    @property
    def message(self) -> str:
        """Why it is in this phase, in Argo's words; may be empty."""
        return str(self._status.get("message") or "")

    @property
    def progress(self) -> tuple[int, int]:
        """Pods that are done, and pods that Argo knows of so far."""
        done, _, total = str(self._status.get("progress") or "0/0").partition("/")
        return int(done or 0), int(total or 0)

    @property
    def ended_by_hand(self) -> bool:
        """Whether somebody ended it: Kubeflow does that by a deadline of no seconds, Argo by a shutdown."""
        spec = self._given.get("spec") or {}
        return bool(spec.get("shutdown")) or spec.get("activeDeadlineSeconds") == 0

    def pod(self, node: Node) -> str:
        """Name of a node's pod (Argo's ``GeneratePodName``)."""
        prefix = f"{self.name}-{node.template}"[:242] if node.template else self.name[:242]
        return f"{prefix}-{node.id.removeprefix(f'{self.name}-')}"

    def path(self, node: Node) -> str:
        """What a person calls the task of a node, with the nested pipelines that it is in."""
        found: list[str] = []
        shard, parent = "", ""
        for number, part in enumerate(_steps(node.name.removeprefix(self.name))):
            name, suffix = part
            here = f"{parent}.{name}" if number else f"{self.name}"
            if name == _ITERATIONS and (index := re.match(r"\((\d+):", suffix)):
                shard = f" [shard {index[1]}]"
            elif name and not _UNNAMED.fullmatch(name.removesuffix("-driver")):
                found.append(self._display_names.get(here.removesuffix("-driver"), name.removesuffix("-driver")))
            parent = here + suffix
        return " / ".join(found) + shard

    @functools.cached_property
    def _display_names(self) -> Mapping[str, str]:
        """Of tasks, by what their nodes are called without an attempt; the inputs of their drivers have them."""
        found = {}
        for node in self.nodes.values():
            if node.is_driver and "task" in node.inputs:
                name = json.loads(node.inputs["task"]).get("taskInfo", {}).get("name")
                if name:
                    found[_without_attempt(node.name).removesuffix("-driver")] = str(name)
        return found

    def attempts(self, node: Node) -> list[Node]:
        """The attempts at a node that is tried again, the last one last; the node itself for one that is not."""
        if node.type != "Retry":
            return [node]
        found: list[Node] = []
        while attempt := self.nodes.get(f"{node.name}({len(found)})"):
            found.append(attempt)
        return found

    def tasks(self) -> list[Task]:
        """The tasks that Argo has come to, in the order in which they began."""
        found = {}
        for node in self.nodes.values():
            base = _without_attempt(node.name)
            is_attempt = base != node.name and base in self.nodes and self.nodes[base].type == "Retry"
            if node.is_task and not is_attempt:
                found[self.path(node)] = self._task(node)
        for node in self.nodes.values():
            path = self.path(node)
            if node.type == "Skipped" and node.template.endswith("system-container-executor"):
                found[path] = Task(path, "skipped", 0, node.started, node.finished, "")
            elif node.template == "system-container-driver" and node.type == "Pod" and path not in found:
                state = "failed" if node.broken else "preparing"
                found[path] = Task(path, state, 0, node.started, node.finished if node.broken else 0.0, "")
        return sorted(found.values(), key=lambda task: (task.started, task.path))

    def _task(self, node: Node) -> Task:
        attempts = self.attempts(node)
        if node.type == "Skipped" or node.phase in ("Skipped", "Omitted"):
            driver = self.nodes.get(f"{_without_step(node.name)}-driver") or self.nodes.get(f"{_without_step(node.name)}-driver(0)")
            skipped = "cached" if "evaluated false" in node.message and "true != true" in node.message else "skipped"
            return Task(self.path(node), skipped, 0, driver.started if driver else node.started, node.finished, "")
        last = attempts[-1] if attempts else node
        state = {"Succeeded": "done", "Failed": "failed", "Error": "failed"}.get(node.phase)
        if state is None:
            again = len(attempts) > 1 or last.broken
            state = "retrying" if again else "running" if last.phase == "Running" else "preparing"
        return Task(self.path(node), state, len(attempts), node.started, node.finished, self.pod(last))


def name_of(given: Mapping[str, Any]) -> str:
    """Name of a workflow."""
    return str(given["metadata"]["name"])


def phase_of(given: Mapping[str, Any]) -> str:
    """Phase of a workflow; ``Pending`` before Argo has seen it."""
    return str((given.get("status") or {}).get("phase") or "Pending")


def run_of(given: Mapping[str, Any]) -> str:
    """Id of the run that a workflow carries out; empty where it is none of Kubeflow's."""
    return str((given["metadata"].get("labels") or {}).get(RUN_LABEL, ""))


def pipeline_of(given: Mapping[str, Any]) -> str:
    """Value of :data:`PIPELINE_LABEL` that the pods of a workflow get; empty where it is not one of TutorLoop's pipelines."""
    arguments = ((given.get("spec") or {}).get("arguments") or {}).get("parameters") or []
    for item in arguments:
        text = str(item.get("value", ""))
        if str(item.get("name", "")).startswith("kubernetes-") and PIPELINE_LABEL in text:
            labels = json.loads(text).get("podMetadata", {}).get("labels", {})
            if PIPELINE_LABEL in labels:
                return str(labels[PIPELINE_LABEL])
    return ""


def argument_of(given: Mapping[str, Any], name: str) -> Any:
    """What the tasks of a run are given under a name: a parameter of the run, or a constant of its package; None where neither is there."""
    constants: list[Any] = []
    for template in (given.get("spec") or {}).get("templates") or []:
        for task in (template.get("dag") or {}).get("tasks") or []:
            arguments = {item["name"]: item.get("value") for item in (task.get("arguments") or {}).get("parameters") or []}
            if "runtime-config" in arguments:
                values = json.loads(arguments["runtime-config"]).get("parameterValues") or {}
                if name in values:
                    return values[name]
            elif name in str(arguments.get("task")):
                source = json.loads(arguments["task"]).get("inputs", {}).get("parameters", {}).get(name, {})
                constants += [source["runtimeValue"]["constant"]] if "runtimeValue" in source else []
    return next(iter(constants), None)


def _nodes(status: Mapping[str, Any], workflow: str) -> Iterator[Node]:
    raw = status.get("nodes") or {}
    if not raw and status.get("compressedNodes"):
        try:
            raw = json.loads(gzip.decompress(base64.b64decode(status["compressedNodes"])))
        except (ValueError, OSError, EOFError, binascii.Error) as error:
            raise WorkflowError(f"the packed nodes of the workflow {workflow} cannot be read: {error}", "look at it in Argo") from error
    if not raw and status.get("offloadNodeStatusVersion"):
        raise WorkflowError(
            f"the nodes of the workflow {workflow} are not in it: Argo keeps them in its database",
            f"look at the run's page in Kubeflow, or at its pods: kubectl get pods -l {RUN_LABEL}",
        )
    for key, item in raw.items():
        parameters = (item.get("inputs") or {}).get("parameters") or []
        yield Node(
            id=key,
            name=str(item.get("name", key)),
            type=str(item.get("type", "")),
            template=str(item.get("templateName", "")),
            phase=str(item.get("phase") or ""),
            message=str(item.get("message") or ""),
            started=_seconds(item.get("startedAt")),
            finished=_seconds(item.get("finishedAt")),
            inputs={str(entry["name"]): str(entry.get("value", "")) for entry in parameters},
        )


def _seconds(text: str | None) -> float:
    return datetime.datetime.fromisoformat(text).timestamp() if text else 0.0


def _steps(name: str) -> Iterator[tuple[str, str]]:
    """The steps of a node's name, each with what is in brackets behind it."""
    for part in name.split("."):
        found = _STEP.fullmatch(part)
        yield (found["name"], found["suffix"]) if found else (part, "")


def _without_attempt(name: str) -> str:
    return re.sub(r"\(\d+\)$", "", name)


def _without_step(name: str) -> str:
    """Name of the step that a step is the work of: its attempt has a number, its driver stands beside it without one."""
    return _without_attempt(name.rpartition(".")[0])
