"""YAML 1.2 for everything that people write: profiles, ``--set`` and schedules.

PyYAML follows YAML 1.1, in which ``1e-6`` is text, ``on`` and ``no`` are booleans, ``012`` is octal and ``1:30`` is ninety, and of a name
that stands twice in a mapping the last one holds, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # Digits in groups (10_000) are YAML 1.1, in use, and nothing else that an option takes.
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
"""Kinds of plain scalars in the core schema of YAML 1.2: how they look, and how they begin. Merging is of YAML 1.1 and in wide use."""


class YamlLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, with the scalars of YAML 1.2 and without repeated names."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def construct_document(self, node: yaml.Node) -> Any:
        """Refuse a name that stands twice in a mapping; what a merge brings may be overridden."""
        # Before anything is constructed: merging writes the names that it brings into the nodes.
        for mapping in _mappings(node, set()):
            seen: set[tuple[str, str]] = set()
            for key, _ in mapping.value:
                if isinstance(key, yaml.ScalarNode):
                    if (key.tag, key.value) in seen:
                        raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                    seen.add((key.tag, key.value))
        return super().construct_document(node)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """``012`` is twelve."""
        text = str(self.construct_scalar(node))
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _mappings(node: yaml.Node, known: set[int]) -> Iterator[yaml.MappingNode]:
    """A node's mappings, each once: aliases make a graph of the tree."""
    if id(node) in known:
        return
    known.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for pair in node.value:
            for part in pair:
                yield from _mappings(part, known)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _mappings(part, known)


YamlLoader.add_constructor("tag:yaml.org,2002:int", YamlLoader.construct_integer)
# Of two kinds that fit, the first one is taken: whole numbers come before numbers with a fraction.
for _kind, (_pattern, _first) in _CORE.items():
    YamlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)
