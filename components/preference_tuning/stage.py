"""The student learns from its own right and wrong answers: M1 to M2, M2 to M3; beside it a control arm without preferences."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import ParameterError
from components.core.records import LabelledResponse, ModelEntry, PreferencePair, digest_of, read_records, row_id
from components.core.stage import StageRun
from components.core.store.model_files import hand_on, pass_on
from components.preference_tuning.data import Material, kto_weights, labelled_material, pair_material
from components.preference_tuning.options import TuningOptions
from components.student.models.hardware import quiet
from components.student.models.load import load_chat, read_info
from components.student.training.checkpoints import Checkpoints
from components.student.training.distributed.sharding import settings_of
from components.student.training.train import Fit, train

ARMS = ("preference", "control")


def run(
    model: str,
    sft_model: str,
    pairs: str,
    labelled: str,
    options: TuningOptions,
    stage: StageRun,
    *,
    checkpoints: str,
    round_number: int,
    arm: str,
    seed: int,
    output: str,
) -> None:
    """Train one arm of one round.

    With nothing to learn from, the round is left out: the model is handed on as it came, in both arms, and the record says why. What
    the round cost is paid by then, and the model that it started from can still be measured, compared and published.

    Args:
        model: Folder of the model that the round starts from.
        sft_model: Folder of M1, the reference model when the options say so.
        pairs: PreferencePair rows, used by DPO.
        labelled: LabelledResponse rows, used by KTO and SFT.
        options: The stage's options.
        stage: Gets counts, curve and progress.
        checkpoints: Store URI for work in progress.
        round_number: 1-based practice round.
        arm: ``preference``, or ``control``: SFT on the same positives, same order, batch size, steps and learning rate.
        seed: Seed of the order of the rows.
        output: Model folder to write.

    Raises:
        ModelError: The model does not load, or memory runs out.
        ParameterError: Unknown arm.
    """
    if arm not in ARMS:
        raise ParameterError("arm", arm, "preference or control")
    source = pairs if options.method == "dpo" else labelled
    parent = read_info(model)
    entry = ModelEntry(
        id=model_id(round_number, arm),
        role=arm,
        parent=parent.name,
        stage="preference_tuning",
        round=round_number,
        arm=arm,
        parameters=parent.parameters,
        control_of=model_id(round_number, "preference") if arm == "control" else "",
    )
    material = _material(model, source, options, stage, arm, seed)
    if material is None:
        pass_on(Path(model), Path(output))
        print(f"{stage.task}: practice round {round_number} is left out: {stage.left_out}; {parent.name} is handed on as it is", flush=True)
        stage.counts["control"] = float(arm == "control")
        stage.models.append(msgspec.structs.replace(entry, same_as=parent.name))
        stage.lineage.update(model=msgspec.to_builtins(parent), arm=arm, method=options.method)
        return
    settings = settings_of(options)
    reference = read_info(sft_model) if options.reference == "sft" else parent
    key = row_id("preference_tuning", parent.digest, reference.digest, digest_of(source), settings, round_number, arm, seed)
    work = Checkpoints(checkpoints, key)
    rate = options.learning_rate(round_number)
    fit = Fit(
        kind=material.kind,
        columns=material.columns,
        learning_rate=rate,
        seed=seed,
        name=entry.id,
        config=_config(material, options, stage),
        facts={"stage": "preference_tuning", "arm": arm, "method": options.method, "round": round_number, "rows": material.rows},
        reference=sft_model if options.reference == "sft" else None,
    )
    info = train(model, fit, options, work, stage, output)
    planned = planned_steps(len(next(iter(material.columns.values()))), options)
    if stage.counts["steps"] != planned:
        raise RuntimeError(f"the {arm} arm took {stage.counts['steps']} steps where {planned} were planned: the arms would not match")
    hand_on(Path(output))
    work.discard()
    stage.counts["control"] = float(arm == "control")
    stage.models.append(msgspec.structs.replace(entry, rows=material.rows))
    stage.lineage.update(model=msgspec.to_builtins(info), arm=arm, method=options.method, learning_rate=rate)


def model_id(round_number: int, arm: str) -> str:
    """Id of the model that an arm of a round makes.

    Args:
        round_number: 1-based; the first round starts from M1.
        arm: One of :data:`ARMS`.
    """
    return f"M{round_number + 1}" + ("-control" if arm == "control" else "")


def planned_steps(rows: int, options: TuningOptions) -> int:
    """Optimizer steps for so many rows (all epochs): the same for both arms, since both are given equally many rows."""
    return math.ceil(math.ceil(rows / options.batch_size) / options.gradient_accumulation)


def _material(model: str, source: str, options: TuningOptions, stage: StageRun, arm: str, seed: int) -> Material | None:
    """Rows to train on; None, with the reason in the record, where the method has nothing to learn from. The same for both arms."""
    pairs = list(read_records(source, PreferencePair)) if options.method == "dpo" else []
    labelled = list(read_records(source, LabelledResponse)) if options.method != "dpo" else []
    stage.rows_in = len(pairs) + len(labelled)
    if not stage.rows_in:
        stage.left_out = f"{options.method} has no {'pair' if options.method == 'dpo' else 'labelled response'} to learn from"
        return None
    quiet()
    chat, preference = load_chat(model), arm == "preference"
    if options.method == "dpo":
        material = pair_material(chat, pairs, options, preference=preference, seed=seed)
    else:
        material = labelled_material(chat, labelled, options, method=options.method, preference=preference, seed=seed)
    for row in material.too_long:
        stage.drop("prompt_too_long", row=row)
    stage.counts.update(material.counts)
    stage.left_out = _why_left_out(material, options, stage.rows_in)
    if stage.left_out:
        if usable := stage.rows_in - sum(material.dropped.values()):
            stage.drop("one_label_only", usable)
        return None
    stage.rows_kept = material.rows
    return material


def _why_left_out(material: Material, options: TuningOptions, rows: int) -> str:
    """What the method does not find in the rows that it got; empty when it can learn."""
    fitting = f" within max_length = {options.max_length} tokens" if material.dropped else ""
    if options.method == "dpo":
        return "" if material.rows else f"dpo learns from pairs, and of {rows} none is{fitting}"
    right, wrong = int(material.counts["desirable"]), int(material.counts["undesirable"])
    if right and (wrong or options.method == "sft"):
        return ""
    needed = "right and wrong responses" if options.method == "kto" else "right responses"
    return f"{options.method} learns from {needed}, and of {rows} there are {right} right and {wrong} wrong ones{fitting}"


def _config(material: Material, options: TuningOptions, stage: StageRun) -> dict[str, Any]:
    if material.kind == "sft":
        return {"completion_only_loss": True}
    shared = {
        "beta": options.beta,
        "precompute_ref_log_probs": options.precompute_reference,
        "precompute_ref_batch_size": options.reference_batch_size,
        "disable_dropout": True,
    }
    if material.kind == "dpo":
        return {
            **shared,
            "loss_type": list(options.losses),
            "loss_weights": list(options.loss_weights),
            "label_smoothing": options.label_smoothing,
        }
    desirable, undesirable = kto_weights(
        int(material.counts["desirable"]), int(material.counts["undesirable"]), options.desirable_weight, options.undesirable_weight
    )
    stage.counts.update(desirable_weight=desirable, undesirable_weight=undesirable)
    return {
        **shared,
        "loss_type": options.unpaired_loss,
        "desirable_weight": desirable,
        "undesirable_weight": undesirable,
        "sft_weight": options.sft_weight,
    }
