"""TRL's trainers for rows that arrive as token ids; imported only where training really happens, since TRL is slow to import."""

from __future__ import annotations

import time
from typing import Any

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


class EncodedKTOTrainer(KTOTrainer):
    """KTO on columns ``prompt_ids``, ``completion_ids``, ``KL_completion_ids`` and ``label``."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset


TRAINERS: dict[str, tuple[Any, Any]] = {
    "sft": (EncodedSFTTrainer, SFTConfig),
    "dpo": (EncodedDPOTrainer, DPOConfig),
    "kto": (EncodedKTOTrainer, KTOConfig),
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


def make_trainer(kind: str, model: Any, tokenizer: Any, rows: Any, config: dict[str, Any], adapter: Any, watch: Watch) -> Any:
    """A trainer that prints nothing by itself.

    Args:
        kind: ``sft``, ``dpo`` or ``kto``.
        model: The model to train.
        tokenizer: Its tokenizer.
        rows: ``datasets.Dataset`` in training order.
        config: Fields of the trainer's configuration class.
        adapter: PEFT configuration, or None to train all weights.
        watch: The callback.
    """
    trainer_class, config_class = TRAINERS[kind]
    trainer = trainer_class(
        model=model,
        args=config_class(**config),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
