"""The Argo Workflow that Kubeflow's API server makes of a package (KFP 2.17: backend/src/v2/compiler/argocompiler).

Components, their containers and their pods' settings become arguments of the workflow (one for all components with the same container),
layers become templates of DAG tasks: a driver and what it drives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipelines.packages.checks import argo_templates as fixed
from pipelines.packages.checks.argo_templates import Json
from pipelines.packages.checks.go_json import dumps
from pipelines.packages.checks.ir import ROOT, Package, Task


class Compiled:
    """The arguments and templates of a workflow; ``templates`` in the order in which Kubeflow's compiler visits components."""

    def __init__(self, package: Package, arguments: Mapping[str, Any]) -> None:
        """Compile.

        Args:
            package: The package.
            arguments: Arguments of the run.
        """
        self.package = package
        self.arguments: dict[str, str] = {}
        self.templates: dict[str, Json] = {}
        self._run = {"parameterValues": dict(sorted(arguments.items())), "parameters": {}}
        self._seen: set[str] = set()
        self._component(ROOT, package.tasks())

    @property
    def spec(self) -> Json:
        """The workflow's spec."""
        labels = {"pipelines.kubeflow.org/v2_component": "true"}
        return {
            "templates": list(self.templates.values()),
            "entrypoint": "entrypoint",
            "arguments": {"parameters": [{"name": name, "value": value} for name, value in self.arguments.items()]},
            "serviceAccountName": "tutorloop-run",
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "podMetadata": {"annotations": labels, "labels": {**labels, "pipeline/runid": fixed.UID}},
            "ttlStrategy": {"secondsAfterCompletion": 604800},
            "templateDefaults": {"retryStrategy": {"limit": "0", "retryPolicy": "Always"}},
        }

    def component_argument(self, name: str) -> str:
        """Name of the workflow's argument that holds a component: of its container, where it has one."""
        container = self.package.container(self.package.component(name)) if name != ROOT else None
        return name if container is None else hashlib.sha256(dumps(container, sort=True).encode()).hexdigest()

    def _component(self, name: str, tasks: Mapping[str, Task]) -> None:
        for key in sorted(tasks):
            task = tasks[key]
            if task.component_name in self._seen:
                continue
            self._seen.add(task.component_name)
            if task.is_layer:
                self._component(task.component_name, self.package.tasks(task.path))
            else:
                self._executed(task)
        self._layer(name, tasks)

    def _executed(self, task: Task) -> None:
        executor = task.component["executorLabel"]
        if executor in self.package.executors_on_kubernetes:
            self.arguments[f"kubernetes-{task.component_name}"] = dumps(self.package.executors_on_kubernetes[executor], sort=True)
        name = self.component_argument(task.component_name)
        self.arguments.setdefault(f"components-{name}", dumps(task.component, sort=True))
        runs = self.package.container(task.component) or self.package.spec["deploymentSpec"]["executors"][executor]["importer"]
        self.arguments.setdefault(f"implementations-{name}", dumps(runs, sort=True))

    def _layer(self, name: str, tasks: Mapping[str, Task]) -> None:
        self.arguments[f"components-{name}"] = dumps(self.package.component(name), sort=True)
        hooks: dict[str, str] = {}
        for task in (tasks[key] for key in sorted(tasks) if tasks[key].is_exit_task):
            hook = f"exit-hook-{name}-{task.key}"
            self._add(hook, fixed.parameters("parent-dag-id"), self.task(task.key, task))
            hooks.update(dict.fromkeys(task.spec.get("dependentTasks", []), hook))
        body = [
            entry for key in sorted(tasks) if not tasks[key].is_exit_task for entry in self.task(key, tasks[key], hook=hooks.get(key, ""))
        ]
        self._add(name, fixed.parameters("parent-dag-id"), body)
        if name == ROOT:
            given = {"component": self._reference(f"components-{ROOT}"), "runtime-config": dumps(self._run), "driver-type": "ROOT_DAG"}
            driver = self._entry("root-driver", self._fixed(fixed.dag_driver(self.package.name)), given)
            self._add("entrypoint", [], [driver, self._nested("root", ROOT, "root-driver")])

    def task(
        self, name: str, task: Task, *, hook: str = "", parent: str = "{{inputs.parameters.parent-dag-id}}", item: str = ""
    ) -> list[Json]:
        """The DAG tasks of one task of a layer: its driver and what that drives.

        Args:
            name: Name of the DAG task.
            task: The task.
            hook: Template that runs when it ends.
            parent: Id of the layer.
            item: Index of the iteration, within a loop.
        """
        given = {"component": self._reference(f"components-{self.component_argument(task.component_name)}")}
        given["task"] = dumps({**task.spec, **self._dependent(task)}, sort=True)
        depends = "" if item or task.is_exit_task else _all(self._dependent(task).get("dependentTasks", []))
        if task.is_loop and not item:
            return [self._loop(name, task, given["task"], depends)]
        given |= {"task-name": task.key, "parent-dag-id": parent, **({"iteration-index": item} if item else {})}
        when = bool(task.spec.get("triggerPolicy", {}).get("condition"))
        if self.package.is_importer(task.component):
            importer = self._reference(f"implementations-{task.component_name}")
            return [self._entry(name, self._fixed(fixed.importer(self.package.name)), {**given, "importer": importer})]
        if task.is_layer:
            driver = self._entry(f"{name}-driver", self._fixed(fixed.dag_driver(self.package.name)), given, depends)
            return [driver, _hooked(self._nested(name, task.component_name, f"{name}-driver", when), hook)]
        given["container"] = self._reference(f"implementations-{self.component_argument(task.component_name)}")
        if f"kubernetes-{task.component_name}" in self.arguments:
            given["kubernetes-config"] = self._reference(f"kubernetes-{task.component_name}")
        driver = self._entry(f"{name}-driver", self._fixed(fixed.container_driver(self.package.name)), given, depends)
        return [driver, _hooked(self._executor(name, task, when), hook)]

    def _executor(self, name: str, task: Task, when: bool) -> Json:
        settings = self.package.executors_on_kubernetes.get(task.component["executorLabel"], {})
        labels = settings.get("podMetadata", {}).get("labels", {})
        retry = task.spec.get("retryPolicy")
        prefix = (f"metadata-0-{len(labels)}-" if labels else "") + ("retry-" if retry else "")
        numbered: dict[str, str] = {}
        for number, (label, value) in enumerate(sorted(labels.items()), 1):
            end = f"-{number}" if len(labels) > 1 else ""
            numbered |= {f"pod-metadata-label-key{end}": label, f"pod-metadata-label-val{end}": value}
        for made in fixed.executor(prefix, list(numbered), bool(retry)):
            self._fixed(made)
        outputs = f"{{{{tasks.{name}-driver.outputs.parameters."
        given = {"pod-spec-patch": f"{outputs}pod-spec-patch}}}}", "cached-decision": f"{outputs}cached-decision}}}}", **numbered}
        if retry:
            values = ("maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
            given |= {name: str(retry.get(value, "")).rstrip("s") for name, value in zip(fixed.RETRY, values, strict=True)}
        entry = self._entry(name, f"{prefix}system-container-executor", given, _all([f"{name}-driver"]))
        return entry | ({"when": f"{outputs}condition}}}} != false"} if when else {})

    def _loop(self, name: str, task: Task, text: str, depends: str) -> Json:
        component = task.component_name
        given = {"component": self._reference(f"components-{component}"), "parent-dag-id": "{{inputs.parameters.parent-dag-id}}"}
        given |= {"task": text, "task-name": task.key}
        driver = self._entry("iteration-driver", self._fixed(fixed.dag_driver(self.package.name)), given)
        inner = self.task("iteration-item", task, item="{{inputs.parameters.iteration-index}}")
        self._add(f"{component}-iteration", fixed.parameters("parent-dag-id", "iteration-index"), inner)
        outputs = "{{tasks.iteration-driver.outputs.parameters."
        passed = {"parent-dag-id": f"{outputs}execution-id}}}}", "iteration-index": "{{item}}"}
        items = self._entry("iteration-iterations", f"{component}-iteration", passed, _all(["iteration-driver"]))
        items["withSequence"] = {"count": f"{outputs}iteration-count}}}}"}
        self._add(f"{component}-{name}-iterator", fixed.parameters("parent-dag-id"), [driver, items])
        return self._entry(name, f"{component}-{name}-iterator", {"parent-dag-id": given["parent-dag-id"]}, depends)

    def _nested(self, name: str, component: str, driver: str, when: bool = False) -> Json:
        outputs = f"{{{{tasks.{driver}.outputs.parameters."
        given = {"parent-dag-id": f"{outputs}execution-id}}}}", "condition": f"{outputs}condition}}}}" if component != ROOT else ""}
        entry = self._entry(name, component, given, _all([driver]))
        return entry | ({"when": f"{outputs}condition}}}} != false"} if when else {})

    def _dependent(self, task: Task) -> Json:
        """Tasks that it waits for: those that the package names, and those whose outputs it takes."""
        kinds = ("taskOutputParameter", "taskOutputArtifact")
        inputs = (*task.parameters.values(), *task.artifacts.values())
        made = [given[kind]["producerTask"] for given in inputs for kind in kinds if kind in given]
        found = list(dict.fromkeys([*task.spec.get("dependentTasks", []), *made]))
        return {"dependentTasks": found} if found else {}

    def _reference(self, argument: str) -> str:
        return f"{{{{workflow.parameters.{argument}}}}}"

    def _entry(self, name: str, template: str, given: Mapping[str, str], depends: str = "") -> Json:
        arguments = {"parameters": [{"name": key, "value": value} for key, value in given.items()]}
        return {"name": name, "template": template, "arguments": arguments, **({"depends": depends} if depends else {})}

    def _fixed(self, made: Json) -> str:
        self.templates.setdefault(made["name"], made)
        return str(made["name"])

    def _add(self, name: str, inputs: list[Json], tasks: list[Json]) -> None:
        self.templates[name] = fixed.template(name, inputs, {"dag": {"tasks": tasks}})


def _all(names: list[str]) -> str:
    return " && ".join(f"{name}.Succeeded" for name in names)


def _hooked(entry: Json, hook: str) -> Json:
    if not hook:
        return entry
    parameter = {"name": "parent-dag-id", "value": "{{inputs.parameters.parent-dag-id}}"}
    return {**entry, "hooks": {"exit": {"template": hook, "arguments": {"parameters": [parameter]}}}}
