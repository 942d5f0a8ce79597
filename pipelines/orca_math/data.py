"""The layer of the data: what is learnt from and what is measured with, the base model, and what the teacher makes of the seeds."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Model

from components.base_model.component import base_model
from components.contamination.component import decontaminate
from components.ledger.component import gather
from components.promotion.component import starting_point
from components.seeds.component import collect_benchmarks, collect_seeds, sources_version
from components.solving.component import solve
from components.synthesis.component import synthesize
from pipelines.task_settings import TaskSettings


class Data(NamedTuple):
    train: Dataset
    benchmarks: Dataset
    base: Model
    ledger: Artifact


def data_layer(settings: TaskSettings):
    """Build the nested pipeline.

    Args:
        settings: Of its tasks.

    Returns:
        A pipeline component with the outputs of :class:`Data`: rows to train on, benchmark problems, M0, and the ledger so far.
    """
    configure = settings.configure

    @dsl.pipeline(name="data", description="Seeds become problems, the teacher solves them, and what is too close to a benchmark goes.")
    def data(
        seeds: dict,
        benchmarks: dict,
        teacher: dict,
        synthesis: dict,
        solving: dict,
        contamination: dict,
        student: dict,
        responses: str,
        models: str,
        records: str,
        seed: int,
        shards: list[str],
    ) -> Data:
        versions = configure(
            sources_version(seeds=seeds, benchmarks=benchmarks, records=records), "Version of the sources", "data", cached=False
        )
        evals = configure(
            collect_benchmarks(options=benchmarks, seed=seed, version=versions.outputs["benchmarks"], records=records),
            "Collect benchmarks",
            "data",
        )
        # The model is loaded before any teacher request is paid for: a base model that does not load costs nothing.
        start = configure(starting_point(models=models, student=student, records=records), "Starting point", "data", cached=False)
        base = configure(
            base_model(
                benchmarks=evals.outputs["problems"], options=student, champion=start.output, models=models, seed=seed, records=records
            ),
            "Base model M0",
            "model",
        )
        collected = configure(
            collect_seeds(options=seeds, seed=seed, version=versions.outputs["seeds"], records=records).after(base),
            "Collect seeds",
            "data",
        )
        with dsl.ParallelFor(shards, name="shards") as shard:
            written = configure(
                synthesize(
                    seeds=collected.outputs["problems"],
                    teacher=teacher,
                    options=synthesis,
                    responses=responses,
                    records=records,
                    seed=seed,
                    shard=shard,
                ),
                "Agents write problems",
                "teacher",
            )
            solved = configure(
                solve(
                    problems=written.outputs["problems"],
                    teacher=teacher,
                    options=solving,
                    responses=responses,
                    records=records,
                    seed=seed,
                    shard=shard,
                ),
                "Teacher solves",
                "teacher",
            )
        clean = configure(
            decontaminate(
                demonstrations=dsl.Collected(solved.outputs["demonstrations"]),
                seeds=collected.outputs["problems"],
                benchmarks=evals.outputs["problems"],
                corpus=base.outputs["corpus"],
                options=contamination,
                records=records,
            ),
            "Contamination gate",
            "data",
        )
        gathered = configure(
            gather(
                records=records,
                shards_1=dsl.Collected(written.outputs["Output"]),
                shards_2=dsl.Collected(solved.outputs["Output"]),
                record_1=collected.outputs["Output"],
                record_2=evals.outputs["Output"],
                record_3=base.outputs["Output"],
                record_4=clean.outputs["Output"],
            ),
            "Record of the data",
            "data",
        )
        return Data(
            train=clean.outputs["train"],
            benchmarks=evals.outputs["problems"],
            base=base.outputs["model"],
            ledger=gathered.outputs["ledger"],
        )

    return data
