"""One node of a training: ``python -m components.student.training.distributed.node STORE KEY``, the command of a TrainJob's pods."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import TutorLoopError
from components.core.records import Record
from components.core.stage import readable_errors
from components.core.store import Store, is_remote, open_store
from components.core.store.model_files import STORE_VARIABLE, ModelReference, share
from components.student.training.checkpoints import Checkpoints
from components.student.training.distributed import launcher as launch
from components.student.training.fitting import Outcome
from components.student.training.job import Failure, read_job, read_result, write_job

PROGRESS_EVERY_S = 5.0


class Result(Record, frozen=True, kw_only=True):
    """What a training on several nodes leaves in the store."""

    outcome: Outcome
    model: ModelReference


def job_key(key: str) -> str:
    """Where the job of a training lies in the checkpoint store: its description, rows, and references to models."""
    return f"{key}/job"


def result_key(key: str) -> str:
    """Where its result lies."""
    return f"{key}/result.json"


def progress_key(key: str) -> str:
    """Where node 0 tells how it goes."""
    return f"{key}/progress.json"


def failure_key(key: str, node: int) -> str:
    """Where a node notes why it failed."""
    return f"{key}/failures/{node}.json"


class Progress:
    """Puts the news of the training into the store, at most every few seconds."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._told = 0.0

    def __call__(self, news: dict[str, Any]) -> None:
        now = time.monotonic()
        if news["done"] == news["total"] or now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            self._store.write(progress_key(self._key), msgspec.json.encode(news))


def place() -> launch.Place:
    """This node's place, from the environment that Kubeflow Trainer gives for torchrun."""
    return launch.Place(int(os.environ["PET_NODE_RANK"]), os.environ["PET_MASTER_ADDR"], int(os.environ["PET_MASTER_PORT"]))


def run(store_uri: str, key: str, here: launch.Place) -> None:
    """Fetch the job, train with the other nodes, and bring the model up from node 0.

    Raises:
        TutorLoopError: The training failed for a reason that a person can remove.
    """
    store = open_store(store_uri)
    with tempfile.TemporaryDirectory(prefix="tutorloop-node-") as scratch:
        folder = store.download(job_key(key), Path(scratch) / "job")
        checkpoints = Checkpoints(store_uri, key, Path(scratch) / "checkpoints")
        checkpoints.folder.mkdir()
        resume = checkpoints.latest_of_form(sharded=True)
        job = read_job(folder)
        job = msgspec.structs.replace(
            job,
            base=str(folder / job.base),
            reference=str(folder / job.reference) if job.reference else "",
            output=str(folder / "model"),
            folder=str(checkpoints.folder),
            resume=str(resume or ""),
        )
        write_job(folder, job)
        launch.run(folder, job, Progress(store, key), here)
        if here.number == 0:
            # Where artifacts refer to, if there is such a place: checkpoints are kept for less long.
            target = os.environ.get(STORE_VARIABLE, "")
            model = share(folder / "model", target if is_remote(target) else store_uri)
            store.write(result_key(key), msgspec.json.encode(Result(outcome=read_result(folder), model=model)))


def main() -> None:
    """Run this node; why it fails is noted in the store as well, since its log goes with its pod."""
    store_uri, key = sys.argv[1:]
    here = place()
    with readable_errors(f"node {here.number} of the training"):
        try:
            run(store_uri, key, here)
        except TutorLoopError as error:
            noted = Failure(process=here.number, message=error.message, hint=error.hint, at=time.time())
            open_store(store_uri).write(failure_key(key, here.number), msgspec.json.encode(noted))
            raise


if __name__ == "__main__":
    main()
