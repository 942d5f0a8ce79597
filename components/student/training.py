"""One training run from a model folder to a model folder: the part that SFT, DPO, KTO and the control arm share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import ModelError
from components.core.stage import StageRun
from components.student.checkpoints import Checkpoints
from components.student.hardware import BILLION, is_out_of_memory, prepare
from components.student.load import ModelInfo, Student, load_student, save_dtype, save_student
from components.student.options import TrainingOptions


@dataclass(frozen=True)
class Fit:
    """What one training run is.

    Attributes:
        kind: ``sft``, ``dpo`` or ``kto``.
        columns: Token-id columns of that trainer, one entry a row, in training order: all epochs one after another.
        learning_rate: Peak learning rate.
        seed: Of dropout and of adapter weights.
        name: Name of the new model.
        config: Further fields of the trainer's configuration.
        facts: Noted in the model's description.
        reference: Folder of the reference model of ``dpo`` and ``kto``; None for the model as it is before training.
    """

    kind: str
    columns: Mapping[str, Sequence[Any]]
    learning_rate: float
    seed: int
    name: str
    config: Mapping[str, Any]
    facts: Mapping[str, float | str]
    reference: str | None = None


def load_for_training(folder: str | Path, options: TrainingOptions) -> Student:
    """Load a model in the precision to train it in: float32, or bfloat16 below adapters on a GPU."""
    device = prepare(options)
    import torch

    frozen = options.lora_rank > 0 and device.type == "cuda"
    return load_student(folder, device=device, dtype=torch.bfloat16 if frozen else torch.float32)


def train(student: Student, fit: Fit, options: TrainingOptions, checkpoints: Checkpoints, stage: StageRun, output: str | Path) -> ModelInfo:
    """Train, save, and describe.

    Continues from the newest complete checkpoint; the result is then bit-identical to that of an undisturbed run on the same
    machine with the same number of threads.

    Args:
        student: The starting model; it must not be used afterwards.
        fit: What to train on and how.
        options: Batch size, schedule, adapters, precision.
        checkpoints: Where work in progress is kept; left for the caller to discard.
        stage: Gets progress, the training curve and the counts ``steps`` and ``resumed_at_step``.
        output: Model folder to write.

    Raises:
        ModelError: Memory ran out; names the settings to change.
    """
    import datasets

    from components.student.trainers import Watch, make_trainer

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict({name: list(column) for name, column in fit.columns.items()})
    config = _config(fit, options, student, len(rows), checkpoints.folder)
    watch = Watch(stage, checkpoints, options.checkpoint_seconds)
    resume = checkpoints.latest()
    reference = load_for_training(fit.reference, options).model if fit.reference and fit.kind != "sft" else None
    try:
        trainer = make_trainer(fit.kind, student.model, student.tokenizer, rows, config, _adapter(options), watch, reference)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"no memory to train {fit.name} with batch_size {options.batch_size} and max_length {options.max_length}",
            "lower batch_size and raise gradient_accumulation, lower max_length, set activation_checkpointing to on, or set lora_rank",
        ) from error
    stage.curves.extend(curve(trainer.state.log_history))
    stage.counts["steps"] = trainer.state.global_step
    stage.counts["resumed_at_step"] = int(resume.name.rpartition("-")[2]) if resume else 0
    model = trainer.accelerator.unwrap_model(trainer.model)
    if options.lora_rank:
        model = model.merge_and_unload()
    # The instance goes no further: its forward method is patched, so that only its saved weights are trustworthy.
    model = model.to(save_dtype(options.save_dtype, student.info.parameters))
    return save_student(
        output,
        model,
        student.tokenizer,
        name=fit.name,
        base_model=student.info.base_model,
        chat_format=student.info.chat_format,
        parent=student.info,
        training={**fit.facts, "steps": trainer.state.global_step, "learning_rate": fit.learning_rate, "seed": fit.seed},
    )


def _config(fit: Fit, options: TrainingOptions, student: Student, rows: int, folder: Path) -> dict[str, Any]:
    cuda = student.model.device.type == "cuda"
    steps = -(-rows // (options.batch_size * options.gradient_accumulation))
    recompute = options.activation_checkpointing
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.gradient_accumulation,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": fit.learning_rate,
        "lr_scheduler_type": options.scheduler,
        "warmup_steps": min(options.warmup, 0.999999),
        "weight_decay": options.weight_decay,
        "adam_beta2": options.adam_beta2,
        "max_grad_norm": options.max_grad_norm,
        "optim": "adamw_torch_fused",
        "max_length": options.max_length,
        "bf16": cuda if options.bf16 == "auto" else options.bf16 == "on",
        "fp16": False,
        "use_cpu": not cuda,
        "activation_checkpointing": student.info.parameters >= BILLION if recompute == "auto" else recompute == "on",
        "seed": fit.seed,
        "data_seed": fit.seed,
        "logging_strategy": "steps",
        "logging_steps": max(1, steps // options.log_points),
        "save_strategy": "no",
        "save_total_limit": 2,
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
        **fit.config,
    }


def _adapter(options: TrainingOptions) -> Any:
    if not options.lora_rank:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=options.lora_targets,
        task_type="CAUSAL_LM",
    )


def curve(history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The training curve from a trainer's log: entries with a loss, numbers only."""
    return [{name: float(value) for name, value in entry.items() if isinstance(value, int | float)} for entry in history if "loss" in entry]
