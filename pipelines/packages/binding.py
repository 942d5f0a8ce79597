"""Gives parameters of a compiled pipeline their values for good: they are then constants in it, and in no form that starts a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Spec = dict[str, Any]


def bind(spec: Spec, values: Mapping[str, Any]) -> None:
    """Replace parameters of the pipeline by constants, in place.

    The first view of the graph is all that can name them: what lies deeper names the inputs of its own layer. A cache finds what it found
    before, since its keys hold the values that a task gets and not where they are from.

    Args:
        spec: Pipeline specification.
        values: Parameter name to value, as protobuf has it (numbers with a fraction).

    Raises:
        KeyError: The pipeline has no such parameter.
    """
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    for name in values:
        del inputs[name]
    for task in spec["root"]["dag"]["tasks"].values():
        sources = task.get("inputs", {}).get("parameters", {})
        for source in sources.values():
            if (name := source.get("componentInputParameter")) in values:
                del source["componentInputParameter"]
                source["runtimeValue"] = {"constant": values[name]}
        # A driver takes a loop over a constant input; KFP on one machine looks for it among the parameters of the pipeline.
        items = task.get("parameterIterator", {}).get("items", {})
        looped = sources.get(items.get("inputParameter"), {})
        if "runtimeValue" in looped:
            task["parameterIterator"]["items"] = {"raw": json.dumps(looped["runtimeValue"]["constant"])}


def bound(spec: Spec, name: str) -> Any:
    """The constant that tasks of the first view are given under a name; None where there is none."""
    for task in spec["root"].get("dag", {}).get("tasks", {}).values():
        source = task.get("inputs", {}).get("parameters", {}).get(name, {})
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
    return None
