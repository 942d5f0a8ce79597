"""The Orca-Math method (arXiv 2402.14830) as one Kubeflow pipeline.

Seeds are rewritten by agents and solved by the teacher; the base model M0 is tuned on the solutions to M1; in each practice
round the model answers the problems, the answers are judged, and preference tuning makes the next model from right and wrong
answers. Each of these is a layer of the graph; the pipeline's first view shows the layers.
"""

from types import SimpleNamespace
from typing import Any

from pipelines.methods.orca_math import METHOD
from pipelines.methods.orca_math.shape import OrcaMathShape
from pipelines.parts.comparison import comparison_layer
from pipelines.parts.data import data_layer
from pipelines.parts.first_model import first_model_layer
from pipelines.parts.graphs import graph, inputs_of
from pipelines.parts.practice import practice_layer
from pipelines.parts.preflight import checked_first
from pipelines.parts.task_settings import TaskSettings


def build(shape: OrcaMathShape, settings: TaskSettings) -> Any:
    """Build the pipeline with its practice rounds unrolled.

    Args:
        shape: Number of practice rounds.
        settings: Settings of its tasks.

    Returns:
        The pipeline, ready for the KFP compiler.
    """
    data = data_layer(settings)
    first_model = first_model_layer(settings)
    practice = {number: practice_layer(number, settings) for number in range(1, shape.rounds + 1)}
    comparison = comparison_layer(settings, METHOD.cards)

    def orca_math(given: SimpleNamespace) -> None:
        checked = checked_first(METHOD, shape, settings, given)
        made = data(given, shards=given.data_shards).after(checked).set_display_name("Data: problems and solutions")
        rows = {"train": made.outputs["train"], "benchmarks": made.outputs["benchmarks"]}
        first = first_model(given, base=made.outputs["base"], ledger=made.outputs["ledger"], **rows)
        first.set_display_name("First model: M0 to M1")
        latest = first
        for number, practise in practice.items():
            # KFP refuses a task that gets one artifact under two names: the first round starts from that model.
            reference = {} if number == 1 else {"sft_model": first.outputs["model"]}
            latest = practise(
                given,
                model=latest.outputs["model"],
                ledger=latest.outputs["ledger"],
                shards=given.sampling_shards,
                **rows,
                **reference,
            )
            latest.set_display_name(f"Practice round {number}: M{number} to M{number + 1}")
        comparison(
            given,
            model=latest.outputs["model"],
            results=latest.outputs["results"],
            base_results=first.outputs["base_results"],
            ledger=latest.outputs["ledger"],
            **rows,
        ).set_display_name("Compare and publish")

    return graph(
        orca_math,
        inputs_of(list(METHOD.sections), shards=METHOD.shards),
        name="orca-math",
        display_name=METHOD.title,
        description="Agents write problems, a teacher solves them, a student learns, practises and is marked in "
        f"{shape.rounds} rounds. What each parameter means: docs/options.md of TutorLoop's repository.",
        pipeline_config=settings.pipeline_config(),
    )
