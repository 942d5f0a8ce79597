"""The student learns from its own right and wrong answers: M1 to M2, M2 to M3; beside it a control arm without preferences."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec

from components.core.errors import EmptyOutputError, ParameterError
from components.core.model_files import hand_on
from components.core.records import LabelledResponse, PreferencePair, digest_of, read_records, row_id
from components.core.stage import StageRun
from components.preference_tuning.data import Material, kto_weights, labelled_material, pair_material
from components.preference_tuning.options import TuningOptions
from components.student.chat import Chat
from components.student.checkpoints import Checkpoints
from components.student.hardware import quiet
from components.student.load import load_chat, read_info
from components.student.spread import settings_of
from components.student.training import Fit, train

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
        seed: Of the order of the rows.
        output: Model folder to write.

    Raises:
        EmptyOutputError: There is nothing to learn from.
        ModelError: The model does not load, or memory runs out.
        ParameterError: Unknown arm, or as many loss weights as losses are not given.
    """
    _check(options, arm)
    source = pairs if options.method == "dpo" else labelled
    parent = read_info(model)
    settings = settings_of(options)
    reference = read_info(sft_model) if options.reference == "sft" else parent
    key = row_id("preference_tuning", parent.digest, reference.digest, digest_of(source), settings, round_number, arm, seed)
    work = Checkpoints(checkpoints, key)
    quiet()
    material = _material(load_chat(model), source, options, stage, arm, seed)
    rate = options.learning_rate(round_number)
    fit = Fit(
        kind=material.kind,
        columns=material.columns,
        learning_rate=rate,
        seed=seed,
        name=f"M{round_number + 1}" + ("-control" if arm == "control" else ""),
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
    stage.lineage.update(model=msgspec.to_builtins(info), arm=arm, method=options.method, learning_rate=rate)


def planned_steps(rows: int, options: TuningOptions) -> int:
    """Optimizer steps for so many rows (all epochs): the same for both arms, since both are given equally many rows."""
    return math.ceil(math.ceil(rows / options.batch_size) / options.gradient_accumulation)


def _check(options: TuningOptions, arm: str) -> None:
    if arm not in ARMS:
        raise ParameterError("arm", arm, "preference or control")
    if len(options.loss_weights) != len(options.losses):
        raise ParameterError(
            "preference_tuning.loss_weights", options.loss_weights, f"{len(options.losses)} numbers, one for each of losses"
        )
    if options.sft_weight and options.method != "kto":
        raise ParameterError("preference_tuning.sft_weight", options.sft_weight, "0, unless method is kto; for dpo add sft to losses")


def _material(chat: Chat, source: str, options: TuningOptions, stage: StageRun, arm: str, seed: int) -> Material:
    preference = arm == "preference"
    if options.method == "dpo":
        pairs = list(read_records(source, PreferencePair))
        stage.rows_in = len(pairs)
        material = pair_material(chat, pairs, options, preference=preference, seed=seed)
    else:
        labelled = list(read_records(source, LabelledResponse))
        stage.rows_in = len(labelled)
        material = labelled_material(chat, labelled, options, method=options.method, preference=preference, seed=seed)
    for reason, count in material.dropped.items():
        stage.drop(reason, count)
    stage.rows_kept = material.rows
    if not material.rows:
        raise EmptyOutputError(
            f"{stage.task}: there is nothing to learn from ({stage.rows_in} rows in; dropped: {stage.dropped or 'none'})",
            "see the counts of the preferences stage: are there positives and negatives?",
        )
    stage.counts.update(material.counts)
    return material


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
