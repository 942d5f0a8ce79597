"""The files that some code needs: what it imports, and what that imports, within this repository.

A stage's result can depend on these files only, so that they, and not all that happens to lie in the same image, decide whether it has to
run again. Imports inside of functions count; those for type checkers only do not. A module that is started by its name
(``python -m components.offline_teacher``) counts as imported where its name stands. A file that is no Python goes with the modules of its
package that name it, or with all of them where none does (a template that another one includes); a prompt with whatever module names it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

TOP = ("components", "pipelines")
_DOTTED = re.compile(rf"(?:{'|'.join(TOP)})(?:\.\w+)+")
PROMPTS = "prompts"
"""Folders whose files are named by those who read them."""
NEVER_RUN = "component.py"
"""A stage's KFP component: its body is part of the compiled pipeline."""


def imported_modules(source: str) -> set[str]:
    """Modules of this repository that a piece of code imports or starts; names that are imported from a module may be modules themselves.

    Args:
        source: Python.
    """
    return set(_read(source)[0])


def closure(roots: Iterable[str], root: Path) -> list[str]:
    """All files that modules need.

    Args:
        roots: Names of modules.
        root: Folder that has ``components`` and ``pipelines``.

    Returns:
        Paths below ``root``, sorted.
    """
    files: set[str] = set()
    todo = list(roots)
    done: set[str] = set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        for file in _files_of(name, root):
            if file not in files:
                files.add(file)
                todo += _read((root / file).read_text())[0]
    return sorted(files | set(_data_of(files, root)))


def _files_of(name: str, root: Path) -> Iterator[str]:
    """The file of a module, and what Python runs before it; nothing for a name that is no module."""
    path = name.replace(".", "/")
    found = next((file for file in (f"{path}.py", f"{path}/__init__.py") if (root / file).is_file()), "")
    if not found or found.endswith(f"/{NEVER_RUN}"):
        return
    yield found
    parts = path.split("/")
    for depth in range(1, len(parts)):
        package = "/".join(parts[:depth]) + "/__init__.py"
        if (root / package).is_file():
            yield package


def _data_of(files: set[str], root: Path) -> Iterator[str]:
    """Files of the modules' packages that are no Python and that they read."""
    named = _named_in(files, root)
    for package in sorted({_package(file) for file in files if file.count("/") > 1}):
        data = [path for path in (root / package).rglob("*") if path.suffix != ".py" and path.is_file() and "__pycache__" not in path.parts]
        own = _named_in([file for file in files if _package(file) == package], root)
        everywhere = _named_in([path.relative_to(root).as_posix() for path in (root / package).rglob("*.py")], root) if data else set()
        for path in data:
            names = {path.name, path.stem}
            prompt = path.parent.name == PROMPTS
            if names & (named if prompt else own) or not (prompt or names & everywhere):
                yield path.relative_to(root).as_posix()


def _package(file: str) -> str:
    return "/".join(file.split("/")[:2])


def _named_in(files: Iterable[str], root: Path) -> set[str]:
    """The texts that stand in modules."""
    return {text for file in files for text in _read((root / file).read_text())[1]}


@lru_cache(maxsize=1024)
def _read(source: str) -> tuple[frozenset[str], frozenset[str]]:
    """Modules that a source imports or starts, and the texts that stand in it."""
    modules: set[str] = set()
    texts: set[str] = set()
    for node in _run(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
            modules |= {node.value, f"{node.value}.__main__"} if _DOTTED.fullmatch(node.value) else set()
    return frozenset(name for name in modules if name.split(".")[0] in TOP), frozenset(texts)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that may run: not what is for type checkers only."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for other in node.orelse:
            yield from _run(other)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _run(child)
