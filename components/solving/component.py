"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def solve(
    problems: Input[Dataset],
    teacher: dict,
    options: dict,
    responses: str,
    records: str,
    seed: int,
    shard: str,
    demonstrations: Output[Dataset],
) -> str:
    """Let the teacher solve the problems of one shard.

    Args:
        problems: Problem rows of this shard's synthesis.
        teacher: Teacher options.
        options: Solving options.
        responses: Address of the response store.
        records: Store URI of the records of runs: what a spent budget leaves unfinished is kept there.
        seed: Seed of the run; replies do not depend on it, so that they serve every run.
        shard: "index/count".
        demonstrations: Demonstration rows.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.solving.options import SolvingOptions
    from components.solving.stage import run
    from components.teacher.options import TeacherOptions

    kept = {"demonstrations": demonstrations.path}
    with stage_run("solving", demonstrations, shard=shard, options={"teacher": teacher, **options}, outputs=kept, records=records) as stage:
        endpoint, choices = parse_options(TeacherOptions, teacher, "teacher"), parse_options(SolvingOptions, options, "solving")
        run(Path(problems.path), endpoint, choices, responses, Path(demonstrations.path), stage)
    return stage.reference
