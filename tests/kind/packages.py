"""Compiled packages: what a run of one has to do, and packages that are changed for a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MEMORY = "resourceMemoryLimit"


@dataclass(frozen=True)
class Expected:
    """The stages of a package.

    Attributes:
        stages: All of them.
        always: Those that are never taken from the cache.
        after_champion: Those that have something new to do when the champion is another one.
        tasks: How many tasks may come from the cache; loops count once.
    """

    stages: frozenset[str]
    always: frozenset[str]
    after_champion: frozenset[str]
    tasks: int

    @property
    def work(self) -> frozenset[str]:
        """Stages that have nothing to do when nothing has changed but the champion."""
        return self.stages - self.always - self.after_champion


def expected(package: Path) -> Expected:
    """Read a package."""
    spec, platform = _documents(package)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    cached: dict[str, bool] = {}
    after: set[str] = set()
    count = 0
    for tasks, name in _tasks(spec):
        stage = _stage(spec, executors, tasks[name])
        may = bool(tasks[name].get("cachingOptions", {}).get("enableCache"))
        # One of several tasks of a stage is enough for a pod.
        cached[stage] = may and cached.get(stage, True)
        count += may
        if "current-champion" in _before(tasks, name):
            after.add(stage)
    always = frozenset(stage for stage, may in cached.items() if not may)
    return Expected(frozenset(cached), always, frozenset(after) - always, count)


def with_shards_of_sampling(package: Path, shards: list[str], path: Path) -> Path:
    """The same package with other shards in its first practice round, such as ``["0/4", "1/2", "2/4"]``.

    Args:
        package: What is changed.
        shards: Together they are all problems, and none has what another has.
        path: Where to write it.
    """
    spec, platform = _documents(package)
    spec["root"]["dag"]["tasks"]["practice-round-1"]["inputs"]["parameters"]["shards"]["runtimeValue"]["constant"] = shards
    return _write(path, spec, platform)


def with_a_driver_that_fails(package: Path, stage: str, path: Path) -> Path:
    """The same package with a limit of a task that is no quantity, which Kubeflow's driver of the task finds first.

    Args:
        package: What is changed.
        stage: Of the task.
        path: Where to write it.
    """
    spec, platform = _documents(package)
    spec["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]["resources"][MEMORY] = "plenty"
    return _write(path, spec, platform)


def _documents(package: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.load_all(package.read_text(), Loader=yaml.CSafeLoader)
    return spec, platform


def _write(path: Path, *documents: Any) -> Path:
    path.write_text(yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False))
    return path


def _tasks(spec: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each task of each layer that is no layer itself: the tasks beside it, and its name."""
    for dag in (spec["root"]["dag"], *(item["dag"] for item in spec["components"].values() if "dag" in item)):
        for name, task in dag["tasks"].items():
            if "dag" not in spec["components"][task["componentRef"]["name"]]:
                yield dag["tasks"], name


def _stage(spec: Mapping[str, Any], executors: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
    return str(executors[label]["podMetadata"]["labels"]["tutorloop.dev/stage"])


def _before(tasks: Mapping[str, Any], name: str) -> set[str]:
    """The tasks of the layer that a task waits for."""
    found: set[str] = set()
    for earlier in tasks[name].get("dependentTasks", []):
        found |= {earlier} | _before(tasks, earlier)
    return found
