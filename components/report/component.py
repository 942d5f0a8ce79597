"""The KFP face of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def report(
    ledger: Input[Artifact],
    decision: Input[Artifact],
    records: str,
    html: Output[HTML],
    summary: Output[Artifact],
):
    """Make the report of a run.

    Args:
        ledger: JSON Lines of StageRecord rows.
        decision: The promotion decision.
        records: Store URI of the records of runs.
        html: The page, self-contained.
        summary: The page's figures as JSON.
    """
    from pathlib import Path

    from components.core.stage import stage_run
    from components.report.changes import changes
    from components.report.stage import run

    with stage_run("report", records=records):
        made = run(Path(ledger.path), Path(decision.path), Path(html.path), Path(summary.path), changes(records))
        html.metadata["headline"] = made.verdict.headline
        summary.metadata["schema"] = made.schema
