"""One options class per stage is its API, its YAML section in a profile and its pipeline parameter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec

from components.core.errors import ParameterError
from components.core.redaction import REDACTED, redact

RandomSeed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
"""Seed of something random: NumPy and transformers, which are seeded with it, take no others."""

LARGEST = 2**63 - 1
"""Largest whole number of any option: what KFP, JSON and the libraries below carry without an overflow."""

_MAY_HOLD_SECRET = re.compile(r"(?i)key|token|secret|passw|credential|auth")
_WRONG_TYPE = {
    "Expected `bool`, got `str`": "true or false; in YAML 1.2 yes, no, on and off are texts",
    "Expected `object`, got `str`": "options by name, for example {name: value}",
}


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the options of a stage. Constraints are given with ``msgspec.Meta`` in ``Annotated`` types."""

    SECTION: ClassVar[str] = ""

    @classmethod
    def full_name(cls, option: str) -> str:
        """Name of an option as a person writes it (``sft.device``), for errors of code that is given the options without their section.

        Args:
            option: Name within the section.
        """
        return dotted(cls.SECTION, option)

    def check(self, section: str) -> None:
        """Refuse values that are right each by itself and wrong together; called by :func:`parse_options`.

        Args:
            section: Where the options stand in a profile, for errors.

        Raises:
            ParameterError: They contradict one another.
        """


OptionsT = TypeVar("OptionsT", bound=Options)


def dotted(section: str, name: object) -> str:
    """Name of an option within a section; the top level of a profile is the section without a name."""
    return f"{section}.{name}" if section else str(name)


def plain(value: Any, name: str, within: frozenset[int] = frozenset()) -> Any:
    """A copy with whole numbers as integers: KFP carries numbers inside dicts and lists as floats.

    Args:
        value: Mappings, lists and scalars.
        name: Name of the parameter, for the error.
        within: Identities of the mappings and lists around the value.

    Raises:
        ParameterError: An alias of YAML makes a value a part of itself.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, Mapping | list):
        return value
    if id(value) in within:
        raise ParameterError(name, "...", "a value that is no part of itself, as an alias of YAML makes it")
    within = within | {id(value)}
    if isinstance(value, Mapping):
        return {key: plain(item, name, within) for key, item in value.items()}
    return [plain(item, name, within) for item in value]


def shown(name: str, value: Any, *, known: bool = True) -> Any:
    """A value as an error may show it: without what may be a secret.

    Args:
        name: Name of the parameter.
        value: What was given.
        known: Whether there is a parameter of that name; others are hidden by less.
    """
    if not known and _MAY_HOLD_SECRET.search(name):
        return REDACTED
    return redact({name: value})[name]


def parse_options(kind: type[OptionsT], values: object, section: str) -> OptionsT:
    """Build a stage's options from a plain mapping, checking every name, every value and the rules between them.

    Args:
        kind: The options class.
        values: A mapping of names to values; what is left out takes the class's default (the paper's value).
        section: Name of the section, used in errors (``sft`` gives ``sft.learning_rate``); empty for the top level of a profile.

    Raises:
        ParameterError: Unknown name, wrong type, value out of range, or values that contradict one another; says what is allowed.
    """
    names = [field.name for field in msgspec.structs.fields(kind)]
    if not isinstance(values, Mapping):
        values = plain(values, section)
        allowed = "options by name, for example {" + f"{names[0]}: ...}}; its names are " + ", ".join(sorted(names))
        raise ParameterError(section, shown(section, values), allowed)
    given = {name: plain(value, dotted(section, name)) for name, value in values.items()}
    for name, value in given.items():
        if name not in names:
            raise ParameterError(
                dotted(section, name), shown(str(name), value, known=False), "one of the names " + ", ".join(sorted(names))
            )
    try:
        options = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        # A key of a mapping may hold dots, and msgspec does not tell it: the mapping is named.
        path = path.rstrip("`").removeprefix(".").partition("[...]")[0]
        # The value of an unknown name may be a secret: the name alone is told.
        unknown = "unknown field" in text
        value = "..." if unknown else shown(path or section, _at(given, path))
        raise ParameterError(dotted(section, path) if path else section, value, _WRONG_TYPE.get(text, text)) from error
    _check(options, section)
    return options


def _at(values: Any, path: str) -> Any:
    """The value at a path of msgspec (``sources[0].count``)."""
    for part in re.findall(r"[^.\[\]]+", path):
        values = values[int(part)] if isinstance(values, list) else values[part]
    return values


def _check(value: Any, name: str, *, within_mapping: bool = False) -> None:
    """Refuse numbers that no stage can use, then what contradicts itself, from within to without.

    Below a mapping whose keys are free (``teacher.prices``, by model) there are no names that could be set: the mapping is named.
    """
    if isinstance(value, Options):
        for field in msgspec.structs.fields(value):
            _check(getattr(value, field.name), name if within_mapping else dotted(name, field.name), within_mapping=within_mapping)
        value.check(name)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, name if within_mapping else f"{name}[{index}]", within_mapping=within_mapping)
    elif isinstance(value, Mapping):
        for item in value.values():
            _check(item, name, within_mapping=True)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ParameterError(name, value, "a finite number")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise ParameterError(name, value, f"a whole number of at most {LARGEST}")
