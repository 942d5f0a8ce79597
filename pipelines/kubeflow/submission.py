"""The package of a profile for a run that is started by hand, and what the run is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from components.core.errors import ParameterError
from pipelines.images.table import ImageTable
from pipelines.packages.finished import finished_package
from pipelines.parameters import profile as parameters

TRIALS = "-trials"
"""Behind the name of a profile's pipeline: versions of runs by hand must not become the newest of a pipeline that a schedule runs."""


def changed(profile: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The pipeline's parameters that settings change, in the form that Kubeflow takes them.

    Args:
        profile: Name of the profile.
        overrides: ``NAME=VALUE``.

    Raises:
        ParameterError: A name or value is wrong.
    """
    before, after = (parameters.run_arguments(parameters.load(profile, given)) for given in ((), overrides))
    return {name: value for name, value in after.items() if before[name] != value}


def compiled(profile: str, overrides: Sequence[str], table: ImageTable) -> tuple[str, dict[str, Any]]:
    """Compile a profile. Settings that need no package of their own are given to the run: such runs share a version, and can be compared.

    Args:
        profile: Name of the profile.
        overrides: ``NAME=VALUE``.
        table: The images that are built.

    Returns:
        Text of the package, and what the run is given.

    Raises:
        ParameterError: A name or value is wrong, or an image is not in the table.
    """
    given = changed(profile, overrides)
    own = finished_package(parameters.load(profile, overrides), table, profile=profile)
    if not given:
        return own, {}
    plain = finished_package(parameters.load(profile), table, profile=profile)
    return (plain if _without_defaults(plain) == _without_defaults(own) else own), given


def given_to(package_profile: str, profile: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What a run of a package that is there already is given.

    Args:
        package_profile: Profile that the package was compiled for; empty when it does not say.
        profile: Profile that was named; empty for the package's.
        overrides: ``NAME=VALUE``.

    Raises:
        ParameterError: The package was compiled for another profile, or a setting is compiled into it.
    """
    if profile and package_profile not in ("", profile):
        raise ParameterError("--profile", profile, f"{package_profile}, for which the package was compiled")
    known = parameters.load(profile or package_profile) if overrides else None
    for text in overrides:
        if known and text.partition("=")[0].partition(".")[0] in parameters.compiled_in(known):
            raise ParameterError("--set", text, "something else with --package: this is compiled into it")
    return changed(profile or package_profile, overrides) if overrides else {}


def _without_defaults(text: str) -> Any:
    documents = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    inputs: Mapping[str, Any] = documents[0]["root"]["inputDefinitions"]["parameters"]
    for definition in inputs.values():
        definition.pop("defaultValue", None)
    return documents
