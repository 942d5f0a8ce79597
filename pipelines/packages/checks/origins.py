"""Where an artifact comes from: each input is followed to the tasks that make it, through nested pipelines, loops and conditions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.packages.checks.ir import Package, Path, Task


@dataclass(frozen=True, order=True)
class Origin:
    """The output of one task that works, or an artifact that the whole pipeline is given.

    Attributes:
        path: Path of the task; () for an input of the pipeline.
        key: Name of the output or input.
        loop: Path of the outermost loop whose iterations were collected on the way; None for a single artifact.
    """

    path: Path
    key: str
    loop: Path | None = None

    def __str__(self) -> str:
        """For messages."""
        return f"output '{self.key}' of {'/'.join(self.path)}" if self.path else f"the pipeline's input '{self.key}'"

    @property
    def artifact(self) -> tuple[Path, str]:
        """What makes two origins one artifact (or one list of them)."""
        return self.path, self.key


def origins(package: Package, task: Task, name: str) -> frozenset[Origin]:
    """Follow an artifact input to where it is made.

    Args:
        package: The package.
        task: A task of any layer, also a nested pipeline, loop or condition.
        name: Name of the input.

    Returns:
        One origin; several where a condition decides.
    """
    given = task.artifacts[name]
    if "taskOutputArtifact" in given:
        made = given["taskOutputArtifact"]
        return _output(package, package.tasks(task.layer)[made["producerTask"]], made["outputArtifactKey"], None)
    outer = given["componentInputArtifact"]
    if not task.layer:
        return frozenset({Origin((), outer)})
    parent = package.task(task.layer)
    # An optional input that the layer is not given has no origin.
    return origins(package, parent, outer) if outer in parent.artifacts else frozenset()


def _output(package: Package, task: Task, key: str, loop: Path | None) -> frozenset[Origin]:
    if loop is None and task.is_loop:
        loop = task.path
    if not task.is_layer:
        return frozenset({Origin(task.path, key, loop)})
    selectors = task.component["dag"]["outputs"]["artifacts"][key]["artifactSelectors"]
    inner = package.tasks(task.path)
    return frozenset(
        origin for made in selectors for origin in _output(package, inner[made["producerSubtask"]], made["outputArtifactKey"], loop)
    )


def decides_about_cache(package: Package, origin: Origin) -> frozenset[Origin]:
    """Artifacts from outside a loop that are of an earlier run whenever a shard's artifact is.

    A task comes from the cache only if all of its artifact inputs are what they were, since the cache's key holds their ids. Within the
    loop that holds for the tasks before it, too.

    Args:
        package: The package.
        origin: Origin of a collected artifact.

    Returns:
        All that the shard's task, or a task before it in the loop, takes from outside.
    """
    loop = origin.loop
    assert loop is not None
    return frozenset(_from_outside(package, package.task(origin.path), loop))


def _from_outside(package: Package, task: Task, loop: Path) -> Iterator[Origin]:
    for name in task.artifacts:
        found = origins(package, task, name)
        inside = {origin for origin in found if origin.path[: len(loop)] == loop}
        # Where a condition decides between several, none of them is sure to be an input.
        if not inside and len(found) == 1:
            yield from found
        elif len(inside) == len(found) == 1:
            yield from _from_outside(package, package.task(next(iter(inside)).path), loop)
