"""The layer of the first model: supervised fine-tuning on the teacher's solutions makes M1 of M0, and both are measured."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from components.evaluation.component import evaluate
from components.ledger.component import gather
from components.sft.component import sft
from pipelines.task_settings import TaskSettings


class FirstModel(NamedTuple):
    model: Model
    results: Dataset
    base_results: Dataset
    ledger: Artifact


def first_model_layer(settings: TaskSettings):
    """Build the nested pipeline.

    Args:
        settings: Of its tasks.

    Returns:
        A pipeline component with the outputs of :class:`FirstModel`: M1, what it and M0 did on the benchmarks, and the ledger so far.
    """
    configure = settings.configure

    @dsl.pipeline(name="first-model", description="M0 learns from the teacher's solutions and becomes M1.")
    def first_model(
        base: Input[Model],
        train: Input[Dataset],
        benchmarks: Input[Dataset],
        ledger: Input[Artifact],
        sft_options: dict,
        evaluation: dict,
        checkpoints: str,
        records: str,
        seed: int,
    ) -> FirstModel:
        first = configure(
            sft(base=base, train=train, options=sft_options, checkpoints=checkpoints, seed=seed, records=records),
            "Train M1 (SFT)",
            "training",
        )
        scored = {
            name: configure(
                evaluate(
                    model=model, benchmarks=benchmarks, options=evaluation, name=name, checkpoints=checkpoints, seed=seed, records=records
                ),
                f"Evaluate {name}",
                "generation",
            )
            for name, model in (("M0", base), ("M1", first.outputs["model"]))
        }
        gathered = configure(
            gather(
                records=records,
                previous=ledger,
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

    return first_model
