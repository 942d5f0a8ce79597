"""Sizes of what drivers and tasks are handed as one argument of a process."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.packages.checks.argo_nodes import Nodes
from pipelines.packages.checks.argo_spec import Compiled
from pipelines.packages.checks.ir import Package

MAX_ARG_STRLEN = 131_072
"""Bytes of one argument (Linux: 32 pages); a longer one is "argument list too long" before anything has begun."""
SHARE = 0.8
"""May be used with the values of the package: those of a run may be longer."""


def short_enough(package: Package) -> Iterator[str]:
    """No argument of a driver or of a task is longer than Linux takes.

    Drivers get specs of component, container, task and pod; the launcher gets a task's inputs and outputs as one JSON, and hands them on.

    Yields:
        Problems.
    """
    nodes = Nodes(Compiled(package, package.arguments))
    worst: dict[tuple[str, str], int] = {}
    for node in nodes.by_id.values():
        if node["type"] != "Pod":
            continue
        task = next((entry["value"] for entry in node["inputs"]["parameters"] if entry["name"] == "task-name"), node["displayName"])
        for entry in node["inputs"]["parameters"]:
            if entry["name"] != "pod-spec-patch":
                key = (task or "the pipeline", entry["name"])
                worst[key] = max(worst.get(key, 0), len(entry["value"].encode()))
    for task, size in nodes.executor_inputs.items():
        worst["/".join(task), "inputs and outputs"] = size
    for (task, what), size in worst.items():
        if size > SHARE * MAX_ARG_STRLEN:
            yield (
                f"{task}: its {what} are an argument of {size:,} bytes, more than {SHARE:.0%} of the {MAX_ARG_STRLEN:,} that Linux takes. "
                "Hand over large values as artifacts, and use fewer shards where artifacts are collected."
            )
