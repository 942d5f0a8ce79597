"""The KFP components of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from components.core.images import GENERATOR


@dsl.component(base_image=GENERATOR, install_kfp_package=False)
def evaluate(
    model: Input[Model],
    benchmarks: Input[Dataset],
    options: dict,
    name: str,
    checkpoints: str,
    seed: int,
    records: str,
    results: Output[Dataset],
) -> str:
    """Greedy pass@1, Pass@N, PassRatio@N and majority@N of one model on every benchmark.

    Args:
        model: The model.
        benchmarks: Benchmark problems.
        options: Options of the stage.
        name: Name under which the model is reported.
        checkpoints: Store URI for finished chunks.
        seed: Of the samples.
        records: Store URI of the records of runs.
        results: What the model did on each problem.

    Returns:
        Address of the record of what the task did.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.evaluation.options import EvaluationOptions
    from components.evaluation.stage import run

    with stage_run("evaluation", results, task=f"evaluation {name}", options=options, records=records) as stage:
        parsed = parse_options(EvaluationOptions, options, "evaluation")
        run(model.path, benchmarks.path, parsed, stage, name=name, checkpoints=checkpoints, seed=seed, output=results.path)
    return stage.reference


@dsl.component(base_image=GENERATOR, install_kfp_package=False)
def evaluate_champion(
    models: str,
    champion: str,
    benchmarks: Input[Dataset],
    options: dict,
    checkpoints: str,
    seed: int,
    records: str,
    results: Output[Dataset],
) -> str:
    """The same measures for the current champion; nothing is loaded when there is none.

    Args:
        models: Store URI of published models.
        champion: Version name of the champion, or empty.
        benchmarks: Benchmark problems.
        options: Options of the stage.
        checkpoints: Store URI for finished chunks.
        seed: Of the samples.
        records: Store URI of the records of runs.
        results: What the champion did on each problem; empty when there is none.

    Returns:
        Address of the record of what the task did.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.evaluation.options import EvaluationOptions
    from components.evaluation.stage import run_champion

    with stage_run("evaluation", results, task="evaluation champion", options=options, records=records) as stage:
        parsed = parse_options(EvaluationOptions, options, "evaluation")
        run_champion(models, champion, benchmarks.path, parsed, stage, checkpoints=checkpoints, seed=seed, output=results.path)
    return stage.reference
