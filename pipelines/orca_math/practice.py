"""The layer of a practice round: the model answers, its answers are judged, and preference tuning makes the next model of it."""

import inspect
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from components.evaluation.component import evaluate
from components.judging.component import judge
from components.ledger.component import gather
from components.preference_tuning.component import tune
from components.preferences.component import build_preferences
from components.sampling.component import sample
from pipelines.task_settings import TaskSettings


class Round(NamedTuple):
    model: Model
    results: Dataset
    ledger: Artifact


def practice_layer(number: int, settings: TaskSettings):
    """Build the nested pipeline of one practice round. Every round also trains a matched control: the same positives, order and number
    of steps, without the preference term.

    Args:
        number: 1-based; round r samples M<r> and trains M<r+1>. The first gets no ``sft_model``: that is the model it starts from, and
            KFP refuses a task that gets one artifact under two names.
        settings: Of its tasks.

    Returns:
        A pipeline component with the outputs of :class:`Round`: the new model, what it did on the benchmarks, and the ledger so far.
    """
    configure = settings.configure

    def practice(
        model: Input[Model],
        train: Input[Dataset],
        benchmarks: Input[Dataset],
        ledger: Input[Artifact],
        judge_teacher: dict,
        sampling: dict,
        judging: dict,
        preferences: dict,
        preference_tuning: dict,
        evaluation: dict,
        responses: str,
        checkpoints: str,
        records: str,
        seed: int,
        shards: list[str],
        sft_model: Input[Model] = None,
    ) -> Round:
        with dsl.ParallelFor(shards, name="shards") as shard:
            sampled = configure(
                sample(
                    model=model,
                    train=train,
                    options=sampling,
                    checkpoints=checkpoints,
                    round=number,
                    seed=seed,
                    shard=shard,
                    records=records,
                ),
                f"Sample M{number}",
                "generation",
            )
            judged = configure(
                judge(
                    samples=sampled.outputs["samples"],
                    train=train,
                    teacher=judge_teacher,
                    options=judging,
                    responses=responses,
                    records=records,
                    round=number,
                    shard=shard,
                ),
                "Judge the answers",
                "teacher",
            )
        built = configure(
            build_preferences(
                judged=dsl.Collected(judged.outputs["judged"]), train=train, options=preferences, round=number, seed=seed, records=records
            ),
            "Build preferences",
            "data",
        )
        reference = {} if sft_model is None else {"sft_model": sft_model}
        tuned, scored = {}, {}
        for arm, name in (("preference", f"M{number + 1}"), ("control", f"M{number + 1}-control")):
            tuned[arm] = configure(
                tune(
                    model=model,
                    pairs=built.outputs["pairs"],
                    labelled=built.outputs["labelled"],
                    options=preference_tuning,
                    checkpoints=checkpoints,
                    round=number,
                    arm=arm,
                    seed=seed,
                    records=records,
                    **reference,
                ),
                f"Train {name}",
                "training",
            )
            scored[arm] = configure(
                evaluate(
                    model=tuned[arm].outputs["tuned"],
                    benchmarks=benchmarks,
                    options=evaluation,
                    name=name,
                    checkpoints=checkpoints,
                    seed=seed,
                    records=records,
                ),
                f"Evaluate {name}",
                "generation",
            )
        gathered = configure(
            gather(
                records=records,
                previous=ledger,
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

    if number == 1:
        # KFP takes the inputs of a pipeline from the signature.
        signature = inspect.signature(practice)
        kept = [parameter for name, parameter in signature.parameters.items() if name != "sft_model"]
        practice.__signature__ = signature.replace(parameters=kept)
    return dsl.pipeline(
        name=f"practice-round-{number}",
        description=f"M{number} answers, a judge marks, preference tuning makes M{number + 1}; a matched control trains beside it.",
    )(practice)
