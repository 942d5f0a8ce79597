"""The KFP faces of the tasks that look after a run; imported only at compile time."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Output

from components.core.images import SYNC


@dsl.component(base_image=SYNC, install_kfp_package=False)
def preflight(
    seeds: dict,
    benchmarks: dict,
    teacher: dict,
    judge_teacher: dict,
    synthesis: dict,
    solving: dict,
    contamination: dict,
    student: dict,
    sft: dict,
    sampling: dict,
    judging: dict,
    preferences: dict,
    preference_tuning: dict,
    evaluation: dict,
    promotion: dict,
    cluster: dict,
    launchers: list,
    responses: str,
    checkpoints: str,
    models: str,
    records: str,
    profile: str,
    pipeline_digest: str,
    seed: int,
    data_shards: list,
    sampling_shards: list,
    rounds: int,
):
    """Check parameters, teacher, stores, secrets and GPU quota before anything expensive starts, and open the run's record.

    Args:
        seeds: Options of this name, as of all sections of a profile that follow.
        benchmarks: Options.
        teacher: Options.
        judge_teacher: Options.
        synthesis: Options.
        solving: Options.
        contamination: Options.
        student: Options.
        sft: Options.
        sampling: Options.
        judging: Options.
        preferences: Options.
        preference_tuning: Options.
        evaluation: Options.
        promotion: Options.
        cluster: Settings that the pipeline was compiled with.
        launchers: Training tasks that it was compiled to let several nodes train.
        responses: Store URI of the teacher's answers.
        checkpoints: Store URI of work in progress.
        models: Store URI of published models.
        records: Store URI of the records of runs.
        profile: Name of the profile, for the record.
        pipeline_digest: Digest of the compiled pipeline.
        seed: Of everything random.
        data_shards: Shards of synthesis and solving.
        sampling_shards: Shards of sampling and judging.
        rounds: Practice rounds of the pipeline.
    """
    given = dict(locals())
    from components.core.stage import stage_run
    from pipelines.control.preflight import run

    with stage_run("preflight", records=records):
        run(given)


@dsl.component(base_image=SYNC, install_kfp_package=False)
def keep_results(
    records: str,
    html: Input[HTML],
    summary: Input[Artifact],
    ledger: Input[Artifact],
    decision: Input[Artifact],
    card: Input[Artifact],
    figures: Output[Metrics],
    record_1: str,
    record_2: str,
    record_3: str,
):
    """Put report, figures, ledger, decision and lineage card into the run's record, and close it: this is the last task of a run.

    Args:
        records: Store URI of the records of runs.
        html: The report.
        summary: The report's figures.
        ledger: JSON Lines of StageRecord rows.
        decision: The promotion decision.
        card: The lineage card.
        figures: What a person compares between runs; the only Metrics of a run, so that Kubeflow compares runs by it.
        record_1: Address of the record of a task that came after the ledger; likewise record_2 and record_3.
    """
    from components.core.stage import stage_run
    from pipelines.control.results import keep

    results = {"html": html, "summary": summary, "ledger": ledger, "decision": decision, "card": card}
    with stage_run("record", task="results", records=records):
        figures.metadata.update(keep(records, results, [record_1, record_2, record_3]))
