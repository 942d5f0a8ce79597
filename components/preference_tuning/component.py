"""The KFP face of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.core.images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def tune(
    model: Input[Model],
    sft_model: Input[Model],
    pairs: Input[Dataset],
    labelled: Input[Dataset],
    options: dict,
    checkpoints: str,
    round: int,
    arm: str,
    seed: int,
    tuned: Output[Model],
    record: Output[Metrics],
):
    """DPO, KTO or continued SFT on the student's own right and wrong answers; or the matched control without preferences.

    Args:
        model: The model that the round starts from.
        sft_model: M1, the reference model when the options say so.
        pairs: Preference pairs, used by DPO.
        labelled: Labelled responses, used by KTO and SFT.
        options: Options of the stage.
        checkpoints: Store URI for work in progress.
        round: Practice round, 1-based.
        arm: "preference" or "control".
        seed: Of the order of the rows.
        tuned: The trained model.
        record: What the stage did.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.preference_tuning.options import TuningOptions
    from components.preference_tuning.stage import run

    with stage_run("preference_tuning", record, task=f"tuning M{round + 1} {arm}", options=options) as stage:
        parsed = parse_options(TuningOptions, options, "preference_tuning")
        paths = [item.path for item in (model, sft_model, pairs, labelled)]
        run(*paths, parsed, stage, checkpoints=checkpoints, round_number=round, arm=arm, seed=seed, output=tuned.path)
