"""A package that is ready for a cluster: pods as its profile says, real images, the profile's values as defaults of its parameters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec

from pipelines.images import table as images
from pipelines.images.package_text import read_package, written_package
from pipelines.images.table import ImageTable
from pipelines.packages.binding import bind
from pipelines.packages.checks import require
from pipelines.packages.compile import compile_profile, package_digest
from pipelines.parameters.profile import RunOptions, pipeline_arguments, run_arguments, uses_vllm


def finished_package(options: RunOptions, table: ImageTable, *, profile: str) -> str:
    """The compiled pipeline as a cluster takes it: a run started without arguments is a run of the profile.

    What a person may choose are its parameters, with every option's value as default. Stores, shards, digest and the profile's name are
    constants: an address belongs to the installation, and a number of shards to the workflow's size, which is checked here.

    Args:
        options: The checked profile.
        table: The images that are built.
        profile: Its name.

    Returns:
        Text of the package; the same text for the same input.

    Raises:
        InputError: A cluster would refuse it.
        ParameterError: An image that the package names is not in the table.
    """
    with tempfile.TemporaryDirectory(prefix="tutorloop-") as scratch:
        out = Path(scratch) / "package.yaml"
        compile_profile(out, options)
        text = images.resolve(out.read_text(), table, vllm=uses_vllm(options))
    stores = msgspec.structs.asdict(options.cluster.stores)
    values = pipeline_arguments(options, stores=stores, profile=profile, pipeline_digest=package_digest(text))
    _, (spec, *platform) = read_package(text)
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    encoded = {name: _as_protobuf(values[name], definition["parameterType"]) for name, definition in inputs.items()}
    chosen = run_arguments(options)
    bind(spec, {name: value for name, value in encoded.items() if name not in chosen})
    for name, definition in inputs.items():
        definition.update(defaultValue=encoded[name], isOptional=True)
    package = written_package("", [spec, *platform])
    require(package, f"the package of {profile}")
    return package


def _as_protobuf(value: Any, kind: str) -> Any:
    """As KFP's compiler writes it: protobuf's type for values has only numbers with a fraction."""
    return float(value) if kind == "NUMBER_INTEGER" else value
