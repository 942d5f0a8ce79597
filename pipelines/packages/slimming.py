"""Takes out of a compiled package what nothing reads where it runs.

Argo keeps the workflow of a run, with every task's specification and source several times over, in one object of limited size
(``package_checks/workflow_size.py``). Docstrings and descriptions of tasks' inputs are for readers of the code: Kubeflow shows neither.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from pipelines.images.package_text import read_package, written_package


def slim(path: Path) -> None:
    """Rewrite a package that KFP's compiler has just written; the comment at its top stays.

    Args:
        path: The package.
    """
    header, (spec, *platform) = read_package(path.read_text())
    for component in spec["components"].values():
        for definitions in (component.get("inputDefinitions", {}), component.get("outputDefinitions", {})):
            for definition in [entry for kind in definitions.values() for entry in kind.values()]:
                definition.pop("description", None)
    for executor in spec["deploymentSpec"]["executors"].values():
        command: list[Any] = executor["container"]["command"]
        command[-1] = without_docstrings(command[-1])
    path.write_text(written_package(header, [spec, *platform]))


def without_docstrings(source: str) -> str:
    """A module's source without the docstrings of its functions.

    Args:
        source: Functions that have more than a docstring, each on lines of its own.
    """
    lines = source.splitlines(keepends=True)
    for function in [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]:
        if ast.get_docstring(function) is not None:
            docstring = function.body[0]
            for number in range(docstring.lineno - 1, docstring.end_lineno or docstring.lineno):
                lines[number] = ""
    return "".join(lines)
