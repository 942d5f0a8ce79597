"""The KFP component of the task that closes a run; imported only at compile time."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Metrics, Output

from components.core.images import SYNC


@dsl.component(base_image=SYNC, install_kfp_package=False)
def keep_results(
    records: str,
    html: Input[HTML],
    summary: Input[Artifact],
    ledger: Input[Artifact],
    figures: Output[Metrics],
    decision: Input[Artifact] = None,
    card: Input[Artifact] = None,
    record_1: str = "",
    record_2: str = "",
    record_3: str = "",
):
    """Put report, figures, ledger and, where there are any, decision and lineage card into the run's record, and close it: this is the
    last task of a run.

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
    there = {name: result for name, result in results.items() if result}
    with stage_run("record", task="results", records=records):
        figures.metadata.update(keep(records, there, [*filter(None, (record_1, record_2, record_3))]))
