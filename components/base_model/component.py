"""The KFP face of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.core.images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def base_model(
    benchmarks: Input[Dataset], options: dict, seed: int, model: Output[Model], corpus: Output[Dataset], record: Output[Metrics]
):
    """The model to teach (M0): fetched, or built and briefly pretrained when it is ``tiny``.

    Args:
        benchmarks: Benchmark problems that the tiny model's pretraining must not hold.
        options: Options of the student.
        seed: Of the tiny model.
        model: The base model.
        corpus: Problems of the tiny model's pretraining; empty for other models.
        record: What the stage did.
    """
    from components.base_model.stage import run
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.student.options import StudentOptions

    with stage_run("base_model", record, task="base model", options=options) as stage:
        parsed = parse_options(StudentOptions, options, "base_model")
        run(benchmarks.path, parsed, stage, seed=seed, output=model.path, corpus=corpus.path)
