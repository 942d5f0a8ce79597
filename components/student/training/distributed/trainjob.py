"""A training on several nodes: a TrainJob does it, and this task launches it, watches it and takes its model home."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import ParameterError
from components.core.stage import StageRun
from components.core.store import MissingKeyError
from components.core.store.model_files import INFO, receive, refer, share
from components.student.models.load import read_info
from components.student.options import ClusterOptions, TrainingOptions
from components.student.training.checkpoints import Checkpoints
from components.student.training.distributed.kubernetes_api import Cluster, ClusterError, ExistsError
from components.student.training.distributed.node import Result, failure_key, job_key, progress_key, result_key
from components.student.training.distributed.sharding import Spread, fill_up
from components.student.training.distributed.trainjob_manifest import job_name, trainjob
from components.student.training.fitting import Fit, Outcome
from components.student.training.job import Failure, make_job, write_job, write_rows

LOGS_SHOWN = 2


def train(
    base: str, fit: Fit, options: TrainingOptions, spread: Spread, checkpoints: Checkpoints, stage: StageRun, output: Path
) -> Outcome:
    """Train on several nodes.

    A launcher that is killed is followed by one that finds the TrainJob by its name, which follows from the training's key, and goes
    on watching. A TrainJob that failed before is replaced; its checkpoints are used.

    Args:
        base: Folder of the starting model.
        fit: What to train on and how.
        options: Options of the training, with the nodes.
        spread: Nodes and processes.
        checkpoints: Must be on S3, where the nodes find everything.
        stage: Gets progress.
        output: Model folder to write.

    Raises:
        ClusterError: Kubernetes refuses, or the TrainJob failed; gives its conditions and last log lines.
        ParameterError: The checkpoint store is a folder.
    """
    if not checkpoints.remote:
        raise ParameterError("checkpoints", checkpoints.uri, "a store on S3 (s3://...), since the nodes of a training share no disk")
    shutil.rmtree(checkpoints.folder, ignore_errors=True)
    cluster, name = Cluster(), job_name(checkpoints.key)
    result = _result(checkpoints)
    if result is None:
        if _startable(cluster, name, options.cluster.poll_seconds):
            _upload(base, fit, options, spread, checkpoints)
            _start(cluster, name, checkpoints, spread, options.cluster)
        result = _wait(cluster, name, checkpoints, stage, options.cluster.poll_seconds)
    receive(result.model, output)
    cluster.delete(name)
    return msgspec.structs.replace(result.outcome, info=read_info(output))


def _startable(cluster: Cluster, name: str, poll_s: float) -> bool:
    """Whether there is no TrainJob at work; one that failed, or is being deleted, is waited for until it is gone."""
    while (found := cluster.get(name)) is not None:
        going = "deletionTimestamp" in found["metadata"]
        if not going and not _condition(found, "Failed") and not _condition(found, "Complete"):
            print(f"the TrainJob {name} is at work already: this task goes on watching it", flush=True)
            return False
        if not going:
            print(f"the TrainJob {name} ended before without a model: it is replaced", flush=True)
            cluster.delete(name)
        time.sleep(poll_s)
    return True


def _upload(base: str, fit: Fit, options: TrainingOptions, spread: Spread, checkpoints: Checkpoints) -> None:
    """Bring the job into the store, all of it before its TrainJob is created: rows, references to the models, its description."""
    store, key = checkpoints.store, checkpoints.key
    store.delete_folder(f"{key}/failures")
    store.delete(progress_key(key))
    with tempfile.TemporaryDirectory(prefix="tutorloop-job-") as scratch:
        folder = Path(scratch)
        for part, model in (("base", base), ("reference", fit.reference)):
            if model:
                refer(share(Path(model), checkpoints.uri), Path(model) / INFO, folder / part)
        write_rows(folder, fill_up(fit.columns, fit.kind, spread))
        job = make_job("base", fit, options, spread, checkpoints.uri, key)
        write_job(folder, msgspec.structs.replace(job, reference="reference" if fit.reference else ""))
        store.upload(folder, job_key(key))


def _start(cluster: Cluster, name: str, checkpoints: Checkpoints, spread: Spread, options: ClusterOptions) -> None:
    command = ["python3", "-m", "components.student.training.distributed.node", checkpoints.uri, checkpoints.key]
    try:
        cluster.create(trainjob(name, command, spread, options, cluster.own_pod()))
        print(f"the TrainJob {name} is created: {spread.nodes} nodes with {spread.local} processes each", flush=True)
    except ExistsError:
        # Another try of this task was quicker.
        return


def _wait(cluster: Cluster, name: str, checkpoints: Checkpoints, stage: StageRun, poll_s: float) -> Result:
    said = ""
    while True:
        job = cluster.get(name)
        _tell(checkpoints, stage)
        result = _result(checkpoints)
        # A node that stumbles once the model is saved does no harm.
        if result is not None and (job is None or _condition(job, "Complete") or _condition(job, "Failed")):
            return result
        if job is None:
            raise ClusterError(f"the TrainJob {name} was deleted while it was at work", "run again: it continues from its last checkpoint")
        failed = _condition(job, "Failed")
        if failed:
            raise _failure(cluster, name, checkpoints, failed)
        if _condition(job, "Complete"):
            raise ClusterError(f"the TrainJob {name} is complete and left no model", "see its log, and run again")
        state = _state(job)
        if state != said:
            said = state
            print(f"the TrainJob {name}: {state}", flush=True)
        time.sleep(poll_s)


def _failure(cluster: Cluster, name: str, checkpoints: Checkpoints, failed: Mapping[str, Any]) -> ClusterError:
    """Why a TrainJob failed: its condition, what the nodes noted, and their last lines. It is left for the next try to replace."""
    store, prefix = checkpoints.store, failure_key(checkpoints.key, 0).rpartition("/")[0]
    noted = sorted((msgspec.json.decode(store.read(key), type=Failure) for key in store.list(f"{prefix}/")), key=lambda note: note.at)
    try:
        logs = cluster.logs(name)
    except ClusterError as error:
        print(f"the logs of the TrainJob cannot be read: {error}", flush=True)
        logs = []
    for log in logs[:LOGS_SHOWN]:
        print(f"--- the last lines of {log.pod}:\n{log.text}\n---", flush=True)
    why = f"{failed.get('reason', '')}: {failed.get('message', '')}".strip(": ")
    first = f"; node {noted[0].process}: {noted[0].message}" if noted else ""
    hint = noted[0].hint if noted and noted[0].hint else "see the last lines of its nodes above"
    return ClusterError(f"the TrainJob {name} failed ({why}){first}", f"{hint}; run again: it continues from its last checkpoint")


def _tell(checkpoints: Checkpoints, stage: StageRun) -> None:
    try:
        news = msgspec.json.decode(checkpoints.store.read(progress_key(checkpoints.key)))
    except MissingKeyError:
        return
    stage.latest.update(news["latest"])
    stage.progress(news["done"], news["total"], "steps")


def _result(checkpoints: Checkpoints) -> Result | None:
    try:
        return msgspec.json.decode(checkpoints.store.read(result_key(checkpoints.key)), type=Result)
    except MissingKeyError:
        return None


def _condition(job: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """A condition that holds."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind and item["status"] == "True"), None)


def _state(job: Mapping[str, Any]) -> str:
    if _condition(job, "Suspended"):
        return "waits in its queue"
    nodes: Mapping[str, Any] = next((item for item in job.get("status", {}).get("jobsStatus", []) if item["name"] == "node"), {})
    return "its nodes are at work" if nodes.get("ready") else "waits for its nodes"
