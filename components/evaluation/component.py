"""The KFP faces of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from components.core.images import GENERATOR


@dsl.component(base_image=GENERATOR, install_kfp_package=False)
def evaluate(
    model: Input[Model],
    benchmarks: Input[Dataset],
    options: dict,
    name: str,
    checkpoints: str,
    seed: int,
    results: Output[Dataset],
    record: Output[Metrics],
):
    """Greedy pass@1, Pass@N, PassRatio@N and majority@N of one model on every benchmark.

    Args:
        model: The model.
        benchmarks: Benchmark problems.
        options: Options of the stage.
        name: Name under which the model is reported.
        checkpoints: Store URI for finished chunks.
        seed: Of the samples.
        results: What the model did on each problem.
        record: What the stage did, with the scores.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.evaluation.options import EvaluationOptions
    from components.evaluation.stage import run

    with stage_run("evaluation", record, task=f"evaluation {name}", options=options) as stage:
        parsed = parse_options(EvaluationOptions, options, "evaluation")
        run(model.path, benchmarks.path, parsed, stage, name=name, checkpoints=checkpoints, seed=seed, output=results.path)


@dsl.component(base_image=GENERATOR, install_kfp_package=False)
def evaluate_champion(
    models: str,
    champion: str,
    benchmarks: Input[Dataset],
    options: dict,
    checkpoints: str,
    seed: int,
    results: Output[Dataset],
    record: Output[Metrics],
):
    """The same measures for the current champion; nothing is loaded when there is none.

    Args:
        models: Store URI of published models.
        champion: Version name of the champion, or empty.
        benchmarks: Benchmark problems.
        options: Options of the stage.
        checkpoints: Store URI for finished chunks.
        seed: Of the samples.
        results: What the champion did on each problem; empty when there is none.
        record: What the stage did, with the scores.
    """
    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.evaluation.options import EvaluationOptions
    from components.evaluation.stage import run_champion

    with stage_run("evaluation", record, task="evaluation champion", options=options) as stage:
        parsed = parse_options(EvaluationOptions, options, "evaluation")
        run_champion(models, champion, benchmarks.path, parsed, stage, checkpoints=checkpoints, seed=seed, output=results.path)
