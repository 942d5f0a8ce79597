"""Pipelines and nested pipelines whose inputs come from tables: nobody writes, or keeps in step, signatures of twenty parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

TYPES: dict[str, Any] = {
    "responses": str,
    "checkpoints": str,
    "models": str,
    "records": str,
    "profile": str,
    "pipeline_digest": str,
    "seed": int,
    "shards": list[str],
}
"""Types of parameters that are no section of a profile; a section is a ``dict``."""
RUN = ("profile", "pipeline_digest", "seed")
STORES = ("responses", "checkpoints", "models", "records")
DEFAULTS: dict[str, Any] = {"profile": "", "pipeline_digest": "", "seed": 0}

Body = Callable[[SimpleNamespace], Any]
"""Makes the tasks of a graph from its inputs, which are attributes of their names."""


def inputs_of(
    sections: Sequence[str], stores: Sequence[str] = STORES, run: Sequence[str] = RUN, shards: Sequence[str] = ()
) -> dict[str, Any]:
    """Name to type of a pipeline's parameters.

    Args:
        sections: Sections of the profile.
        stores: Addresses of stores.
        run: What is said of the run.
        shards: Lists of shards.
    """
    names = {name: TYPES.get(name, dict) for name in (*sections, *stores, *run)}
    return names | dict.fromkeys(shards, TYPES["shards"])


def graph(
    body: Body, inputs: Mapping[str, Any], *, name: str, description: str, outputs: Any = inspect.Signature.empty, **options: Any
) -> Any:
    """A KFP pipeline with inputs from a table.

    Args:
        body: Makes its tasks.
        inputs: Name to type, as a signature would have it.
        name: Name of the pipeline.
        description: For people.
        outputs: NamedTuple class of what the body returns.
        options: Options of ``dsl.pipeline``.

    Returns:
        The pipeline, for the compiler or for use in another one.
    """

    def function(*channels: Any) -> Any:
        return body(SimpleNamespace(**dict(zip(inputs, channels, strict=True))))

    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    parameters = [inspect.Parameter(each, kind, annotation=of, default=DEFAULTS.get(each, empty)) for each, of in inputs.items()]
    # Parameters with defaults come last, as Python has it.
    parameters.sort(key=lambda parameter: parameter.default is not empty)
    ordered = {parameter.name: inputs[parameter.name] for parameter in parameters}
    inputs = ordered
    function.__signature__ = inspect.Signature(parameters, return_annotation=outputs)  # type: ignore[attr-defined]
    function.__name__ = name.replace("-", "_")
    return dsl.pipeline(name=name, description=description, **options)(function)


@dataclass(frozen=True)
class Layer:
    """A nested pipeline that takes what it needs from the inputs of the pipeline around it.

    Attributes:
        pipeline: The nested pipeline.
        parameters: Those of its parameters that it takes by their names.
    """

    pipeline: Any
    parameters: tuple[str, ...]

    def __call__(self, given: SimpleNamespace, **inputs: Any) -> PipelineTask:
        """Use it in a pipeline.

        Args:
            given: Inputs of the pipeline around it.
            inputs: Artifacts, and parameters that have another name there.
        """
        named = {name: getattr(given, name) for name in self.parameters if name not in inputs}
        task: PipelineTask = self.pipeline(**named, **inputs)
        return task


def layer(
    body: Body,
    *,
    name: str,
    description: str,
    parameters: Sequence[str],
    artifacts: Mapping[str, Any] | None = None,
    outputs: Any = inspect.Signature.empty,
) -> Layer:
    """Build a layer.

    Args:
        body: Makes its tasks.
        name: Name of the nested pipeline.
        description: For people.
        parameters: Sections, stores and other parameters that it needs, by name.
        artifacts: Name to type of the artifacts that it needs.
        outputs: NamedTuple class of what the body returns.
    """
    inputs = {**(artifacts or {}), **{each: TYPES.get(each, dict) for each in parameters}}
    return Layer(graph(body, inputs, name=name, description=description, outputs=outputs), tuple(parameters))
