"""What works either on a cluster only or on one machine only (KFP 2.17), and what works on neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.packages.checks.ir import Package, Task

_KINDS: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def runs_everywhere(package: Package) -> Iterator[str]:
    """Loops, conditions and nested pipelines are of the kinds that run on a cluster and on one machine alike.

    Yields:
        Problems.
    """
    for task in package.all_tasks():
        yield from _loop(package, task)
        yield from _nested(package, task)
        if task.spec.get("cachingOptions", {}).get("cacheKey"):
            yield f"{task.where} has a cache key, which Kubeflow's backend ignores: leave it out, and let a parameter say what has changed."
        if package.is_importer(task.component):
            if task.spec.get("triggerPolicy", {}).get("condition"):
                yield f"{task.where} imports an artifact under a condition, which Kubeflow refuses: import it outside."
            if any(package.task(task.layer[:end]).is_loop for end in range(1, len(task.layer) + 1)):
                yield f"{task.where} imports an artifact in a loop, which fails on a cluster (kubeflow/pipelines 10860): import it outside."


def _loop(package: Package, task: Task) -> Iterator[str]:
    if "artifactIterator" in task.spec:
        yield f"{task.where} loops over artifacts, which Kubeflow's compiler refuses: loop over a list of values."
    if not task.is_loop:
        return
    if task.layer and any(
        other.is_exit_task and task.layer[-1] in other.spec["dependentTasks"] for other in package.tasks(task.layer[:-1]).values()
    ):
        yield (
            f"{task.where} is a loop right in an exit handler, which fails on a cluster (kubeflow/pipelines 12390): put "
            "it into a nested pipeline."
        )
    name = task.spec.get("parameterIterator", {}).get("items", {}).get("inputParameter", "")
    made = task.parameters.get(name, {}).get("taskOutputParameter")
    if made and made["outputParameterKey"] != "Output":
        yield (
            f"{task.where} loops over the named output '{made['outputParameterKey']}', which fails on one machine: return "
            "the list alone (-> list)."
        )
    for inner in package.tasks(task.path).values():
        if inner.spec.get("triggerPolicy", {}).get("condition") and inner.component.get("outputDefinitions", {}).get("artifacts"):
            outputs = task.component.get("dag", {}).get("outputs", {}).get("artifacts", {}).values()
            if any(made["producerSubtask"] == inner.key for output in outputs for made in output["artifactSelectors"]):
                yield f"{inner.where} is collected from under a condition: iterations without it fail. Collect a task that always runs."


def _nested(package: Package, task: Task) -> Iterator[str]:
    if not task.is_layer:
        return
    if task.artifacts and not task.parameters and not task.is_loop and not task.spec.get("triggerPolicy"):
        yield (
            f"{task.where} is a nested pipeline with artifacts as its only arguments, which fails on one machine: hand it a parameter, too."
        )
    for name, output in task.component["dag"].get("outputs", {}).get("artifacts", {}).items():
        if len(output["artifactSelectors"]) > 1:
            yield f"{task.where} gives out '{name}' from several branches (OneOf), which fails on one machine: let one task choose."


def defaults_are_values(package: Package) -> Iterator[str]:
    """Inputs that a task leaves out may be left out, defaults are of their type, and none is None.

    Yields:
        Problems.
    """
    declared = package.root.get("inputDefinitions", {}).get("parameters", {})
    for name, definition in declared.items():
        if definition.get("isOptional") and "defaultValue" not in definition:
            yield f"the pipeline's parameter '{name}' is None when it is left out, which fails on one machine: give it a real default."
        yield from _typed("the pipeline", name, definition)
    for task in package.all_tasks():
        for name, definition in task.declared("parameters").items():
            yield from _typed(task.where, name, definition)
            loops_over = task.spec.get("parameterIterator", {}).get("itemInput")
            if name in task.parameters or name == loops_over or "defaultValue" in definition:
                continue
            if not definition.get("isOptional"):
                yield f"{task.where} is not given '{name}', which has no default: hand it over."
            elif definition["parameterType"] == "NUMBER_INTEGER":
                yield (
                    f"{task.where} leaves out the number '{name}' whose default is None, which fails on one machine: use 0 or -1 for none."
                )
        for name, definition in task.declared("artifacts").items():
            if name not in task.artifacts and not definition.get("isOptional"):
                yield f"{task.where} is not given the artifact '{name}': hand it over, or declare it Optional."


def _typed(where: str, name: str, definition: dict[str, Any] | Any) -> Iterator[str]:
    if "defaultValue" not in definition:
        return
    value, kind = definition["defaultValue"], definition["parameterType"]
    wanted = _KINDS.get(kind, (object,))
    wrong = not isinstance(value, wanted) or (isinstance(value, bool) and kind != "BOOLEAN")
    if wrong or (kind == "NUMBER_INTEGER" and not float(value).is_integer()):
        yield f"{where} has '{value}' as the default of '{name}', which is a {kind}: correct one of the two."
    elif _has_none(value):
        yield f"{where} has a default of '{name}' with null in it, which Kubeflow's compiler and one machine refuse: leave that key out."


def _has_none(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_none(item) for item in value.values())
    return any(map(_has_none, value)) if isinstance(value, list) else value is None
