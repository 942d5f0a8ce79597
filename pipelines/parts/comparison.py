"""The last layer: the new model against the champion, the report, publication, and the run's record."""

from collections.abc import Sequence
from types import SimpleNamespace

from kfp.dsl import Artifact, Dataset, Input, Model

from components.evaluation.component import evaluate_champion
from components.promotion.component import compare, current_champion, publish
from components.report.component import report
from pipelines.parts.component import keep_results
from pipelines.parts.graphs import Layer, layer
from pipelines.parts.task_settings import TaskSettings


def comparison_layer(settings: TaskSettings, cards: Sequence[str]) -> Layer:
    """Build the nested pipeline.

    Args:
        settings: Settings of its tasks.
        cards: Cards of the report.

    Returns:
        A layer without outputs: its last task closes the run's record.
    """
    configure = settings.configure

    def comparison(given: SimpleNamespace) -> None:
        # What the champion is changes between runs while every parameter stays the same.
        champion = configure(current_champion(models=given.models, records=given.records), "Current champion", "data", cached=False)
        champion_scored = configure(
            evaluate_champion(
                models=given.models,
                champion=champion.output,
                benchmarks=given.benchmarks,
                options=given.evaluation,
                checkpoints=given.checkpoints,
                seed=given.seed,
                records=given.records,
            ),
            "Evaluate the champion",
            "generation",
        )
        compared = configure(
            compare(
                ledger=given.ledger,
                results=given.results,
                base_results=given.base_results,
                champion_results=champion_scored.outputs["results"],
                champion=champion.output,
                options=given.promotion,
                records=given.records,
            ),
            "Compare with the champion",
            "data",
        )
        page = configure(
            report(ledger=given.ledger, decision=compared.outputs["decision"], cards=list(cards), records=given.records), "Report", "data"
        )
        published = configure(
            publish(
                model=given.model,
                train=given.train,
                results=given.results,
                decision=compared.outputs["decision"],
                html=page.outputs["html"],
                summary=page.outputs["summary"],
                ledger=given.ledger,
                options=given.promotion,
                models=given.models,
                pipeline_digest=given.pipeline_digest,
                records=given.records,
            ),
            "Publish",
            "data",
            publishes=True,
        )
        configure(
            keep_results(
                records=given.records,
                html=page.outputs["html"],
                summary=page.outputs["summary"],
                ledger=given.ledger,
                decision=compared.outputs["decision"],
                card=published.outputs["card"],
                record_1=champion_scored.outputs["Output"],
                record_2=compared.outputs["Output"],
                record_3=published.outputs["Output"],
            ),
            "Keep the results",
            "control",
            cached=False,
        )

    return layer(
        comparison,
        name="comparison",
        description="The new model is compared with the champion, reported and published.",
        artifacts={
            "model": Input[Model],
            "train": Input[Dataset],
            "benchmarks": Input[Dataset],
            "results": Input[Dataset],
            "base_results": Input[Dataset],
            "ledger": Input[Artifact],
        },
        parameters=("evaluation", "promotion", "checkpoints", "models", "records", "pipeline_digest", "seed"),
    )
