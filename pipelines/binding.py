"""Gives parameters of a compiled pipeline their values for good: they are then constants in it, and in no form that starts a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Spec = dict[str, Any]


def bind(spec: Spec, values: Mapping[str, Any]) -> None:
    """Replace parameters of the pipeline by constants, in place.

    The first view of the graph is all that can name them: what lies deeper names the inputs of its own layer.

    Args:
        spec: Pipeline specification; not a loop in its first view, whose items KFP wants as a parameter or as text.
        values: Parameter name to value, as protobuf has it (numbers with a fraction).

    Raises:
        KeyError: The pipeline has no such parameter.
    """
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    for name in values:
        del inputs[name]
    for task in spec["root"]["dag"]["tasks"].values():
        for source in task.get("inputs", {}).get("parameters", {}).values():
            if (name := source.get("componentInputParameter")) in values:
                source.clear()
                source["runtimeValue"] = {"constant": values[name]}


def bound(spec: Spec, name: str) -> Any:
    """The constant that tasks of the first view are given under a name; None where there is none."""
    for task in spec["root"].get("dag", {}).get("tasks", {}).values():
        source = task.get("inputs", {}).get("parameters", {}).get(name, {})
        if "runtimeValue" in source:
            return source["runtimeValue"]["constant"]
    return None
