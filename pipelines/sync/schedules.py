"""Schedules: the declarations of recurring runs that are kept in Git, one YAML file each."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from components.core.errors import InputError, ParameterError, TutorLoopError
from components.core.options import Options, parse_options
from pipelines.parameters import profile as parameters
from pipelines.parameters.yaml_loader import YamlLoader
from pipelines.sync import cron

KUSTOMIZATION = "kustomization.yaml"


# Kubeflow keeps a recurring run's description in 255 characters, and the marker of a sync needs up to half of them.
Description = Annotated[str, Meta(max_length=120)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
ShownName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,126}$")]
VersionName = Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9 ._-]{0,126})?$")]
AccountName = Annotated[str, Meta(pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$")]


class Schedule(Options, frozen=True, kw_only=True):
    """A recurring run.

    Attributes:
        name: Unique; also the recurring run's name in Kubeflow.
        description: For people.
        pipeline: Name of a package without ``.yaml``; also the pipeline's name in Kubeflow.
        profile: Name of a profile that comes with TutorLoop.
        parameters: What differs from the profile, by dotted names.
        cron: Six fields, seconds first, in the zone of the Kubeflow installation (UTC).
        experiment: The experiment in Kubeflow that runs are shown in.
        max_concurrency: Runs of this schedule at the same time.
        enabled: Whether it fires.
        service_account: Service account of the task pods; empty for Kubeflow's own.
        pipeline_root: Where Kubeflow keeps artifacts; empty for the installation's place.
        version: Name of the pipeline version to stay with; empty for the newest at each firing.
    """

    name: Name
    description: Description = ""
    pipeline: Name
    profile: str
    parameters: dict[str, Any] = {}
    cron: str
    experiment: ShownName = "retraining"
    max_concurrency: Annotated[int, Meta(ge=1, le=10)] = 1
    enabled: bool = True
    service_account: AccountName = ""
    pipeline_root: str = ""
    version: VersionName = ""


@dataclass(frozen=True)
class Declared:
    """A schedule that was read and checked.

    Attributes:
        schedule: As the file has it.
        arguments: What its runs give to the pipeline.
        period_s: The longest time between two of its firings, in seconds.
    """

    schedule: Schedule
    arguments: Mapping[str, Any]
    period_s: float


@dataclass(frozen=True)
class Folder:
    """What a folder of schedules holds.

    Attributes:
        schedules: The good ones, by name.
        errors: What is wrong with the others.
    """

    schedules: list[Declared] = field(default_factory=list)
    errors: list[TutorLoopError] = field(default_factory=list)


def read_folder(folder: Path) -> Folder:
    """Read all schedules of a folder; Kubernetes resources beside them are none. One that is wrong keeps no other from being read.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError("no such folder of schedules", folder, hint="give the folder with the schedules' YAML files")
    found: dict[str, list[tuple[Path, Declared]]] = defaultdict(list)
    result = Folder()
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        if path.name != KUSTOMIZATION:
            try:
                documents = _documents(path)
                if documents and all(isinstance(item, dict) and {"apiVersion", "kind"} <= item.keys() for item in documents):
                    continue
                declared = _declared(documents, path)
                found[declared.schedule.name].append((path, declared))
            except TutorLoopError as error:
                result.errors.append(error)
    for name, same in sorted(found.items()):
        if len(same) == 1:
            result.schedules.append(same[0][1])
        else:
            paths = ", ".join(path.name for path, _ in same)
            result.errors.append(InputError(f"several schedules are called {name!r} ({paths})", folder, hint="rename all but one"))
    return result


def read(path: Path) -> Declared:
    """Read and check one schedule, with its profile and parameters.

    Raises:
        InputError: Says what is wrong with the file.
    """
    return _declared(_documents(path), path)


def _documents(path: Path) -> list[Any]:
    try:
        return list(yaml.load_all(path.read_bytes(), Loader=YamlLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(f"not YAML: {error}", path, mark.line + 1 if mark else 0, "correct the file") from error


def _declared(documents: list[Any], path: Path) -> Declared:
    values = documents[0] if len(documents) == 1 else None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError("not a schedule", path, hint="give name, pipeline, profile and cron, one schedule a file")
    try:
        return _checked(parse_options(Schedule, values, "schedule"))
    except TutorLoopError as error:
        raise InputError(error.message, path, hint=error.hint or "correct the schedule") from error


def _checked(schedule: Schedule) -> Declared:
    try:
        period_s = cron.longest_gap(schedule.cron)
    except ValueError as error:
        raise ParameterError("schedule.cron", schedule.cron, f"a cron expression with seconds first; {error}") from error
    if schedule.profile not in parameters.profile_names():
        raise ParameterError("schedule.profile", schedule.profile, "one of " + ", ".join(parameters.profile_names()))
    profile = parameters.load(schedule.profile)
    for name in schedule.parameters:
        if name.partition(".")[0] in parameters.compiled_in(profile):
            raise ParameterError(
                f"schedule.parameters.{name}", schedule.parameters[name], "set in the profile: it is compiled into the package"
            )
    given = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in schedule.parameters.items()]
    run = parameters.load(schedule.profile, given)
    return Declared(schedule, parameters.run_arguments(run), period_s)


def spec_hash(spec: Mapping[str, Any]) -> str:
    """Hash of all that Kubeflow is given for a recurring run, whatever the order of its keys.

    Args:
        spec: A JSON-like mapping.

    Returns:
        32 hex digits.
    """
    return hashlib.sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()[:32]
