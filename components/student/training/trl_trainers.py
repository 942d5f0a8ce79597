"""TRL's trainers for rows that arrive as token ids; imported only where training really happens, since TRL is slow to import."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import PartialState
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from components.student.training.checkpoints import Checkpoints


class _Sharded:
    """What trainers of a sharded model need beyond what the libraries do; nothing of it is used by one process alone."""

    reference_columns: tuple[str, ...] = ()
    """Columns for what ``compute_ref_log_probs`` gives."""

    def create_accelerator_and_postprocess(self) -> None:
        """Shard on CPUs too: accelerate knows FSDP on accelerators only, torch on both."""
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        me: Any = self
        if me.args.fsdp_plugin_args is None or not me.args.use_cpu:
            return
        from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

        plugin = FullyShardedDataParallelPlugin(**me.args.fsdp_plugin_args)
        if me.accelerator.mixed_precision != "no":
            plugin.set_mixed_precision(me.accelerator.mixed_precision)
        # Each look at the state copies the fields of the partial state over its own.
        for state in (PartialState(), me.accelerator.state):
            state.distributed_type = DistributedType.FSDP
        me.accelerator.state.fsdp_plugin = plugin
        me.is_fsdp_enabled = True

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """The reference's log-probabilities as columns in the memory of every process: TRL hands them on in a file of one machine."""
        me: Any = self
        if me.accelerator.num_processes == 1:
            return super()._precompute_ref_logps(dataset, name, batch_size)  # type: ignore[misc]
        found: dict[str, list[Any]] = {column: [] for column in self.reference_columns}
        for batch in me.accelerator.prepare(DataLoader(dataset, batch_size=batch_size, collate_fn=me.data_collator)):
            values = me.compute_ref_log_probs(me.ref_model, batch)
            for column, value in zip(self.reference_columns, values, strict=True):
                # KTO without a KL estimate has no second value.
                if value is not None:
                    found[column].append(me.accelerator.gather_for_metrics(value).cpu())
        for column, parts in found.items():
            dataset = dataset.add_column(column, torch.cat(parts).tolist()) if parts else dataset
        return dataset


class EncodedSFTTrainer(_Sharded, SFTTrainer):
    """SFT on columns ``input_ids`` and ``labels``."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, packing: bool, *rest: Any) -> Any:
        return super()._prepare_dataset(dataset, processing_class, args, packing, *rest) if packing else dataset


class EncodedDPOTrainer(_Sharded, DPOTrainer):
    """DPO on columns ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``."""

    reference_columns = ("ref_chosen_logps", "ref_rejected_logps")

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


@dataclass
class EncodedKTOConfig(KTOConfig):
    """KTO's configuration with the weight of an SFT term, which TRL offers for DPO only."""

    sft_weight: float = field(default=0.0, metadata={"help": "Weight of the likelihood of desirable responses."})


class EncodedKTOTrainer(_Sharded, KTOTrainer):
    """KTO on columns ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``, with an optional SFT term."""

    reference_columns = ("ref_logps", "ref_KL_logps")

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The KTO loss plus ``sft_weight`` times the mean negative log-likelihood per token of the desirable responses."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.args.sft_weight or return_outputs:
            return loss
        desirable = torch.as_tensor(inputs["label"], dtype=torch.bool)
        processes = self.accelerator.num_processes
        if processes > 1:
            # Every process must go through the sharded model equally often: rows are masked rather than left out.
            labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
            labels = labels.masked_fill(~desirable.to(labels.device)[:, None], -100)
            outputs = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], labels=labels, use_cache=False, fused_lm_head=True
            )
            tokens = self.accelerator.gather((labels[:, 1:] != -100).sum()).sum().clamp(min=1)
            return loss - self.args.sft_weight * outputs.log_probs.sum() * processes / tokens
        if not desirable.any():
            return loss
        kept = {name: inputs[name][desirable].to(self.accelerator.device) for name in ("input_ids", "attention_mask", "completion_mask")}
        labels = kept["input_ids"].masked_fill(kept["completion_mask"] == 0, -100)
        outputs = model(
            input_ids=kept["input_ids"], attention_mask=kept["attention_mask"], labels=labels, use_cache=False, fused_lm_head=True
        )
        tokens = (labels[:, 1:] != -100).sum()
        return loss - self.args.sft_weight * outputs.log_probs.sum() / tokens


TRAINERS: dict[str, tuple[Any, Any]] = {
    "sft": (EncodedSFTTrainer, SFTConfig),
    "dpo": (EncodedDPOTrainer, DPOConfig),
    "kto": (EncodedKTOTrainer, EncodedKTOConfig),
}


def wait_for_all() -> None:
    """Wait until every process of the training is here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def agreed(wanted: bool) -> bool:
    """What the main process wants, told to all: their clocks differ, and a checkpoint is written by all or none."""
    if not torch.distributed.is_initialized():
        return wanted
    told = [wanted]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


class Observer(Protocol):
    """Who is told how a training goes; a ``StageRun`` is one."""

    latest: dict[str, float]

    def progress(self, done: int, total: int, unit: str = "rows", force: bool = False) -> None:
        """Steps done, and in all."""


class Watch(TrainerCallback):
    """Reports progress, asks for a checkpoint when it is due, marks it complete, measures speed."""

    def __init__(self, stage: Observer, checkpoints: Checkpoints, checkpoint_seconds: float) -> None:
        self.stage = stage
        self.checkpoints = checkpoints
        self.seconds = checkpoint_seconds
        self._saved = time.monotonic()
        self._logged = time.monotonic()
        self._tokens: float | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stage.progress(state.global_step, state.max_steps, "steps")
        if self.seconds > 0 and state.global_step < state.max_steps:
            control.should_save |= agreed(time.monotonic() - self._saved >= self.seconds)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wait_for_all()
        if state.is_local_process_zero:
            self.checkpoints.upload(state.global_step)
        wait_for_all()
        if state.is_world_process_zero:
            self.checkpoints.mark(state.global_step)
        elif state.is_local_process_zero:
            self.checkpoints.drop_other_copies(state.global_step)
        self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        entry = state.log_history[-1]
        now = time.monotonic()
        if "num_tokens" in entry:
            if self._tokens is not None:
                entry["tokens_per_second"] = (entry["num_tokens"] - self._tokens) / max(now - self._logged, 1e-9)
            self._tokens = entry["num_tokens"]
        self._logged = now
        self.stage.latest.update({name: entry[name] for name in ("loss", "learning_rate", "tokens_per_second") if name in entry})


def make_trainer(
    kind: str, model: Any, tokenizer: Any, rows: Any, config: dict[str, Any], adapter: Any, watch: Watch, reference: Any = None
) -> Any:
    """A trainer that prints nothing by itself.

    Args:
        kind: ``sft``, ``dpo`` or ``kto``.
        model: The model to train.
        tokenizer: Its tokenizer.
        rows: ``datasets.Dataset`` in training order.
        config: Fields of the trainer's configuration class.
        adapter: PEFT configuration, or None to train all weights.
        watch: The callback.
        reference: Reference model of ``dpo`` and ``kto``; None for the model as it is before training.
    """
    trainer_class, config_class = TRAINERS[kind]
    more = {} if reference is None else {"ref_model": reference}
    trainer = trainer_class(
        model=model,
        args=config_class(**config),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[watch],
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
