"""Whether a person can read the graph: Kubeflow's UI draws one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.packages.checks.ir import Package

TASKS = 10
"""Boxes in a layer. Seen: 22 of them do not fit on a screen of 1900 x 1057 at the UI's smallest zoom; ten fit and can be read."""
ARTIFACTS = 20
"""Artifacts drawn in a layer. The UI draws every output of every task, whether anything takes it or not, and every input of the layer
(frontend/src/lib/v2/StaticFlow.ts: addArtifactNodes, addInputArtifactNodes): two a task, of which one is its record."""
BETWEEN = 8
"""Artifacts that pass between a layer and the one around it, in and out: each is an arrow."""
FIRST_VIEW = 2
"""Boxes of the root, without the task that runs at the end: one alone tells nothing."""


def readable(package: Package) -> Iterator[str]:
    """No layer has more tasks or artifacts than can be read, and the first one tells what happens.

    Yields:
        Problems.
    """
    for layer in package.layers():
        name = "/".join(layer) or "the first view"
        tasks = package.tasks(layer).values()
        if len(tasks) > TASKS:
            yield (
                f"{name} has {len(tasks)} tasks, more than {TASKS}: put what belongs together into nested pipelines with a "
                "name of their own."
            )
        component = package.task(layer).component if layer else package.root
        inputs = component.get("inputDefinitions", {}).get("artifacts", {})
        outputs = component.get("outputDefinitions", {}).get("artifacts", {})
        drawn = len(inputs) + sum(len(task.component.get("outputDefinitions", {}).get("artifacts", {})) for task in tasks)
        if drawn > ARTIFACTS:
            yield f"{name} draws {drawn} artifacts, more than {ARTIFACTS}: nest tasks, and let one record stand for those of a layer."
        if layer and (passed := len(inputs) + len(outputs)) > BETWEEN:
            yield (
                f"{name} exchanges {passed} artifacts with the layer around it, more than {BETWEEN}: move a task to where its "
                "inputs are made."
            )
    shown = [task for task in package.tasks().values() if not task.is_exit_task]
    if len(shown) < FIRST_VIEW:
        yield "the first view has only one box: put the steps of the pipeline there, so that it tells what happens."
