"""TRL's trainers for rows that arrive as token ids; imported only where training really happens, since TRL is slow to import."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from components.core.stage import StageRun
from components.student.checkpoints import Checkpoints


class EncodedSFTTrainer(SFTTrainer):
    """SFT on columns ``input_ids`` and ``labels``."""

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, packing: bool, *rest: Any) -> Any:
        return super()._prepare_dataset(dataset, processing_class, args, packing, *rest) if packing else dataset


class EncodedDPOTrainer(DPOTrainer):
    """DPO on columns ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


@dataclass
class EncodedKTOConfig(KTOConfig):
    """KTO's configuration with the weight of an SFT term, which TRL offers for DPO only."""

    sft_weight: float = field(default=0.0, metadata={"help": "Weight of the likelihood of desirable responses."})


class EncodedKTOTrainer(KTOTrainer):
    """KTO on columns ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``, with an optional SFT term."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """The KTO loss plus ``sft_weight`` times the mean negative log-likelihood per token of the desirable responses."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.args.sft_weight or return_outputs:
            return loss
        desirable = torch.as_tensor(inputs["label"], dtype=torch.bool)
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


class Watch(TrainerCallback):
    """Reports progress, asks for a checkpoint when it is due, marks it complete, measures speed."""

    def __init__(self, stage: StageRun, checkpoints: Checkpoints, checkpoint_seconds: float) -> None:
        self.stage = stage
        self.checkpoints = checkpoints
        self.seconds = checkpoint_seconds
        self._saved = time.monotonic()
        self._logged = time.monotonic()
        self._tokens: float | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stage.progress(state.global_step, state.max_steps, "steps")
        if self.seconds > 0 and time.monotonic() - self._saved >= self.seconds and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self.checkpoints.finish(state.global_step)
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
