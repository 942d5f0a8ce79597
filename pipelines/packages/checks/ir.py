"""A compiled package (pipeline spec and platform spec) as layers of tasks: what the checks read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from components.core.errors import InputError

ROOT = "root"
Path = tuple[str, ...]
"""Task keys from the root to a layer or a task; () is the root itself."""


@dataclass(frozen=True)
class Task:
    """One task of a layer.

    Attributes:
        key: Its name within the layer.
        layer: Path of the layer that it is in.
        spec: As in the pipeline spec.
        component: Spec of its component.
    """

    key: str
    layer: Path
    spec: Mapping[str, Any]
    component: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Task keys from the root to this task."""
        return (*self.layer, self.key)

    @property
    def where(self) -> str:
        """The path as text, for messages."""
        return "/".join(self.path)

    @property
    def component_name(self) -> str:
        """Name of the component in the pipeline spec."""
        return str(self.spec["componentRef"]["name"])

    @property
    def is_layer(self) -> bool:
        """Whether it is a nested pipeline, a loop or a condition, with tasks of its own."""
        return "dag" in self.component

    @property
    def is_loop(self) -> bool:
        """Whether its component runs once for each item of a list."""
        return "parameterIterator" in self.spec or "artifactIterator" in self.spec

    @property
    def is_exit_task(self) -> bool:
        """Whether it runs after what it depends on, whatever became of that."""
        return bool(self.spec.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")

    @property
    def is_cached(self) -> bool:
        """Whether Kubeflow may take its outputs from an earlier run."""
        return bool(self.spec.get("cachingOptions", {}).get("enableCache", False))

    @property
    def artifacts(self) -> Mapping[str, Mapping[str, Any]]:
        """Artifact inputs by name, as in the pipeline spec."""
        found: Mapping[str, Mapping[str, Any]] = self.spec.get("inputs", {}).get("artifacts", {})
        return found

    @property
    def parameters(self) -> Mapping[str, Mapping[str, Any]]:
        """Parameter inputs by name, as in the pipeline spec."""
        found: Mapping[str, Mapping[str, Any]] = self.spec.get("inputs", {}).get("parameters", {})
        return found

    def declared(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        """Inputs that the component declares; ``kind`` is ``artifacts`` or ``parameters``."""
        found: Mapping[str, Mapping[str, Any]] = self.component.get("inputDefinitions", {}).get(kind, {})
        return found


@dataclass(frozen=True)
class Package:
    """A compiled package.

    Attributes:
        spec: The pipeline spec.
        executors_on_kubernetes: Settings of pods by executor.
    """

    spec: Mapping[str, Any]
    executors_on_kubernetes: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def parse(text: str, where: str = "the package") -> Package:
        """Read a package.

        Raises:
            InputError: No compiled package.
        """
        documents = [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]
        if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
            raise InputError("is no compiled package: it has no root pipeline", where, hint="give what `tutorloop compile` wrote")
        platform = documents[1] if len(documents) > 1 else {}
        kubernetes = platform.get("platforms", {}).get("kubernetes", {})
        return Package(documents[0], kubernetes.get("deploymentSpec", {}).get("executors", {}))

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return str(self.spec["pipelineInfo"]["name"])

    @property
    def root(self) -> Mapping[str, Any]:
        """The outermost component."""
        found: Mapping[str, Any] = self.spec["root"]
        return found

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Defaults of the pipeline's parameters: the arguments of a run that is started without any."""
        declared = self.root.get("inputDefinitions", {}).get("parameters", {})
        return {name: definition["defaultValue"] for name, definition in declared.items() if "defaultValue" in definition}

    def component(self, name: str) -> Mapping[str, Any]:
        """Spec of a component by its name."""
        if name == ROOT:
            return self.root
        found: Mapping[str, Any] = self.spec["components"][name]
        return found

    def container(self, component: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the component runs; None for layers and importers."""
        executor = self.spec.get("deploymentSpec", {}).get("executors", {}).get(component.get("executorLabel", ""), {})
        found: Mapping[str, Any] | None = executor.get("container")
        return found

    def is_importer(self, component: Mapping[str, Any]) -> bool:
        """Whether the component only names an artifact that exists."""
        return "importer" in self.spec.get("deploymentSpec", {}).get("executors", {}).get(component.get("executorLabel", ""), {})

    def tasks(self, layer: Path = ()) -> dict[str, Task]:
        """The tasks of a layer by key."""
        component = self.root
        for key in layer:
            component = self.component(component["dag"]["tasks"][key]["componentRef"]["name"])
        found = component.get("dag", {}).get("tasks", {})
        return {key: Task(key, layer, spec, self.component(spec["componentRef"]["name"])) for key, spec in found.items()}

    def task(self, path: Path) -> Task:
        """The task at a path."""
        return self.tasks(path[:-1])[path[-1]]

    def parameter_type(self, task: Task, name: str) -> str:
        """Type of what a task is given as a parameter, followed to where it is declared; empty where that is nowhere."""
        given = task.parameters.get(name, {})
        if outer := given.get("componentInputParameter", ""):
            layer = self.task(task.layer) if task.layer else None
            declared = layer.declared("parameters") if layer else self.root.get("inputDefinitions", {}).get("parameters", {})
            return str(declared.get(outer, {}).get("parameterType", ""))
        if made := given.get("taskOutputParameter"):
            producer = self.tasks(task.layer)[made["producerTask"]].component
            return str(producer["outputDefinitions"]["parameters"][made["outputParameterKey"]]["parameterType"])
        return str(task.declared("parameters").get(name, {}).get("parameterType", ""))

    def layers(self, below: Path = ()) -> Iterator[Path]:
        """Paths of all layers, the root first."""
        yield below
        for task in self.tasks(below).values():
            if task.is_layer:
                yield from self.layers(task.path)

    def all_tasks(self) -> Iterator[Task]:
        """Every task of every layer."""
        for layer in self.layers():
            yield from self.tasks(layer).values()
