"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.core.images import GENERATOR


@dsl.component(base_image=GENERATOR, install_kfp_package=False)
def sample(
    model: Input[Model],
    train: Input[Dataset],
    options: dict,
    checkpoints: str,
    round: int,
    seed: int,
    shard: str,
    records: str,
    samples: Output[Dataset],
) -> str:
    """Several responses of the student to every practice problem.

    Args:
        model: The student (M1 in round 1).
        train: Demonstration rows whose problems are practised on.
        options: Options of the stage.
        checkpoints: Store URI for finished chunks.
        round: Practice round, 1-based.
        seed: Of the choice of problems and of every sample.
        shard: "index/count".
        records: Store URI of the records of runs.
        samples: The responses.

    Returns:
        Address of the record of what the task did.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.sampling.options import SamplingOptions
    from components.sampling.stage import run

    with stage_run(
        "sampling", samples, task=f"sampling M{round}", shard=shard, round_number=round, options=options, records=records
    ) as stage:
        parsed = parse_options(SamplingOptions, options, "sampling")
        run(model.path, train.path, parsed, stage, checkpoints=checkpoints, round_number=round, seed=seed, output=samples.path)
    return stage.reference
