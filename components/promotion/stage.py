"""Decides whether the new model becomes the champion, and publishes it with its data, its report and its lineage card."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from components.core.errors import InputError
from components.core.ledger.reader import Ledger, steps
from components.core.metrics import telemetry
from components.core.records import ProblemResult, StageRecord, read_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.core.store.model_files import whole
from components.promotion.card import build_card, card_text
from components.promotion.decide import decide, dev_outcomes
from components.promotion.options import PromotionOptions
from components.promotion.records import Decision
from components.promotion.registry import promote, publish_version


@dataclass(frozen=True)
class Material:
    """What a version is made of: a model folder and files."""

    model: Path
    train: Path
    results: Path
    html: Path
    summary: Path
    ledger: Path
    decision: Path


def compare(
    ledger: Path,
    results: Path,
    base_results: Path,
    champion_results: Path,
    champion: str,
    options: PromotionOptions,
    decision: Path,
    stage: StageRun,
) -> Decision:
    """Compare the candidate with the champion (with the base model when there is none) on development problems.

    Args:
        ledger: JSON Lines of StageRecord rows.
        results: ProblemResult rows of the candidate.
        base_results: Those of the base model.
        champion_results: Those of the champion; an empty file when there is none.
        champion: Version name of the champion; empty when there is none.
        options: The rule.
        decision: Where the decision goes, as JSON.
        stage: Gets the figures.

    Raises:
        InputError: A file is missing or malformed, or the candidate has no results.
    """
    rows = list(read_records(results, ProblemResult))
    if not rows:
        raise InputError("holds no results of the candidate", results, hint="run the evaluation again")
    records = list(read_records(ledger, StageRecord))
    mine = dev_outcomes(rows)
    base_rows = list(read_records(base_results, ProblemResult))
    base_id = base_rows[0].model if base_rows else next((model.name for model in steps(Ledger(records).models)), "")
    rival = dev_outcomes(read_records(champion_results, ProblemResult)) if champion else {}
    made = decide(rows[0].model, base_id, mine, dev_outcomes(base_rows), champion, rival, records, options)
    stage.rows_in, stage.rows_kept = len(rows), len(mine)
    if len(rows) > len(mine):
        stage.drop("not_a_development_problem", len(rows) - len(mine))
    stage.counts["promoted"] = float(made.promoted)
    for comparison in made.comparisons:
        stage.counts.update({f"gain_over_{comparison.role}": comparison.gain, f"p_value_{comparison.role}": comparison.p_value})
    decision.parent.mkdir(parents=True, exist_ok=True)
    decision.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    print(f"{'promoted' if made.promoted else 'not promoted'}: {made.reason}", flush=True)
    return made


def publish(
    material: Material,
    options: PromotionOptions,
    models: str,
    pipeline_digest: str,
    card: Path,
    stage: StageRun,
) -> str:
    """Publish the candidate and, if it was promoted, make it the champion.

    Publishing the same content again changes nothing. A publisher that is killed leaves the champion as it was, or as it will be.

    Args:
        material: The version's files.
        options: Whether models that were not promoted are published too.
        models: URI of the model store.
        pipeline_digest: Digest of the compiled pipeline; may be empty.
        card: Where the lineage card goes, as JSON; it is made whether the model is published or not.
        stage: Gets the figures.

    Returns:
        Version name; empty when nothing was published.

    Raises:
        InputError: A file is missing or malformed.
        StoreError: The model store cannot be written.
    """
    decision = _read_decision(material.decision)
    records = list(read_records(material.ledger, StageRecord))
    made = build_card(material.model, records, decision, pipeline_digest)
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
    if not (decision.promoted or options.publish_rejected):
        _report_scores(decision, "not promoted", stage)
        stage.counts.update(published=0.0, champion_moved=0.0)
        print(f"{decision.candidate} is not published: it was not promoted", flush=True)
        return ""
    store = open_store(models)
    with tempfile.TemporaryDirectory(prefix="card-") as scratch:
        page = Path(scratch) / "card.md"
        page.write_text(card_text(made), encoding="utf-8")
        manifest, fresh = publish_version(store, {**_files(material), "card.json": card, "card.md": page})
    outcome = promote(store, manifest.version, decision.champion) if decision.promoted else "not promoted"
    stage.counts.update(
        published=float(fresh),
        champion_moved=float(outcome == "moved"),
        files=len(manifest.files),
        bytes=sum(file.bytes for file in manifest.files),
    )
    stage.lineage.update(version=manifest.version, champion=outcome)
    _report_scores(decision, outcome, stage)
    print(f"{decision.candidate} is version {manifest.version} in {store.uri}: {SAID[outcome]}", flush=True)
    return manifest.version


SAID = {
    "moved": "it is the champion now",
    "unchanged": "it is the champion already",
    "superseded": "another model became champion since the comparison, which stays; run again to compare with that one",
    "not promoted": "the champion stays as it was",
}
"""Outcome of ``promote`` to words."""


def _report_scores(decision: Decision, outcome: str, stage: StageRun) -> None:
    """Bring the accuracies behind the decision into the metrics, the champion's as it is after ``outcome``."""
    scores = {comparison.opponent: comparison.opponent_accuracy for comparison in decision.comparisons}
    problems = max((comparison.n for comparison in decision.comparisons), default=0)
    candidate = decision.comparisons[0].candidate_accuracy if decision.comparisons else None
    champion = {"moved": candidate, "unchanged": candidate, "not promoted": scores.get(decision.champion)}.get(outcome)
    telemetry.good_retraining(stage, candidate=candidate, champion=champion, problems=problems)


def _files(material: Material) -> dict[str, Path]:
    """Path within the version to file, without the card."""
    files = {
        "train.jsonl": material.train,
        "results.jsonl": material.results,
        "report.html": material.html,
        "summary.json": material.summary,
        "ledger.jsonl": material.ledger,
        "decision.json": material.decision,
    }
    for name, path in files.items():
        if not path.is_file():
            raise InputError("is missing", path, hint=f"run the stage again that makes {name}")
    model = whole(material.model)
    parts = {f"model/{path.relative_to(model).as_posix()}": path for path in model.rglob("*") if path.is_file()}
    if not parts:
        raise InputError("is not a model folder", material.model, hint="train the model again")
    return {**files, **parts}


def _read_decision(path: Path) -> Decision:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Decision)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"not a promotion decision: {error}", path, hint="run the comparison again") from error
