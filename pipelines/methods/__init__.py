"""The registry of methods. A new one is a folder beside this file and a row here: CONTRIBUTING.md, "Adding a method"."""

from __future__ import annotations

from pipelines.methods.method import Method
from pipelines.methods.orca_math import METHOD as ORCA_MATH

METHODS: dict[str, Method] = {method.name: method for method in (ORCA_MATH,)}
DEFAULT = ORCA_MATH.name
"""Of a profile that names none."""
