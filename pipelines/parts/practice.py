"""The layer of a practice round: the model answers, its answers are judged, and preference tuning makes the next model of it."""

from types import SimpleNamespace
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from components.evaluation.component import evaluate
from components.judging.component import judge
from components.ledger.component import gather
from components.preference_tuning.component import tune
from components.preferences.component import build_preferences
from components.sampling.component import sample
from pipelines.parts.graphs import Layer, layer
from pipelines.parts.task_settings import TaskSettings


class Round(NamedTuple):
    model: Model
    results: Dataset
    ledger: Artifact


def practice_layer(number: int, settings: TaskSettings) -> Layer:
    """Build the nested pipeline of one practice round. Every round also trains a matched control: the same positives, order and number
    of steps, without the preference term.

    Args:
        number: 1-based; round r samples M<r> and trains M<r+1>. The first gets no ``sft_model``: that is the model it starts from, and
            KFP refuses a task that gets one artifact under two names.
        settings: Settings of its tasks.

    Returns:
        A layer with the outputs of :class:`Round`: the new model, what it did on the benchmarks, and the ledger so far.
    """
    configure = settings.configure

    def practice(given: SimpleNamespace) -> Round:
        with dsl.ParallelFor(given.shards, name="shards") as shard:
            sampled = configure(
                sample(
                    model=given.model,
                    train=given.train,
                    options=given.sampling,
                    checkpoints=given.checkpoints,
                    round=number,
                    seed=given.seed,
                    shard=shard,
                    records=given.records,
                ),
                f"Sample M{number}",
                "generation",
            )
            judged = configure(
                judge(
                    samples=sampled.outputs["samples"],
                    train=given.train,
                    teacher=given.judge_teacher,
                    options=given.judging,
                    responses=given.responses,
                    records=given.records,
                    round=number,
                    shard=shard,
                ),
                "Judge the answers",
                "teacher",
            )
        built = configure(
            build_preferences(
                judged=dsl.Collected(judged.outputs["judged"]),
                train=given.train,
                options=given.preferences,
                round=number,
                seed=given.seed,
                records=given.records,
            ),
            "Build preferences",
            "data",
        )
        reference = {"sft_model": given.sft_model} if number > 1 else {}
        tuned, scored = {}, {}
        for arm, name in (("preference", f"M{number + 1}"), ("control", f"M{number + 1}-control")):
            tuned[arm] = configure(
                tune(
                    model=given.model,
                    pairs=built.outputs["pairs"],
                    labelled=built.outputs["labelled"],
                    options=given.preference_tuning,
                    checkpoints=given.checkpoints,
                    round=number,
                    arm=arm,
                    seed=given.seed,
                    records=given.records,
                    **reference,
                ),
                f"Train {name}",
                "training",
                trains="preference_tuning",
            )
            scored[arm] = configure(
                evaluate(
                    model=tuned[arm].outputs["tuned"],
                    benchmarks=given.benchmarks,
                    options=given.evaluation,
                    name=name,
                    checkpoints=given.checkpoints,
                    seed=given.seed,
                    records=given.records,
                ),
                f"Evaluate {name}",
                "generation",
            )
        gathered = configure(
            gather(
                records=given.records,
                previous=given.ledger,
                shards_1=dsl.Collected(sampled.outputs["Output"]),
                shards_2=dsl.Collected(judged.outputs["Output"]),
                record_1=built.outputs["Output"],
                record_2=tuned["preference"].outputs["Output"],
                record_3=tuned["control"].outputs["Output"],
                record_4=scored["preference"].outputs["Output"],
                record_5=scored["control"].outputs["Output"],
            ),
            f"Record of round {number}",
            "data",
        )
        return Round(
            model=tuned["preference"].outputs["tuned"],
            results=scored["preference"].outputs["results"],
            ledger=gathered.outputs["ledger"],
        )

    artifacts = {"model": Input[Model], "train": Input[Dataset], "benchmarks": Input[Dataset], "ledger": Input[Artifact]}
    if number > 1:
        artifacts["sft_model"] = Input[Model]
    return layer(
        practice,
        name=f"practice-round-{number}",
        description=f"M{number} answers, a judge marks, preference tuning makes M{number + 1}; a matched control trains beside it.",
        artifacts=artifacts,
        parameters=(
            *("judge_teacher", "sampling", "judging", "preferences", "preference_tuning", "evaluation"),
            *("responses", "checkpoints", "records", "seed", "shards"),
        ),
        outputs=Round,
    )
