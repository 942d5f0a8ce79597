"""A training as files, for processes other than the one that prepared it: the job, its rows, what came out of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import ModelError
from components.core.records import Record
from components.core.store.whole_files import write_whole
from components.student.options import TrainingOptions
from components.student.training.distributed.sharding import Spread
from components.student.training.fitting import Fit, Outcome

JOB, ROWS, RESULT, FAILURES = "job.json", "rows", "result.json", "failures"
LINE = "::training "
"""Marks the lines in which the main process tells how it goes."""


class Job(Record, frozen=True, kw_only=True):
    """A training whose rows lie beside it.

    Attributes:
        base: Folder of the starting model.
        reference: Folder of the reference model; empty for none.
        output: Model folder to write.
        store: URI of the checkpoint store.
        key: Key of the training in it.
        folder: Folder of this machine for checkpoints.
        resume: Checkpoint to go on from; empty for none.
    """

    kind: str
    learning_rate: float
    seed: int
    name: str
    config: dict[str, Any]
    facts: dict[str, float | str]
    options: dict[str, Any]
    local: int
    nodes: int
    batch: int
    accumulation: int
    base: str
    reference: str = ""
    output: str = ""
    store: str
    key: str
    folder: str = ""
    resume: str = ""

    @property
    def fit(self) -> Fit:
        """What to train; the rows are apart."""
        return Fit(self.kind, {}, self.learning_rate, self.seed, self.name, self.config, self.facts, self.reference or None)

    @property
    def spread(self) -> Spread:
        """The processes."""
        return Spread(self.local, self.nodes, self.batch, self.accumulation)

    def training_options(self) -> TrainingOptions:
        """The options that all kinds of training share."""
        names = {field.name for field in msgspec.structs.fields(TrainingOptions)}
        return msgspec.convert({name: value for name, value in self.options.items() if name in names}, TrainingOptions)


class Failure(Record, frozen=True, kw_only=True):
    """Why a process ended."""

    process: int
    message: str
    hint: str = ""
    at: float


def make_job(base: str, fit: Fit, options: TrainingOptions, spread: Spread, store: str, key: str) -> Job:
    """The job of a training, its folders as on this machine."""
    return Job(
        kind=fit.kind,
        learning_rate=fit.learning_rate,
        seed=fit.seed,
        name=fit.name,
        config=dict(fit.config),
        facts=dict(fit.facts),
        options=msgspec.to_builtins(options),
        local=spread.local,
        nodes=spread.nodes,
        batch=spread.batch,
        accumulation=spread.accumulation,
        base=base,
        reference=fit.reference or "",
        store=store,
        key=key,
    )


def write_rows(folder: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns in a form that processes map into memory rather than read."""
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_dict({name: list(column) for name, column in columns.items()}).save_to_disk(str(folder / ROWS))


def write_job(folder: Path, job: Job) -> None:
    """Write the job; its rows are there already."""
    write_whole(folder / JOB, msgspec.json.encode(job))


def read_job(folder: Path) -> Job:
    """Read what ``write_job`` wrote."""
    return msgspec.json.decode((folder / JOB).read_bytes(), type=Job)


def write_result(folder: Path, outcome: Outcome) -> None:
    """Write what came out of the training."""
    write_whole(folder / RESULT, msgspec.json.encode(outcome))


def read_result(folder: Path) -> Outcome:
    """Read what ``write_result`` wrote."""
    return msgspec.json.decode((folder / RESULT).read_bytes(), type=Outcome)


def write_failure(folder: Path, process: int, message: str, hint: str) -> None:
    """Leave a note why a process ends; nobody else knows it."""
    failure = Failure(process=process, message=message, hint=hint, at=time.time())
    write_whole(folder / FAILURES / f"{process}.json", msgspec.json.encode(failure))


def read_failures(folder: Path) -> list[Failure]:
    """The notes of all processes, the first that failed first: the others failed because of it."""
    found = [msgspec.json.decode(path.read_bytes(), type=Failure) for path in (folder / FAILURES).glob("*.json")]
    return sorted(found, key=lambda failure: failure.at)


def as_error(failure: Failure, processes: int) -> ModelError:
    """The failure as an error for the person who must act."""
    return ModelError(f"{failure.message} (process {failure.process} of {processes})", failure.hint)
