"""docs/options.md: every option of a profile with type, default and meaning, written from the options classes: ``make compile``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import docstring_parser
import msgspec

from components.core.options import Options
from components.offline_teacher.options import OfflineTeacherOptions
from pipelines.methods import METHODS
from pipelines.parameters.profile import ProfileOptions
from pipelines.parts.cluster import ClusterOptions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"
HEAD = """# Options

What a profile, `--set name=value` and the form that starts a run in Kubeflow's UI may say, by section. Written from the options classes
by `make compile`. A name or value that is wrong is refused before any work starts.

The sections of each method:
"""
TOP = "(top level)"
BUILT: dict[str, type[Options]] = {"cluster": ClusterOptions, "offline_teacher": OfflineTeacherOptions}
"""Sections that are no parameters of a run."""


def page() -> str:
    """The page, as Markdown."""
    sections: dict[str, type[Options]] = {TOP: ProfileOptions}
    parts = [HEAD]
    for method in METHODS.values():
        parts.append(f"- {method.title}, `method: {method.name}`: " + ", ".join(f"`{name}`" for name in method.sections))
        sections[f"{TOP}, {method.name}"] = method.shape
        sections |= {name if sections.get(name, kind) is kind else f"{name}, {method.name}": kind for name, kind in method.sections.items()}
    parts.append("")
    sections |= BUILT
    told: set[type[Options]] = set()
    for name, kind in sections.items():
        parts.append(f"## {name}\n")
        twin = next((earlier for earlier, other in sections.items() if other is kind and earlier != name), "")
        if kind in told:
            parts.append(f"The options of `{twin}`.\n")
        else:
            parts += _tables(kind, name, told)
    return "\n".join(parts)


def _tables(kind: type[Options], name: str, told: set[type[Options]]) -> Iterator[str]:
    """The table of a class, then those of classes that its options hold."""
    told.add(kind)
    doc = docstring_parser.parse(inspect.getdoc(kind) or "")
    yield "\n\n".join(filter(None, (doc.short_description, doc.long_description))) + "\n"
    meanings = _meanings(kind)
    lines = ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    below: dict[str, type[Options]] = {}
    for field in msgspec.structs.fields(kind):
        if kind is ProfileOptions and field.name in BUILT:
            continue
        words, type_text = meanings.get(field.name, ("", ""))
        lines.append(f"| `{field.name}` | {_cell(f'`{type_text}`')} | {_default(field)} | {_cell(words)} |")
        below |= {f"{name}.{field.name}": inner for inner in _options_in(get_type_hints(kind)[field.name])}
    yield "\n".join(lines) + "\n"
    for inner_name, inner in below.items():
        if inner not in told:
            yield f"### {inner_name}\n"
            yield from _tables(inner, inner_name, told)


def _meanings(kind: type) -> dict[str, tuple[str, str]]:
    """Option name to what it means and its type as written, from the docstrings of a class and of those that it extends."""
    found: dict[str, tuple[str, str]] = {}
    for owner in reversed([base for base in kind.__mro__ if issubclass(base, Options) and base is not Options]):
        [body] = [node.body for node in ast.parse(textwrap.dedent(inspect.getsource(owner))).body if isinstance(node, ast.ClassDef)]
        listed = {item.arg_name: item.description or "" for item in docstring_parser.parse(inspect.getdoc(owner) or "").params}
        for node, after in zip(body, [*body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            own = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            name = node.target.id
            words = str(own) or listed.get(name, "") or found.get(name, ("", ""))[0]
            found[name] = (words, ast.unparse(node.annotation))
        for name, words in listed.items():
            if words and name in found:
                found[name] = (words, found[name][1])
    return found


def _options_in(hint: Any) -> Iterator[type[Options]]:
    if isinstance(hint, type) and issubclass(hint, Options):
        yield hint
    for part in get_args(hint):
        yield from _options_in(part)


def _default(field: Any) -> str:
    if field.default is not msgspec.NODEFAULT:
        value = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    else:
        return "needed"
    if isinstance(value, Options):
        return "below"
    return _cell(f"`{msgspec.json.encode(value).decode()}`")


def _cell(text: str) -> str:
    """As a table takes it; the markup of docstrings becomes that of Markdown."""
    text = re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split()))
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
