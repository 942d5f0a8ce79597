"""One options class per stage is its API, its YAML section in a profile and its pipeline parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from components.core.errors import ParameterError


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the options of a stage. Constraints are given with ``msgspec.Meta`` in ``Annotated`` types."""


OptionsT = TypeVar("OptionsT", bound=Options)


def _integral(value: Any) -> Any:
    """KFP carries numbers inside dicts and lists as floats: give whole ones back as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _integral(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_integral(item) for item in value]
    return value


def parse_options(kind: type[OptionsT], values: Mapping[str, Any], section: str) -> OptionsT:
    """Build a stage's options from a plain mapping, checking every name and value.

    Args:
        kind: The options class.
        values: Names to values; what is left out takes the class's default (the paper's value).
        section: Name of the section, used in errors (``sft`` gives ``sft.learning_rate``).

    Raises:
        ParameterError: Unknown name, wrong type or value out of range; says what is allowed.
    """
    names = [field.name for field in msgspec.structs.fields(kind)]
    for name in values:
        if name not in names:
            raise ParameterError(".".join(filter(None, (section, name))), values[name], "one of the names " + ", ".join(sorted(names)))
    try:
        return msgspec.convert(_integral(values), kind)
    except msgspec.ValidationError as error:
        text = str(error)
        path = text.rsplit("`$.", 1)[1].rstrip("`") if "`$." in text else ""
        top = path.split(".")[0].split("[")[0]
        raise ParameterError(".".join(filter(None, (section, path))), values.get(top, values), text.split(" - at")[0]) from error
