"""The training itself, as every process of it runs it: load, train, save. With several processes the model is sharded (FSDP 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import ModelError, ParameterError
from components.core.options import dotted
from components.core.records import Record
from components.student.models.hardware import BILLION, is_out_of_memory, prepare
from components.student.models.load import ModelInfo, Student, load_student, save_dtype, save_student
from components.student.options import TrainingOptions
from components.student.training.checkpoints import Checkpoints
from components.student.training.distributed.sharding import Spread

ALL_LINEAR = "all-linear"
"""PEFT's word for all layers that multiply, whatever their names."""
FSDP = {
    "version": 2,
    "reshard_after_forward": True,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "state_dict_type": "SHARDED_STATE_DICT",
    "cpu_ram_efficient_loading": False,
}


@dataclass(frozen=True)
class Fit:
    """What one training run is.

    Attributes:
        kind: ``sft``, ``dpo`` or ``kto``.
        columns: Token-id columns of that trainer, one entry a row, in training order: all epochs one after another.
        learning_rate: Peak learning rate.
        seed: Seed of dropout and of adapter weights.
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


class Outcome(Record, frozen=True, kw_only=True):
    """What a training leaves behind beside its model folder."""

    info: ModelInfo
    curve: list[dict[str, float]]
    steps: int
    resumed_at_step: int = 0


def fit_model(
    base: str,
    fit: Fit,
    rows: Any,
    options: TrainingOptions,
    spread: Spread,
    checkpoints: Checkpoints,
    watcher: Any,
    output: str | Path,
    resume: Path | None,
) -> Outcome | None:
    """Train, save, and describe; in each process of the training at once.

    Args:
        base: Folder of the starting model.
        fit: What to train on and how; its columns are not looked at.
        rows: ``datasets.Dataset`` of the columns.
        options: Schedule, adapters, precision.
        spread: The processes.
        checkpoints: Where work in progress is kept.
        watcher: Gets progress and figures.
        output: Model folder to write.
        resume: Checkpoint to go on from.

    Returns:
        What came out of it, in the main process; None in the others.

    Raises:
        ModelError: Memory ran out; names the settings to change.
        ParameterError: The model has no layer that adapters were asked for.
    """
    from components.student.training.trl_trainers import Watch, make_trainer

    watch = Watch(watcher, checkpoints, options.checkpoint_seconds)
    try:
        student = _load(base, options, spread)
        _require_layers(student.model, fit, options)
        config = _config(fit, options, spread, student, len(rows), checkpoints.folder)
        reference = _reference(base, fit, options, spread)
        trainer = make_trainer(fit.kind, student.model, student.tokenizer, rows, config, _adapter(options), watch, reference)
        if spread.processes > 1 and config.get("precompute_ref_log_probs"):
            trainer.ref_model = reference = None
        _agree(resume)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        model = _whole(trainer, base, options, spread)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"no memory to train {fit.name} with batch_size {options.batch_size} and max_length {options.max_length}",
            "lower batch_size and raise gradient_accumulation, lower max_length, set activation_checkpointing to on, or set lora_rank",
        ) from error
    if model is None:
        return None
    # The instance goes no further: its forward method is patched, so that only its saved weights are trustworthy.
    model = model.to(save_dtype(options.save_dtype, student.info.parameters))
    info = save_student(
        output,
        model,
        student.tokenizer,
        name=fit.name,
        base_model=student.info.base_model,
        chat_format=student.info.chat_format,
        parent=student.info,
        training={**fit.facts, "steps": trainer.state.global_step, "learning_rate": fit.learning_rate, "seed": fit.seed},
    )
    resumed_at = int(resume.name.rpartition("-")[2]) if resume else 0
    return Outcome(info=info, curve=curve(trainer.state.log_history), steps=trainer.state.global_step, resumed_at_step=resumed_at)


def _agree(resume: Path | None) -> None:
    """Refuse to go on from different checkpoints: each node looks for the newest by itself.

    Raises:
        ModelError: The nodes found different ones.
    """
    import torch

    if not torch.distributed.is_initialized():
        return
    mine = resume.name if resume else "no checkpoint"
    found: list[str] = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, mine)
    if len(set(found)) > 1:
        raise ModelError(f"the nodes would go on from different checkpoints: {', '.join(sorted(set(found)))}", "start them again")


def _load(folder: str, options: TrainingOptions, spread: Spread) -> Student:
    """Load a model in the precision to train it in: float32, or bfloat16 below adapters on a GPU."""
    import torch

    device = prepare(options)
    frozen = options.lora_rank > 0 and device.type == "cuda"
    # A model to be sharded goes to the GPUs layer by layer: whole it might not fit into one.
    place = device if spread.processes == 1 else torch.device("cpu")
    return load_student(folder, device=place, dtype=torch.bfloat16 if frozen else torch.float32)


def _reference(base: str, fit: Fit, options: TrainingOptions, spread: Spread) -> Any:
    """The reference model; None for the trainer's own way to one, which does not work with a sharded model below adapters."""
    if fit.kind == "sft" or (fit.reference is None and spread.processes == 1):
        return None
    return _load(fit.reference or base, options, spread).model


def _whole(trainer: Any, base: str, options: TrainingOptions, spread: Spread) -> Any:
    """The trained model with all its weights, adapters merged; None in other processes than the main one."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if spread.processes > 1:
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        gathered = get_model_state_dict(trainer.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if not trainer.state.is_world_process_zero:
            return None
        model = _load(base, options, spread).model
        if options.lora_rank:
            from peft import get_peft_model

            model = get_peft_model(model, _adapter(options))
        model.load_state_dict(gathered)
    return model.merge_and_unload() if options.lora_rank else model


def _config(fit: Fit, options: TrainingOptions, spread: Spread, student: Student, rows: int, folder: Path) -> dict[str, Any]:
    cuda = prepare(options).type == "cuda"
    several = spread.processes > 1
    steps = -(-rows // (spread.batch * spread.accumulation * spread.processes))
    wanted = options.activation_checkpointing
    recompute = student.info.parameters >= BILLION if wanted == "auto" else wanted == "on"
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": spread.batch,
        "gradient_accumulation_steps": spread.accumulation,
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
        "activation_checkpointing": recompute and not several,
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
        # Processes wait for one another while a checkpoint goes up.
        "ddp_timeout": 14_400,
        **({"fsdp": True, "fsdp_config": {**FSDP, "activation_checkpointing": recompute}} if several else {}),
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


def _require_layers(model: Any, fit: Fit, options: TrainingOptions) -> None:
    """Refuse targets of adapters that no layer has, which only the model can tell.

    Raises:
        ParameterError: No layer's name fits.
    """
    if not options.lora_rank or options.lora_targets.lower() == ALL_LINEAR:
        return
    names = [name for name, _ in model.named_modules() if name]
    if not any(re.fullmatch(options.lora_targets, name) for name in names):
        last = sorted({name.rpartition(".")[2] for name in names if not name[-1].isdecimal()})
        raise ParameterError(
            dotted(str(fit.facts.get("stage", "")), "lora_targets"),
            options.lora_targets,
            f"{ALL_LINEAR}, or a regular expression for whole names of layers, such as .*q_proj; "
            f"this model's names end in {', '.join(last)}",
        )


def curve(history: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The training curve from a trainer's log: entries with a loss, numbers only."""
    return [{name: float(value) for name, value in entry.items() if isinstance(value, int | float)} for entry in history if "loss" in entry]
