"""Schema checks: Kubernetes' own for built-in kinds, ours for the custom kinds that the manifests use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
from kubernetes_validate import utils as kubernetes_schemas  # type: ignore[import-untyped]
from referencing import Registry, Resource

from tests.manifests.objects import Object, identify, read_yaml

VERSIONS = ("1.33", "1.36")
"""Oldest and newest Kubernetes that Kubeflow Pipelines 2.17 is tested on."""

CUSTOM = Path(__file__).with_name("custom_kinds.yaml")


@cache
def _definitions(version: str) -> Any:
    folder = f"kubernetes-json-schema/v{version}.0-local-strict"
    resource = Resource.from_contents(kubernetes_schemas.schema_contents(f"{folder}/_definitions.json", version))
    return resource @ Registry()


@cache
def _built_in(version: str, api_version: str, kind: str) -> Any:
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    name = f"kubernetes-json-schema/v{version}.0-local-strict/{kind.lower()}-{group}.json"
    schema = kubernetes_schemas.schema_contents(name, version)
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


@cache
def _custom() -> dict[str, Any]:
    [known] = read_yaml(CUSTOM.read_text())
    shared = known.pop("$defs")
    return {name: jsonschema.Draft202012Validator({**schema, "$defs": shared}) for name, schema in known.items()}


def is_built_in(api_version: str) -> bool:
    """Whether a kind of an API version is Kubernetes' own."""
    group = api_version.rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and not group.startswith(("app.", "kueue.x-")))


def complaints(item: Object, version: str) -> Iterator[str]:
    """What is wrong with an object, by its schema.

    Args:
        item: The object.
        version: Of Kubernetes, as in VERSIONS.

    Yields:
        A sentence for each error.
    """
    name = f"{item['apiVersion']} {item['kind']}"
    if name in _custom():
        validator = _custom()[name]
    elif is_built_in(item["apiVersion"]):
        try:
            validator = _built_in(version, item["apiVersion"], item["kind"])
        except FileNotFoundError:
            yield f"{identify(item)}: Kubernetes {version} has no {name}"
            return
    else:
        yield f"{identify(item)}: {name} is not in custom_kinds.yaml; add it with its fields"
        return
    for error in validator.iter_errors(item):
        yield f"{identify(item)}: {error.json_path}: {error.message[:300]}"
