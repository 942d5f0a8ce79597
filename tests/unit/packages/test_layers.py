"""Imports only go down, in the picture of CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = [path for top in ("components", "pipelines") for path in sorted((ROOT / top).rglob("*.py"))]
ENTRY = {"pipelines/__main__.py", "pipelines/__init__.py", "components/__init__.py"}


def layers() -> list[list[str]]:
    """Folders line by line, from the top."""
    picture = re.search(r"```layers\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    assert picture
    return [line.split(", ") for line in picture[1].splitlines()]


LAYERS = layers()
HEIGHT = {folder: len(LAYERS) - index for index, line in enumerate(LAYERS) for folder in line}


def room(path: str) -> str:
    """The folder of the picture that a file is in; each stage is one of its own."""
    return "/".join(path.split("/")[:2])


def height(name: str) -> int:
    return HEIGHT[name] if name in HEIGHT else HEIGHT["components/*"] if name.startswith("components/") else 0


def imported(path: Path) -> Iterator[str]:
    """Folders that a module uses when it runs."""
    tree = ast.parse(path.read_text())
    # The bodies of KFP components run elsewhere, in the image of their stage.
    for node in tree.body if path.name == "component.py" else running(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in ("components", "pipelines") and name.count("."):
                yield "/".join(name.split(".")[:2])


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those for type checkers only."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from running(child)


def test_every_folder_is_in_the_picture() -> None:
    folders = {room(path.relative_to(ROOT).as_posix()) for path in FILES} - ENTRY
    assert not [name for name in folders if not height(name)]
    assert not [name for name in HEIGHT if not (ROOT / name.removesuffix("/*")).is_dir()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_only_go_down(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name in ENTRY:
        return
    for other in imported(path):
        if other != room(name) and (ROOT / other).is_dir():
            assert height(other) < height(room(name)), f"{name} imports {other}, which is not below it"
