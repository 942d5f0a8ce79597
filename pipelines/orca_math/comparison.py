"""The last layer: the new model against the champion, the report, publication, and the run's record."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model

from components.evaluation.component import evaluate_champion
from components.promotion.component import compare, current_champion, publish
from components.report.component import report
from pipelines.control.component import keep_results
from pipelines.task_settings import TaskSettings


def comparison_layer(settings: TaskSettings):
    """Build the nested pipeline.

    Args:
        settings: Of its tasks.

    Returns:
        A pipeline component without outputs: its last task closes the run's record.
    """
    configure = settings.configure

    @dsl.pipeline(name="comparison", description="The new model is compared with the champion, reported and published.")
    def comparison(
        model: Input[Model],
        train: Input[Dataset],
        benchmarks: Input[Dataset],
        results: Input[Dataset],
        base_results: Input[Dataset],
        ledger: Input[Artifact],
        evaluation: dict,
        promotion: dict,
        checkpoints: str,
        models: str,
        records: str,
        pipeline_digest: str,
        seed: int,
    ):
        # What the champion is changes between runs while every parameter stays the same.
        champion = configure(current_champion(models=models, records=records), "Current champion", "data", cached=False)
        champion_scored = configure(
            evaluate_champion(
                models=models,
                champion=champion.output,
                benchmarks=benchmarks,
                options=evaluation,
                checkpoints=checkpoints,
                seed=seed,
                records=records,
            ),
            "Evaluate the champion",
            "generation",
        )
        compared = configure(
            compare(
                ledger=ledger,
                results=results,
                base_results=base_results,
                champion_results=champion_scored.outputs["results"],
                champion=champion.output,
                options=promotion,
                records=records,
            ),
            "Compare with the champion",
            "data",
        )
        page = configure(report(ledger=ledger, decision=compared.outputs["decision"], records=records), "Report", "data")
        published = configure(
            publish(
                model=model,
                train=train,
                results=results,
                decision=compared.outputs["decision"],
                html=page.outputs["html"],
                summary=page.outputs["summary"],
                ledger=ledger,
                options=promotion,
                models=models,
                pipeline_digest=pipeline_digest,
                records=records,
            ),
            "Publish",
            "data",
            publishes=True,
        )
        configure(
            keep_results(
                records=records,
                html=page.outputs["html"],
                summary=page.outputs["summary"],
                ledger=ledger,
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

    return comparison
