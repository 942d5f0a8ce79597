"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def judge(
    samples: Input[Dataset],
    train: Input[Dataset],
    teacher: dict,
    options: dict,
    responses: str,
    records: str,
    round: int,
    shard: str,
    judged: Output[Dataset],
) -> str:
    """Decide for every sampled response whether its final answer is right: rules first, the teacher where they cannot.

    Args:
        samples: Sample rows of this shard.
        train: Demonstrations; their answers are the references.
        teacher: TeacherOptions of the judge's endpoint.
        options: JudgingOptions.
        responses: Address of the response store.
        records: Store URI of the records of runs: what a spent budget leaves unfinished is kept there.
        round: Practice round, 1 for the responses of M1.
        shard: "index/count", for the record.
        judged: JudgedSample rows.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.judging.options import JudgingOptions
    from components.judging.stage import run
    from components.teacher.options import TeacherOptions

    kept = {"judged": judged.path}
    with stage_run(
        "judging", judged, task=f"judging M{round}", shard=shard, round_number=round, options=options, outputs=kept, records=records
    ) as stage:
        endpoint, parsed = parse_options(TeacherOptions, teacher, "judge_teacher"), parse_options(JudgingOptions, options, "judging")
        run(Path(samples.path), Path(train.path), Path(judged.path), endpoint, parsed, responses, stage)
    return stage.reference
