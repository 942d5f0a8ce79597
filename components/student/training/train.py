"""One training from a model folder to a model folder, on one process or several: what SFT, DPO, KTO and the control arm share."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from components.core.stage import StageRun
from components.student.models.hardware import prepare
from components.student.models.load import ModelInfo
from components.student.options import TrainingOptions
from components.student.training.checkpoints import Checkpoints
from components.student.training.distributed import launcher as launch
from components.student.training.distributed.sharding import Spread, fill_up, spread_of
from components.student.training.fitting import Fit, Outcome, fit_model
from components.student.training.job import make_job, read_result, write_job, write_rows

__all__ = ["Fit", "train"]


def train(base: str, fit: Fit, options: TrainingOptions, checkpoints: Checkpoints, stage: StageRun, output: str | Path) -> ModelInfo:
    """Train, save, and describe.

    Continues from the newest complete checkpoint; the result of one process is then bit-identical to that of an undisturbed run
    on the same machine with the same number of threads.

    Args:
        base: Folder of the starting model.
        fit: What to train on and how.
        options: Batch size, schedule, adapters, precision, processes.
        checkpoints: Where work in progress is kept; left for the caller to discard.
        stage: Gets progress, the training curve and the counts ``steps``, ``resumed_at_step`` and ``processes``.
        output: Model folder to write.

    Raises:
        ModelError: Memory ran out, or a process was killed; says what to do.
        ParameterError: The processes cannot share an update's rows equally.
    """
    spread = spread_of(options, fit.kind, processes_here(options))
    if spread.nodes > 1:
        from components.student.training.distributed import trainjob

        outcome = trainjob.train(base, fit, options, spread, checkpoints, stage, Path(output))
    elif spread.processes == 1:
        outcome = _alone(base, fit, options, spread, checkpoints, stage, output)
    else:
        outcome = _together(base, fit, options, spread, checkpoints, stage, output)
    stage.curves.extend(outcome.curve)
    if outcome.curve:
        last = outcome.curve[-1]
        stage.latest.update({name: last[name] for name in ("loss", "learning_rate", "tokens_per_second") if name in last})
    stage.counts.update(steps=outcome.steps, resumed_at_step=outcome.resumed_at_step)
    if spread.processes > 1:
        stage.counts["processes"] = spread.processes
    return outcome.info


def processes_here(options: TrainingOptions) -> int:
    """Processes on each node: as asked for, or one for every GPU."""
    if options.processes:
        return options.processes
    if options.nodes > 1:
        return max(1, options.cluster.gpus)
    if prepare(options).type != "cuda":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def _alone(
    base: str, fit: Fit, options: TrainingOptions, spread: Spread, checkpoints: Checkpoints, stage: StageRun, output: str | Path
) -> Outcome:
    """Train in this process."""
    prepare(options)
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict({name: list(column) for name, column in fit.columns.items()})
    resume = checkpoints.latest_of_form(sharded=False)
    outcome = fit_model(base, fit, rows, options, spread, checkpoints, stage, output, resume)
    assert outcome is not None
    return outcome


def _together(
    base: str, fit: Fit, options: TrainingOptions, spread: Spread, checkpoints: Checkpoints, stage: StageRun, output: str | Path
) -> Outcome:
    """Train in several processes of this machine."""
    prepare(options)

    def tell(news: dict[str, Any]) -> None:
        stage.latest.update(news["latest"])
        stage.progress(news["done"], news["total"], "steps")

    scratch = Path(tempfile.mkdtemp(prefix="tutorloop-training-"))
    try:
        write_rows(scratch, fill_up(fit.columns, fit.kind, spread))
        resume = checkpoints.latest_of_form(sharded=True)
        job = make_job(base, fit, options, spread, checkpoints.uri, checkpoints.key)
        job = msgspec.structs.replace(job, output=str(output), folder=str(checkpoints.folder), resume=str(resume or ""))
        write_job(scratch, job)
        launch.run(scratch, job, tell)
        return read_result(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
