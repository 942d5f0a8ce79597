"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def synthesize(
    seeds: Input[Dataset],
    teacher: dict,
    options: dict,
    responses: str,
    records: str,
    seed: int,
    shard: str,
    problems: Output[Dataset],
) -> str:
    """Write new problems from one shard of the seeds: Ask-Me-Anything, Suggester and Editor.

    Args:
        seeds: Problem rows, all shards.
        teacher: Teacher options.
        options: Synthesis options.
        responses: Address of the response store.
        records: Store URI of the records of runs: what a spent budget leaves unfinished is kept there.
        seed: Chooses the seeds that are rewritten when not all are.
        shard: "index/count".
        problems: Problem rows: the shard's seeds and the new problems.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.synthesis.options import SynthesisOptions
    from components.synthesis.stage import run
    from components.teacher.options import TeacherOptions

    kept = {"problems": problems.path}
    with stage_run("synthesis", problems, shard=shard, options={"teacher": teacher, **options}, outputs=kept, records=records) as stage:
        endpoint, choices = parse_options(TeacherOptions, teacher, "teacher"), parse_options(SynthesisOptions, options, "synthesis")
        run(Path(seeds.path), endpoint, choices, responses, seed, shard, Path(problems.path), stage)
    return stage.reference
