"""The KFP component of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Input, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def report(
    ledger: Input[Artifact],
    cards: list,
    records: str,
    html: Output[HTML],
    summary: Output[Artifact],
    decision: Input[Artifact] = None,
):
    """Make the report of a run.

    Args:
        ledger: JSON Lines of StageRecord rows.
        cards: Names of the cards of the page, in their order.
        records: Store URI of the records of runs.
        html: The page, self-contained.
        summary: The page's figures as JSON.
        decision: The promotion decision, where there is one.
    """
    from pathlib import Path

    from components.core.stage import stage_run
    from components.report.changes import changes
    from components.report.stage import run

    with stage_run("report", records=records):
        decided = Path(decision.path) if decision else None
        made = run(Path(ledger.path), decided, Path(html.path), Path(summary.path), changes(records), cards=cards)
        html.metadata["headline"] = made.verdict.headline
        summary.metadata["schema"] = made.schema
