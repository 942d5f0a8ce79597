"""The KFP components of this stage; imported only at compile time."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.core.images import AGENTS


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def current_champion(models: str, records: str) -> str:
    """Version name of the champion in the model store; empty when there is none.

    Args:
        models: URI of the model store.
        records: Store URI of the records of runs.
    """
    from components.core.stage import stage_run
    from components.core.store import open_store
    from components.promotion.registry import current_champion

    with stage_run("promotion", task="current champion", records=records):
        return current_champion(open_store(models))


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def starting_point(models: str, student: dict, records: str) -> str:
    """Version name of the model that this run trains on; empty to start from the base model.

    Args:
        models: URI of the model store.
        student: Options of the student.
        records: Store URI of the records of runs.
    """
    from components.core.stage import stage_run
    from components.core.store import open_store
    from components.promotion.registry import current_champion

    with stage_run("promotion", task="starting point", records=records):
        return current_champion(open_store(models)) if student.get("start_from") == "champion" else ""


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def compare(
    ledger: Input[Artifact],
    results: Input[Dataset],
    base_results: Input[Dataset],
    champion_results: Input[Dataset],
    champion: str,
    options: dict,
    records: str,
    decision: Output[Artifact],
) -> str:
    """Decide by a paired test on development problems whether the new model becomes the champion.

    Args:
        ledger: JSON Lines of StageRecord rows.
        results: What the new model did on each problem.
        base_results: What the base model did.
        champion_results: What the champion did; empty when there is none.
        champion: Version name of the champion, or empty.
        options: Options of the stage.
        records: Store URI of the records of runs.
        decision: The decision with its reason and figures.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.promotion.options import PromotionOptions
    from components.promotion.stage import compare

    with stage_run("promotion", decision, task="comparison with the champion", options=options, records=records) as stage:
        parsed = parse_options(PromotionOptions, options, "promotion")
        paths = [Path(item.path) for item in (ledger, results, base_results, champion_results)]
        compare(*paths, champion, parsed, Path(decision.path), stage)
    return stage.reference


@dsl.component(base_image=AGENTS, install_kfp_package=False)
def publish(
    model: Input[Model],
    train: Input[Dataset],
    results: Input[Dataset],
    decision: Input[Artifact],
    html: Input[HTML],
    summary: Input[Artifact],
    ledger: Input[Artifact],
    options: dict,
    models: str,
    pipeline_digest: str,
    records: str,
    card: Output[Artifact],
) -> str:
    """Publish the model with its data, report and lineage card, and move the champion pointer if it was promoted.

    Args:
        model: The model.
        train: The rows that it was trained on.
        results: What it did on each benchmark problem.
        decision: The promotion decision.
        html: The report.
        summary: The report's figures.
        ledger: JSON Lines of StageRecord rows.
        options: Options of the stage.
        models: URI of the model store.
        pipeline_digest: Digest of the compiled pipeline.
        records: Store URI of the records of runs.
        card: The lineage card.

    Returns:
        Address of the record of what the task did.
    """
    from pathlib import Path

    from components.core.options import parse_options
    from components.core.stage import stage_run
    from components.promotion.options import PromotionOptions
    from components.promotion.stage import Material, publish

    with stage_run("promotion", card, task="publishing", options=options, records=records) as stage:
        parsed = parse_options(PromotionOptions, options, "promotion")
        material = Material(*[Path(item.path) for item in (model, train, results, html, summary, ledger, decision)])
        publish(material, parsed, models, pipeline_digest, Path(card.path), stage)
        card.metadata["model"] = model.uri
    return stage.reference
