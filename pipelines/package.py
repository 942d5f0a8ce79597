"""A package that is ready for a cluster: pods as its profile says, real images, the profile's values as defaults of its parameters."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines import images
from pipelines.compile import compile_profile, package_digest
from pipelines.images import ImageTable
from pipelines.package_checks import require
from pipelines.parameters import RunOptions, pipeline_arguments, uses_vllm

STORES = {
    "responses": "s3://responses",
    "checkpoints": "s3://artifacts/checkpoints",
    "models": "s3://models",
    "records": "s3://artifacts/records",
}
"""Where the stores of a run are in the object store that manifests/ sets up."""


def finished_package(options: RunOptions, table: ImageTable, *, profile: str, stores: Mapping[str, str] | None = None) -> str:
    """The compiled pipeline as a cluster takes it: a run started without arguments is a run of the profile.

    Args:
        options: The checked profile.
        table: The images that are built.
        profile: Its name.
        stores: URIs by the names of :data:`STORES`, where they differ.

    Returns:
        Text of the package; the same text for the same input.

    Raises:
        ParameterError: An image that the package names is not in the table.
        InputError: The package would not run on a cluster.
    """
    with tempfile.TemporaryDirectory(prefix="tutorloop-") as scratch:
        out = Path(scratch) / "package.yaml"
        compile_profile(out, options)
        text = images.resolve(out.read_text(), table, vllm=uses_vllm(options))
    addresses = {**STORES, **(stores or {})}
    defaults = pipeline_arguments(options, stores=addresses, profile=profile, pipeline_digest=package_digest(text))
    spec, *platform = yaml.load_all(text, Loader=yaml.CSafeLoader)
    for name, definition in spec["root"]["inputDefinitions"]["parameters"].items():
        definition["defaultValue"] = _as_protobuf(defaults[name], definition["parameterType"])
        definition["isOptional"] = True
    package = yaml.dump_all([spec, *platform], Dumper=yaml.CSafeDumper, sort_keys=True)
    require(package, f"the package of {profile}")
    return package


def _as_protobuf(value: Any, kind: str) -> Any:
    """As KFP's compiler writes it: protobuf's type for values has only numbers with a fraction."""
    return float(value) if kind == "NUMBER_INTEGER" else value
