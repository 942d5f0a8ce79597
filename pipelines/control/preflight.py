"""The first task of a run: is everything there that the run needs, before anything expensive starts?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from components.core.errors import InputError, ParameterError
from components.core.store import is_remote, open_store
from components.core.store.http import TASK_VARIABLE
from components.student.training.distributed.sharding import spread_of
from components.teacher.options import TeacherOptions
from components.teacher.preflight import Services, check_services
from pipelines.control import kubernetes_checks
from pipelines.control.kubernetes_checks import TrainingPlan
from pipelines.methods import METHODS
from pipelines.parameters import profile as parameters
from pipelines.parameters.profile import RunOptions, check
from pipelines.parameters.required_files import require_files
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord

STORES = ("responses", "checkpoints", "models")
PROBE = "preflight.json"


def run(given: Mapping[str, Any]) -> None:
    """Check what the run was given, and open its record.

    Args:
        given: Arguments of the task, by name.

    Raises:
        ParameterError: A parameter is wrong.
        StoreError: A store does not answer or refuses.
        TeacherError: A teacher does not answer, refuses the key or does not offer the model.
        ClusterError: The cluster cannot give the GPUs that are asked for.
    """
    if not kubernetes_checks.on_cluster():
        # A store that does not answer may be mistyped: other tasks know that it has answered, and wait for it. So does this one in a
        # pod, whose network may need a moment, and whose addresses nobody types anew for each run.
        os.environ.pop(TASK_VARIABLE, None)
    record = RunRecord(
        id=run_record.run_name(),
        profile=str(given["profile"]),
        status=run_record.RUNNING,
        started_at=run_record.now(),
        parameters=_as_given(given),
        pipeline_digest=str(given["pipeline_digest"]),
        links=run_record.links_of(run_record.run_name()),
    )
    # First of all: what follows may fail, and its failure belongs into the record.
    folder = run_record.folder_of(str(given["records"]))
    run_record.begin(record, folder)
    options = check_parameters(given)
    changed = parameters.changed(options, record.profile)
    run_record.write(msgspec.structs.replace(run_record.read(folder), changed=changed), folder)
    cluster = options.cluster
    trainings = training_plans(options, given["launchers"])
    if any(plan.nodes > 1 for plan in trainings) and not is_remote(str(given["checkpoints"])):
        raise ParameterError("checkpoints", given["checkpoints"], "an s3:// URI where several nodes train")
    _look_at_files(options, record.profile)
    for told in parameters.warnings(options):
        print(f"warning: {told}", file=sys.stderr, flush=True)
    # What two sections say alike is looked at once, under the name of the first.
    teachers: dict[str, TeacherOptions] = {}
    for name in options.method.asked(options.sections):
        section = options.section(TeacherOptions, name)
        if section not in teachers.values():
            teachers[name] = section
    check_services(Services(stores=[str(given[name]) for name in STORES], teachers=teachers))
    for name in STORES:
        if is_remote(str(given[name])):
            # Reading may be allowed where writing is not.
            open_store(str(given[name])).write(PROBE, msgspec.json.encode({"run": record.id}))
    if kubernetes_checks.on_cluster():
        for told in kubernetes_checks.check_gpus(kubernetes_checks.connect(), cluster, trainings):
            print(told, file=sys.stderr, flush=True)


def _as_given(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters for a record that is opened before they are checked."""
    sections = {name: given[name] for name in METHODS[given["method"]].sections}
    return {"method": given["method"], **given["shape"], "seed": given["seed"], "sections": sections}


def _look_at_files(options: RunOptions, profile: str) -> None:
    """Refuse a run without its files. On a cluster those in a task's image need not be in that of this task: there it is only told.

    Raises:
        InputError: As :func:`require_files`; likewise ParameterError.
    """
    try:
        require_files(options, profile)
    except (InputError, ParameterError) as error:
        if not kubernetes_checks.on_cluster():
            raise
        print(f"warning: {error}", file=sys.stderr, flush=True)


def training_plans(options: RunOptions, launchers: Sequence[str]) -> list[TrainingPlan]:
    """Where each training of the run computes.

    Args:
        options: Options of the run.
        launchers: Sections of the trainings that the pipeline was compiled to let several nodes do.

    Raises:
        ParameterError: The rows of an update cannot be shared by the processes, or the pipeline was compiled for another number of nodes.
    """
    plans = []
    for section, kind in options.method.trainings.items():
        training, pod = options.section(kind, section), options.cluster.pods.training
        if (training.nodes > 1) != (section in launchers):
            allowed = "1" if section not in launchers else "2 or more"
            raise ParameterError(f"{section}.nodes", training.nodes, f"{allowed} with this pipeline; compile it for this profile")
        gpus = training.cluster.gpus if training.nodes > 1 else pod.gpus
        spread_of(training, str(getattr(training, "method", "sft")), training.processes or max(gpus, 1))
        plans.append(TrainingPlan(section, training.nodes, gpus, training.cluster.gpu_type if training.nodes > 1 else pod.gpu_type))
    return plans


def check_parameters(given: Mapping[str, Any]) -> RunOptions:
    """The options of the run, checked as a profile is.

    Raises:
        ParameterError: A name or value is wrong.
    """
    method = METHODS[given["method"]]
    values = {name: given[name] for name in (*method.sections, "method", "seed", "cluster")}
    return check(values | given["shape"] | {name: len(given[name]) for name in method.shards})
