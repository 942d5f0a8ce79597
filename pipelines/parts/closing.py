"""The last layer of a method that promotes nothing: the report, and the run's record."""

from collections.abc import Sequence
from types import SimpleNamespace

from kfp.dsl import Artifact, Input

from components.report.component import report
from pipelines.parts.component import keep_results
from pipelines.parts.graphs import Layer, layer
from pipelines.parts.task_settings import TaskSettings


def closing_layer(settings: TaskSettings, cards: Sequence[str]) -> Layer:
    """Build the nested pipeline.

    Args:
        settings: Settings of its tasks.
        cards: Cards of the report.

    Returns:
        A layer without outputs: its last task closes the run's record.
    """
    configure = settings.configure

    def closing(given: SimpleNamespace) -> None:
        page = configure(report(ledger=given.ledger, cards=list(cards), records=given.records), "Report", "data")
        configure(
            keep_results(records=given.records, html=page.outputs["html"], summary=page.outputs["summary"], ledger=given.ledger),
            "Keep the results",
            "control",
            cached=False,
        )

    return layer(
        closing,
        name="closing",
        description="What was done is reported, and the run's record is closed.",
        artifacts={"ledger": Input[Artifact]},
        parameters=("records",),
    )
