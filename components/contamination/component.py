"""The KFP component of this stage; imported only at compile time."""

from typing import List

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def decontaminate(
    demonstrations: Input[List[Dataset]],
    seeds: Input[Dataset],
    benchmarks: Input[Dataset],
    corpus: Input[Dataset],
    options: dict,
    records: str,
    train: Output[Dataset],
    matches: Output[Dataset],
) -> str:
    """Remove training rows that are too close to a benchmark problem, or fail the run.

    Args:
        demonstrations: Demonstration rows, one file a shard.
        seeds: What the shards began with; not read. Where only some shards come from a cache, it does too, and then KFP 2.17 opens the
            bucket of them all (docs/decisions.md).
        benchmarks: Problem rows to keep out of the training data.
        corpus: Problem rows of the base model's pretraining; may be empty.
        options: ContaminationOptions.
        records: Store URI of the records of runs.
        train: Demonstration rows to train on, sorted by id.
        matches: ContaminationMatch rows: every match with its action.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.contamination.options import ContaminationOptions
    from components.contamination.stage import run
    from components.core.options import parse_options
    from components.core.stage import stage_run

    with stage_run("contamination", train, options=options, records=records) as stage:
        shards, outputs = [Path(item.path) for item in demonstrations], (Path(train.path), Path(matches.path))
        parsed = parse_options(ContaminationOptions, options, "contamination")
        run(shards, Path(benchmarks.path), Path(corpus.path), *outputs, parsed, stage)
    return stage.reference
