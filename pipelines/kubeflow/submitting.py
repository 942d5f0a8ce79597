"""Starts a run of a package: uploaded as a version of a pipeline, so that Kubeflow shows what the run is a run of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.errors import ParameterError
from pipelines.kubeflow.calls import KubeflowError
from pipelines.kubeflow.client import Kubeflow
from pipelines.kubeflow.packages import Package, read_package
from pipelines.kubeflow.versions import Versions

SERVICE_ACCOUNT = "tutorloop-run"
EXPERIMENT = "tutorloop"


def submit(
    client: Kubeflow,
    package: Path,
    *,
    pipeline: str,
    name: str,
    experiment: str = EXPERIMENT,
    parameters: Mapping[str, Any] | None = None,
    service_account: str = SERVICE_ACCOUNT,
) -> str:
    """Start a run.

    Args:
        client: Where.
        package: File of the compiled pipeline.
        pipeline: Name of the pipeline in Kubeflow; it is made when missing. One that a schedule runs must not be named: the version
            that is uploaded would be its newest, which the schedule takes at its next firing.
        name: Shown for the run.
        experiment: Where it is shown; made when missing, and brought back from the archive.
        parameters: What differs from the package's defaults.
        service_account: Service account of its pods.

    Returns:
        Id of the run.

    Raises:
        InputError: The package is none.
        KubeflowError: Kubeflow refuses.
        ParameterError: The package has no such parameter.
    """
    read = dataclasses.replace(read_package(package), name=pipeline)
    _check(read, parameters or {})
    group = client.experiment(experiment)
    if group is None:
        group = client.create_experiment(experiment, "Runs that were started by hand")
    elif group.archived:
        client.unarchive_experiment(group)
    versions = Versions(client, _act)
    key = client.pipeline(pipeline)
    version = client.version(key, read.version) if key else None
    if key is None or version is None:
        versions.upload(read)
        key = versions.pipelines.get(pipeline) or client.pipeline(pipeline)
        version = client.version(key, read.version) if key else None
    if key is None or version is None:
        raise KubeflowError(f"the version {read.version} of the pipeline {pipeline} is gone again", "submit again")
    return client.create_run(name, group.id, key, version.id, parameters or {}, service_account)


def _check(package: Package, parameters: Mapping[str, Any]) -> None:
    if unknown := sorted(set(parameters) - set(package.inputs)):
        raise ParameterError("parameters", ", ".join(unknown), f"inputs of the package {package.name}: {', '.join(sorted(package.inputs))}")
    if missing := sorted(name for name, needed in package.inputs.items() if needed and name not in parameters):
        raise ParameterError("parameters", "", f"with {', '.join(missing)}, which the package has no default for")


def _act(change: str, act: Callable[[], Any], details: Sequence[str] = ()) -> Any:
    return act()
