"""The layer of the first model: supervised fine-tuning on the teacher's solutions makes M1 of M0, and both are measured."""

from types import SimpleNamespace
from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Input, Model

from components.evaluation.component import evaluate
from components.ledger.component import gather
from components.sft.component import sft
from pipelines.parts.graphs import Layer, layer
from pipelines.parts.task_settings import TaskSettings


class FirstModel(NamedTuple):
    model: Model
    results: Dataset
    base_results: Dataset
    ledger: Artifact


def first_model_layer(settings: TaskSettings) -> Layer:
    """Build the nested pipeline.

    Args:
        settings: Settings of its tasks.

    Returns:
        A layer with the outputs of :class:`FirstModel`: M1, what it and M0 did on the benchmarks, and the ledger so far.
    """
    configure = settings.configure

    def first_model(given: SimpleNamespace) -> FirstModel:
        first = configure(
            sft(
                base=given.base, train=given.train, options=given.sft, checkpoints=given.checkpoints, seed=given.seed, records=given.records
            ),
            "Train M1 (SFT)",
            "training",
            trains="sft",
        )
        scored = {
            name: configure(
                evaluate(
                    model=model,
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
            for name, model in (("M0", given.base), ("M1", first.outputs["model"]))
        }
        gathered = configure(
            gather(
                records=given.records,
                previous=given.ledger,
                record_1=first.outputs["Output"],
                record_2=scored["M0"].outputs["Output"],
                record_3=scored["M1"].outputs["Output"],
            ),
            "Record of M0 and M1",
            "data",
        )
        return FirstModel(
            model=first.outputs["model"],
            results=scored["M1"].outputs["results"],
            base_results=scored["M0"].outputs["results"],
            ledger=gathered.outputs["ledger"],
        )

    return layer(
        first_model,
        name="first-model",
        description="M0 learns from the teacher's solutions and becomes M1.",
        artifacts={"base": Input[Model], "train": Input[Dataset], "benchmarks": Input[Dataset], "ledger": Input[Artifact]},
        parameters=("sft", "evaluation", "checkpoints", "records", "seed"),
        outputs=FirstModel,
    )
