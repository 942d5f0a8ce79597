"""The text of a compiled pipeline: a comment, then YAML documents."""

from __future__ import annotations

from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_package(text: str) -> tuple[str, list[dict[str, Any]]]:
    """Take a package apart.

    Args:
        text: Text of the package.

    Returns:
        The comment at its top, and its documents: the specification, then that of the platform.
    """
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    return header, list(yaml.load_all(text, Loader=_LOADER))


def written_package(header: str, documents: list[dict[str, Any]]) -> str:
    """Put a package together again, as :func:`read_package` takes it apart."""
    text: str = yaml.dump_all(documents, Dumper=_DUMPER, sort_keys=True)
    return header + text
