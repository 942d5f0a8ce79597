"""The first task of a run: is everything there that the run needs, before anything expensive starts?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from components.core.store import is_remote, open_store
from components.core.store_http import TASK_VARIABLE
from components.teacher.preflight import Services, check_services
from pipelines import run_record
from pipelines.cluster import parse_cluster
from pipelines.control import kubernetes_checks
from pipelines.parameters import SECTIONS, RunOptions, check
from pipelines.run_record import RunRecord

WRITTEN = ("responses", "checkpoints")
"""Stores that ordinary tasks write to; only the task that publishes may write to the third."""
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
    # A store that does not answer now may be mistyped: other tasks know that it has answered, and wait for it.
    os.environ.pop(TASK_VARIABLE, None)
    record = RunRecord(
        id=run_record.run_name(),
        profile=str(given["profile"]),
        status=run_record.RUNNING,
        started_at=run_record.now(),
        parameters={"rounds": given["rounds"], "seed": given["seed"], "sections": {name: given[name] for name in SECTIONS}},
        pipeline_digest=str(given["pipeline_digest"]),
    )
    # First of all: what follows may fail, and its failure belongs into the record.
    run_record.begin(record, run_record.folder_of(str(given["records"])))
    options = check_parameters(given)
    cluster = parse_cluster(given["cluster"])
    teachers = [options.sections["teacher"], options.sections["judge_teacher"]]
    check_services(
        Services(
            stores=[str(given[name]) for name in ("responses", "checkpoints", "models")],
            teachers=[section for index, section in enumerate(teachers) if section not in teachers[:index]],
        )
    )
    for name in WRITTEN:
        if is_remote(str(given[name])):
            # Reading may be allowed where writing is not.
            open_store(str(given[name])).write(PROBE, msgspec.json.encode({"run": record.id}))
    if kubernetes_checks.on_cluster():
        for told in kubernetes_checks.check_gpus(kubernetes_checks.connect(), cluster):
            print(told, file=sys.stderr, flush=True)


def check_parameters(given: Mapping[str, Any]) -> RunOptions:
    """The options of the run, checked as a profile is.

    Raises:
        ParameterError: A name or value is wrong.
    """
    values = {name: given[name] for name in SECTIONS}
    values.update({name: given[name] for name in ("seed", "rounds")})
    values.update({name: len(given[name]) for name in ("data_shards", "sampling_shards")})
    return check(values)
