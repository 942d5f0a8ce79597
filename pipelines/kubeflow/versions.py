"""Brings packages into Kubeflow as pipeline versions, so that the newest version is the one in Git."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from pipelines.kubeflow.calls import MissingError
from pipelines.kubeflow.client import Kubeflow
from pipelines.kubeflow.packages import Package
from pipelines.kubeflow.records import Version

TICK_S = 1.1
"""Kubeflow tells by whole seconds which version is the newest."""


NOT_YET = "(not yet created)"
"""Stands for an id in a dry run."""


class Step(Protocol):
    """Says what is changed, and changes it unless it is a dry run."""

    def __call__(self, change: str, act: Callable[[], Any], details: Sequence[str] = ()) -> Any: ...


class Versions:
    """Pipelines and their versions.

    Args:
        kubeflow: The installation.
        step: Takes the steps.

    Attributes:
        pipelines: Pipeline name to id, of those that exist.
        changed: Names of pipelines that differed from Git.
        failed: Names of pipelines that could not be brought about.
    """

    def __init__(self, kubeflow: Kubeflow, step: Step) -> None:
        self._kubeflow = kubeflow
        self._step = step
        self._announced: set[str] = set()
        self.pipelines: dict[str, str] = {}
        self.changed: set[str] = set()
        self.failed: set[str] = set()

    def upload(self, package: Package) -> None:
        """Make a package the newest version of its pipeline, which is made when missing."""
        self.failed.add(package.name)
        pipeline = self._kubeflow.pipeline(package.name)
        if pipeline is None:
            self.changed.add(package.name)
            create = partial(self._kubeflow.create_pipeline, package.name, package.description)
            pipeline = self._step(f"pipeline {package.name}: create", create)
        if pipeline is None:
            # A dry run: there is nothing to upload to yet.
            self._step(f"pipeline {package.name}: upload version {package.version}", _nothing)
            self._announced.add(package.version)
        else:
            self.pipelines[package.name] = pipeline
            self._newest(package, pipeline)
        self.failed.discard(package.name)

    def _newest(self, package: Package, pipeline: str) -> None:
        newest = self._kubeflow.newest_versions(pipeline, 2)
        if newest and package.is_version(newest[0].name) and not _tied(package, newest):
            return
        self.changed.add(package.name)
        name = self._free_name(package, pipeline)
        was = f"newest: {newest[0].name} -> {name}" if newest else "the first one"

        def upload() -> None:
            made = self._kubeflow.upload_version(pipeline, name, package.text, f"SHA-256 {package.digest}")
            if newest and made.created_at <= newest[0].created_at:
                # Which of the two a run takes is chance: once more, a second later.
                time.sleep(TICK_S)
                again = self._free_name(package, pipeline)
                self._kubeflow.upload_version(pipeline, again, package.text, f"SHA-256 {package.digest}")

        self._step(f"pipeline {package.name}: upload version {name}", upload, [was])
        self._announced.add(name)

    def _free_name(self, package: Package, pipeline: str) -> str:
        """The version's name, with a number where Git went back to what was there before another."""
        name, number = package.version, 2
        while self._kubeflow.version(pipeline, name) is not None:
            name, number = f"{package.version}-{number}", number + 1
        return name

    def pinned(self, pipeline: str | None, name: str) -> str:
        """Id of the version that a schedule stays with.

        Raises:
            MissingError: There is none of that name.
        """
        found = self._kubeflow.version(pipeline, name) if pipeline else None
        if found is None and name in self._announced:
            return NOT_YET
        if found is None:
            raise MissingError(
                f"there is no version {name!r} of the pipeline",
                "take a name from the pipeline's page in Kubeflow, or leave schedule.version empty for the newest",
            )
        return found.id


def _nothing() -> None:
    return None


def _tied(package: Package, newest: Sequence[Version]) -> bool:
    """Whether another version is just as new."""
    return len(newest) > 1 and newest[0].created_at == newest[1].created_at and not package.is_version(newest[1].name)
