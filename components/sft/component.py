"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.core.images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def sft(base: Input[Model], train: Input[Dataset], options: dict, checkpoints: str, seed: int, records: str, model: Output[Model]) -> str:
    """Supervised fine-tuning of the base model on the teacher's solutions: M1.

    Args:
        base: The base model (M0).
        train: Demonstration rows.
        options: Options of the stage.
        checkpoints: Store URI for work in progress.
        seed: Of the order of the rows.
        records: Store URI of the records of runs.
        model: The trained model.

    Returns:
        Address of the record of what the task did.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.sft.options import SFTOptions
    from components.sft.stage import run

    with stage_run("sft", model, task="sft", options=options, records=records) as stage:
        parsed = parse_options(SFTOptions, options, "sft")
        run(base.path, train.path, parsed, stage, checkpoints=checkpoints, seed=seed, output=model.path)
    return stage.reference
