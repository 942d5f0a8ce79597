"""What a run of a compiled package is expected to carry out: its tasks, where they are in the graph, and which may come from the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

STAGE_LABEL = "tutorloop.dev/stage"
CHAMPION = "current-champion"
"""The stage whose answer another run may have changed."""


@dataclass(frozen=True)
class Expected:
    """A task of a run.

    Attributes:
        path: What it is called, as :class:`pipelines.kubeflow.workflow.Task` has it.
        stage: The label of its pods.
        cached: Whether it may come from the cache.
        after_champion: Whether it depends on who is the champion.
    """

    path: str
    stage: str
    cached: bool
    after_champion: bool


class Tasks:
    """The tasks of a run.

    Args:
        expected: All of them.
    """

    def __init__(self, expected: Iterable[Expected]) -> None:
        self.all = tuple(expected)

    @classmethod
    def of(cls, package: Path) -> Tasks:
        """Those of a compiled package, each shard by itself."""
        spec, platform = yaml.load_all(package.read_text(), Loader=yaml.CSafeLoader)
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        stages = {name: str(item["podMetadata"]["labels"][STAGE_LABEL]) for name, item in executors.items()}
        return cls(_walk(spec, stages, spec["root"], {}, ()))

    @property
    def outside(self) -> set[str]:
        """Stages that look at the world, or write to it, in every run."""
        return {task.stage for task in self.all if not task.cached}

    @property
    def after_champion(self) -> set[str]:
        """Stages that have something new to do when another run has made a champion."""
        return {task.stage for task in self.all if task.cached and task.after_champion}

    @property
    def work(self) -> set[str]:
        """Stages with nothing to do in a run that differs in nothing."""
        return {task.stage for task in self.all} - self.outside - self.after_champion

    @property
    def stages(self) -> Counter[str]:
        """How many tasks there are of each stage."""
        return Counter(task.stage for task in self.all)


def _walk(
    spec: Mapping[str, Any], stages: Mapping[str, str], component: Mapping[str, Any], given: Mapping[str, Any], layers: tuple[str, ...]
) -> Iterator[Expected]:
    tasks = component["dag"]["tasks"]
    changed = _downstream(tasks, stages, spec)
    for name, task in tasks.items():
        inner = spec["components"][task["componentRef"]["name"]]
        if "executorLabel" in inner:
            cached = bool(task.get("cachingOptions", {}).get("enableCache"))
            path = " / ".join((*layers, task["taskInfo"]["name"]))
            yield Expected(path, stages[inner["executorLabel"]], cached, name in changed)
            continue
        values = {key: _value(source, given) for key, source in task.get("inputs", {}).get("parameters", {}).items()}
        if "parameterIterator" not in task:
            yield from _walk(spec, stages, inner, values, (*layers, task["taskInfo"]["name"]))
            continue
        for index in range(len(values[task["parameterIterator"]["items"]["inputParameter"]])):
            for found in _walk(spec, stages, inner, values, layers):
                yield Expected(f"{found.path} [shard {index}]", found.stage, found.cached, found.after_champion)


def _value(source: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    constant = source.get("runtimeValue", {}).get("constant")
    return given.get(source.get("componentInputParameter", "")) if constant is None else constant


def _downstream(tasks: Mapping[str, Any], stages: Mapping[str, str], spec: Mapping[str, Any]) -> set[str]:
    """Tasks of a layer that depend on what the stage :data:`CHAMPION` says."""
    found = {
        name
        for name, task in tasks.items()
        if stages.get(spec["components"][task["componentRef"]["name"]].get("executorLabel", "")) == CHAMPION
    }
    while more := {name for name, task in tasks.items() if found.intersection(task.get("dependentTasks", ()))} - found:
        found |= more
    return found
