"""The Orca-Math method (arXiv 2402.14830) as one Kubeflow pipeline.

Seeds are rewritten by agents and solved by the teacher; the base model M0 is tuned on the solutions to M1; in each practice
round the model answers the problems, the answers are judged, and preference tuning makes the next model from right and wrong
answers. Each of these is a layer of the graph, a nested pipeline with a module of its own; the pipeline's first view shows the layers.
"""

import msgspec
from kfp import dsl

from pipelines.cluster import ClusterOptions
from pipelines.control.component import preflight
from pipelines.orca_math.comparison import comparison_layer
from pipelines.orca_math.data import data_layer
from pipelines.orca_math.first_model import first_model_layer
from pipelines.orca_math.practice import practice_layer
from pipelines.task_settings import TaskSettings

ROUNDS = 2
"""Practice rounds of the paper: M1 to M2 to M3."""


def build(rounds: int = ROUNDS, settings: TaskSettings | None = None):
    """Build the pipeline with its practice rounds unrolled.

    Args:
        rounds: Number of practice rounds, 1 or more.
        settings: Of its tasks.

    Returns:
        The pipeline, ready for the KFP compiler.
    """
    settings = settings or TaskSettings(ClusterOptions())
    data = data_layer(settings)
    first_model = first_model_layer(settings)
    practice = {number: practice_layer(number, settings) for number in range(1, rounds + 1)}
    comparison = comparison_layer(settings)

    @dsl.pipeline(
        name="orca-math",
        display_name="Orca-Math",
        description=f"Agents write problems, a teacher solves them, a student learns, practises and is marked in {rounds} rounds. "
        "What each parameter means: docs/options.md of TutorLoop's repository.",
        pipeline_config=settings.pipeline_config(),
    )
    def orca_math(
        seeds: dict,
        benchmarks: dict,
        teacher: dict,
        judge_teacher: dict,
        synthesis: dict,
        solving: dict,
        contamination: dict,
        student: dict,
        sft_options: dict,
        sampling: dict,
        judging: dict,
        preferences: dict,
        preference_tuning: dict,
        evaluation: dict,
        promotion: dict,
        responses: str,
        checkpoints: str,
        models: str,
        records: str,
        profile: str = "",
        pipeline_digest: str = "",
        seed: int = 0,
        data_shards: list[str] = ["0/1"],
        sampling_shards: list[str] = ["0/1"],
    ):
        checked = settings.configure(
            preflight(
                seeds=seeds,
                benchmarks=benchmarks,
                teacher=teacher,
                judge_teacher=judge_teacher,
                synthesis=synthesis,
                solving=solving,
                contamination=contamination,
                student=student,
                sft=sft_options,
                sampling=sampling,
                judging=judging,
                preferences=preferences,
                preference_tuning=preference_tuning,
                evaluation=evaluation,
                promotion=promotion,
                cluster=msgspec.to_builtins(settings.cluster),
                launchers=sorted(settings.launchers),
                responses=responses,
                checkpoints=checkpoints,
                models=models,
                records=records,
                profile=profile,
                pipeline_digest=pipeline_digest,
                seed=seed,
                data_shards=data_shards,
                sampling_shards=sampling_shards,
                rounds=rounds,
            ),
            "Preflight",
            "control",
            cached=False,
            retried=False,
            # With the keys of the task that comes last: what they lack would show after everything is paid for.
            publishes=True,
            asks_teacher=True,
        )
        made = (
            data(
                seeds=seeds,
                benchmarks=benchmarks,
                teacher=teacher,
                synthesis=synthesis,
                solving=solving,
                contamination=contamination,
                student=student,
                responses=responses,
                models=models,
                records=records,
                seed=seed,
                shards=data_shards,
            )
            .after(checked)
            .set_display_name("Data: problems and solutions")
        )
        train, benchmark_problems = made.outputs["train"], made.outputs["benchmarks"]
        first = first_model(
            base=made.outputs["base"],
            train=train,
            benchmarks=benchmark_problems,
            ledger=made.outputs["ledger"],
            sft_options=sft_options,
            evaluation=evaluation,
            checkpoints=checkpoints,
            records=records,
            seed=seed,
        ).set_display_name("First model: M0 to M1")
        latest = first
        for number, practise in practice.items():
            reference = {} if number == 1 else {"sft_model": first.outputs["model"]}
            latest = practise(
                model=latest.outputs["model"],
                train=train,
                benchmarks=benchmark_problems,
                ledger=latest.outputs["ledger"],
                judge_teacher=judge_teacher,
                sampling=sampling,
                judging=judging,
                preferences=preferences,
                preference_tuning=preference_tuning,
                evaluation=evaluation,
                responses=responses,
                checkpoints=checkpoints,
                records=records,
                seed=seed,
                shards=sampling_shards,
                **reference,
            ).set_display_name(f"Practice round {number}: M{number} to M{number + 1}")
        comparison(
            model=latest.outputs["model"],
            train=train,
            benchmarks=benchmark_problems,
            results=latest.outputs["results"],
            base_results=first.outputs["base_results"],
            ledger=latest.outputs["ledger"],
            evaluation=evaluation,
            promotion=promotion,
            checkpoints=checkpoints,
            models=models,
            records=records,
            pipeline_digest=pipeline_digest,
            seed=seed,
        ).set_display_name("Compare and publish")

    return orca_math
