"""Names that Kubernetes, Argo and Kubeflow take."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipelines.packages.checks.argo_spec import Compiled
from pipelines.packages.checks.ir import ROOT, Package

PIPELINE = 57
"""Characters of the pipeline's name: the workflow's is it, a dash and five characters, and a label of every pod (63)."""
ARGO = 128
"""Characters of names of templates and tasks (Argo 4.0: workflow/validate/validate.go). KFP makes them longer than ours: task-driver,
component-task-iterator, exit-hook-component-task."""
LABEL = 63
NAME_IN_DATABASE = 191
"""Characters of a task's display name (varchar) in Kubeflow's database."""
PIPELINE_PATTERN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_ARGO = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")
_ARGO_PARAMETER = re.compile(r"[-a-zA-Z0-9_]+")
_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def accepted(package: Package) -> Iterator[str]:
    """Every name is one that all of them take, also those that Kubeflow makes of ours.

    Yields:
        Problems.
    """
    if len(package.name) > PIPELINE or not PIPELINE_PATTERN.fullmatch(package.name):
        yield (
            f"the pipeline's name '{package.name}' is not of at most {PIPELINE} small letters, digits and dashes: rename "
            "it (@dsl.pipeline(name=...))."
        )
    compiled = Compiled(package, package.arguments)
    for template in compiled.templates.values():
        inner = [task["name"] for task in template.get("dag", {}).get("tasks", [])]
        for name in (template["name"], *inner):
            if len(name) > ARGO or not _ARGO.fullmatch(name):
                yield (
                    f"Argo refuses the name '{name}' ({len(name)} characters; letters, digits and dashes, {ARGO} at most): give "
                    "the task or its pipeline a shorter one."
                )
    for name in compiled.arguments:
        if not _ARGO_PARAMETER.fullmatch(name):
            yield f"Argo refuses the parameter '{name}': name the component of letters, digits and dashes."
    for name in package.spec["components"]:
        if name.removeprefix("comp-") == ROOT:
            yield "a component is named 'root', which Kubeflow keeps for the whole pipeline: rename it."
    yield from _inputs(package)
    yield from _labels(package)


def _inputs(package: Package) -> Iterator[str]:
    for task in package.all_tasks():
        for kind in ("artifacts", "parameters"):
            for name in task.declared(kind):
                if not _INPUT.fullmatch(name):
                    yield f"{task.where} has an input '{name}': name it of letters, digits and underscores."
        shown = task.spec.get("taskInfo", {}).get("name", "")
        if not shown or len(shown) > NAME_IN_DATABASE:
            yield f"{task.where} is shown as '{shown}': give it a name of 1 to {NAME_IN_DATABASE} characters (set_display_name)."


def _labels(package: Package) -> Iterator[str]:
    for executor, settings in package.executors_on_kubernetes.items():
        for key, value in settings.get("podMetadata", {}).get("labels", {}).items():
            if len(value) > LABEL or not _LABEL_VALUE.fullmatch(value) or not _LABEL_KEY.fullmatch(key):
                yield (
                    f"{executor} has the label {key}={value}, which Kubernetes refuses: {LABEL} letters, digits, dashes, dots and "
                    "underscores."
                )
