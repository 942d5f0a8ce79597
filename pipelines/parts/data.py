"""The layer of the data: what is learnt from and what is measured with, the base model, and what the teacher makes of the seeds."""

from types import SimpleNamespace
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
from pipelines.parts.graphs import Layer, layer
from pipelines.parts.task_settings import TaskSettings


class Data(NamedTuple):
    train: Dataset
    benchmarks: Dataset
    base: Model
    ledger: Artifact


def data_layer(settings: TaskSettings) -> Layer:
    """Build the nested pipeline.

    Args:
        settings: Settings of its tasks.

    Returns:
        A layer with the outputs of :class:`Data`: rows to train on, benchmark problems, M0, and the ledger so far.
    """
    configure = settings.configure

    def data(given: SimpleNamespace) -> Data:
        versions = configure(
            sources_version(seeds=given.seeds, benchmarks=given.benchmarks, records=given.records),
            "Version of the sources",
            "data",
            cached=False,
            fetches=True,
        )
        evals = configure(
            collect_benchmarks(options=given.benchmarks, seed=given.seed, version=versions.outputs["benchmarks"], records=given.records),
            "Collect benchmarks",
            "data",
            fetches=True,
        )
        # The model is loaded before any teacher request is paid for: a base model that does not load costs nothing.
        start = configure(
            starting_point(models=given.models, student=given.student, records=given.records), "Starting point", "data", cached=False
        )
        base = configure(
            base_model(
                benchmarks=evals.outputs["problems"],
                options=given.student,
                champion=start.output,
                models=given.models,
                seed=given.seed,
                records=given.records,
            ),
            "Base model M0",
            "model",
            fetches=True,
        )
        collected = configure(
            collect_seeds(options=given.seeds, seed=given.seed, version=versions.outputs["seeds"], records=given.records).after(base),
            "Collect seeds",
            "data",
            fetches=True,
        )
        with dsl.ParallelFor(given.shards, name="shards") as shard:
            written = configure(
                synthesize(
                    seeds=collected.outputs["problems"],
                    teacher=given.teacher,
                    options=given.synthesis,
                    responses=given.responses,
                    records=given.records,
                    seed=given.seed,
                    shard=shard,
                ),
                "Agents write problems",
                "teacher",
            )
            solved = configure(
                solve(
                    problems=written.outputs["problems"],
                    teacher=given.teacher,
                    options=given.solving,
                    responses=given.responses,
                    records=given.records,
                    seed=given.seed,
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
                options=given.contamination,
                records=given.records,
            ),
            "Contamination gate",
            "data",
        )
        gathered = configure(
            gather(
                records=given.records,
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

    return layer(
        data,
        name="data",
        description="Seeds become problems, the teacher solves them, and what is too close to a benchmark goes.",
        parameters=(
            *("seeds", "benchmarks", "teacher", "synthesis", "solving", "contamination", "student"),
            *("responses", "models", "records", "seed", "shards"),
        ),
        outputs=Data,
    )
