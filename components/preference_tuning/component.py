"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.core.images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def tune(
    model: Input[Model],
    pairs: Input[Dataset],
    labelled: Input[Dataset],
    options: dict,
    checkpoints: str,
    round: int,
    arm: str,
    seed: int,
    records: str,
    tuned: Output[Model],
    sft_model: Input[Model] = None,
) -> str:
    """DPO, KTO or continued SFT on the student's own right and wrong answers; or the matched control without preferences.

    Args:
        model: The model that the round starts from.
        pairs: Preference pairs, used by DPO.
        labelled: Labelled responses, used by KTO and SFT.
        options: Options of the stage.
        checkpoints: Store URI for work in progress.
        round: Practice round, 1-based.
        arm: "preference" or "control".
        seed: Of the order of the rows.
        records: Store URI of the records of runs.
        tuned: The trained model.
        sft_model: M1, the reference model when the options say so; left out in the round that starts from it, since a task of KFP
            cannot be given one artifact under two names.

    Returns:
        Address of the record of what the task did.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.preference_tuning.options import TuningOptions
    from components.preference_tuning.stage import run

    with stage_run(
        "preference_tuning", tuned, task=f"tuning M{round + 1} {arm}", round_number=round, options=options, records=records
    ) as stage:
        parsed = parse_options(TuningOptions, options, "preference_tuning")
        paths = [item.path for item in (model, sft_model or model, pairs, labelled)]
        run(*paths, parsed, stage, checkpoints=checkpoints, round_number=round, arm=arm, seed=seed, output=tuned.path)
    return stage.reference
