"""Compiled packages with one thing changed that no profile can change, for runs that are to go wrong or only half of the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

NOWHERE = "nowhere"
"""Name of a parameter that no pipeline has."""


def changed(package: Path, name: str, change: Callable[[Any], None]) -> Path:
    """Write a changed copy of a package beside it.

    Args:
        package: The package; it stays as it is.
        name: For the copy's file.
        change: Changes the specification of the pipeline in place.

    Returns:
        The copy.
    """
    spec, *others = yaml.load_all(package.read_text(), Loader=yaml.CSafeLoader)
    change(spec)
    path = package.with_name(f"{name}.yaml")
    path.write_text(yaml.dump_all([spec, *others], Dumper=yaml.CSafeDumper, sort_keys=True))
    return path


def only_the_last_shard(spec: Any) -> None:
    """Let the first practice round have only the last of its shards: what that does is then in the cache, and what the others do is not."""
    shards = spec["root"]["dag"]["tasks"]["practice-round-1"]["inputs"]["parameters"]["shards"]["runtimeValue"]
    shards["constant"] = shards["constant"][-1:]


def driver_that_fails(spec: Any) -> None:
    """Let a task ask for a parameter that its layer does not have: Kubeflow takes such a package, and its driver finds out."""
    task = spec["components"]["comp-data"]["dag"]["tasks"]["starting-point"]
    task["inputs"]["parameters"]["student"] = {"componentInputParameter": NOWHERE}
