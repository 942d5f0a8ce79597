"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.core.images import TRAINER


@dsl.component(base_image=TRAINER, install_kfp_package=False)
def base_model(
    benchmarks: Input[Dataset],
    options: dict,
    champion: str,
    models: str,
    seed: int,
    records: str,
    model: Output[Model],
    corpus: Output[Dataset],
) -> str:
    """The model to teach (M0): fetched, built and briefly pretrained when it is ``tiny``, or the champion.

    Args:
        benchmarks: Benchmark problems that the tiny model's pretraining must not hold.
        options: Options of the student.
        champion: Version name of the champion to start from; empty to start from the base model.
        models: Store URI of published models.
        seed: Of the tiny model.
        records: Store URI of the records of runs.
        model: The base model.
        corpus: Problems that the model has seen: of the tiny model's pretraining, of the champion's training; else empty.

    Returns:
        Address of the record of what the task did.
    """
    from components.base_model.stage import run
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.student.models.load import version_uri
    from components.student.options import StudentOptions

    with stage_run("base_model", model, task="base model", options=options, records=records) as stage:
        parsed = parse_options(StudentOptions, options, "student")
        start = version_uri(models, champion) if champion else ""
        run(benchmarks.path, parsed, stage, start=start, seed=seed, output=model.path, corpus=corpus.path)
    return stage.reference
