"""What Kubeflow should have for a schedule, how it is recognised there, and where it differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from components.core.errors import ParameterError
from pipelines.kubeflow.packages import Package
from pipelines.sync.schedules import Declared, Schedule, spec_hash

_MARKER = re.compile(r"managed-by=tutorloop;name=([a-z0-9-]+);spec=([0-9a-f]+)(?=\s|$)")
DESCRIPTION_LIMIT = 255
"""Characters that Kubeflow keeps; it fails on more only after it has made the Kubernetes resource."""
SHOWN = 80


class Marker(NamedTuple):
    """What the description of a recurring run of ours begins with; names of recurring runs are not unique.

    Attributes:
        name: Name of the schedule.
        spec: Hash of what it was made from.
    """

    name: str
    spec: str


def marker(description: str) -> Marker | None:
    """The marker in a description; None in that of somebody else's recurring run."""
    found = _MARKER.match(description)
    return Marker(found[1], found[2]) if found else None


def described(schedule: Schedule, spec: Mapping[str, Any]) -> str:
    """The description of the recurring run of a schedule."""
    text = f"managed-by=tutorloop;name={schedule.name};spec={digest(schedule, spec)}\n{schedule.description}".rstrip()
    return text[:DESCRIPTION_LIMIT]


def digest(schedule: Schedule, spec: Mapping[str, Any]) -> str:
    """The hash in the marker."""
    return spec_hash({**spec, "description": schedule.description})


def spec(declared: Declared, package: Package, experiment_id: str, pipeline_id: str, version_id: str) -> dict[str, Any]:
    """All that Kubeflow is given for a schedule, but for the marker and for whether it fires.

    Args:
        declared: The schedule.
        package: Its package.
        experiment_id: Id of its experiment.
        pipeline_id: Id of its pipeline.
        version_id: Id of the version that it stays with; empty for the newest at each firing.

    Raises:
        ParameterError: The package has other inputs than the profile gives.
    """
    schedule = declared.schedule
    given = dict(declared.arguments)
    if not schedule.version or package.is_version(schedule.version):
        _check_inputs(schedule, package, given)
    return {
        "display_name": schedule.name,
        "experiment_id": experiment_id,
        "pipeline_id": pipeline_id,
        "pipeline_version_id": version_id,
        "cron": schedule.cron,
        "max_concurrency": schedule.max_concurrency,
        "no_catchup": True,
        "service_account": schedule.service_account,
        "pipeline_root": schedule.pipeline_root,
        "parameters": given,
    }


def _check_inputs(schedule: Schedule, package: Package, given: Mapping[str, Any]) -> None:
    if package.profile not in ("", schedule.profile):
        # Its pods and images fit that profile, and all parameters of a run come from the schedule's.
        raise ParameterError(f"{schedule.name}: profile", schedule.profile, f"{package.profile}, for which the package was compiled")
    missing = sorted(name for name, required in package.inputs.items() if required and name not in given)
    unknown = sorted(set(given) - set(package.inputs))
    if missing or unknown:
        found = "; ".join(
            text
            for names, text in (
                (missing, f"the package also needs {', '.join(missing)}"),
                (unknown, f"the package has no input {', '.join(unknown)}"),
            )
            if names
        )
        raise ParameterError(f"{schedule.name}: pipeline", schedule.pipeline, f"a package compiled by this version of TutorLoop; {found}")


def differences(has: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Where a recurring run differs from what is wanted, a line for each field: ``cron: old -> new``.

    A service account that is not wanted in particular is Kubeflow's to choose.
    """
    fields = {name: value for name, value in wanted.items() if not (name == "service_account" and not value)}
    before, after = (dict(_flat(side)) for side in ({name: has.get(name) for name in fields}, fields))
    names = [*after, *(name for name in before if name not in after)]
    return [
        f"{name}: {_shown(before, name)} -> {_shown(after, name)}"
        for name in names
        if name not in before or name not in after or before[name] != after[name]
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _shown(side: Mapping[str, Any], name: str) -> str:
    if name not in side:
        return "(none)"
    text = msgspec.json.encode(side[name]).decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
