"""The one reader of a ledger: models by their entries, attempts and shards, usage; and what report, card and study make of roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.ledger.reader import Ledger, ModelSummary, steps
from components.core.records import ModelEntry, Score, StageRecord, Usage
from components.promotion.card import build_card
from components.promotion.records import Decision
from components.report.summary import main_benchmark
from components.report.verdict import judge_run
from components.stats.proportions import wilson_interval
from tests.support.sample_ledger import sample_ledger
from tests.unit.stages.test_report import Page, make

BEGAN = "2026-11-22T03:00:00+00:00"
LATER = "2026-11-22T04:00:00+00:00"


def record(stage: str, task: str = "", **fields: Any) -> StageRecord:
    return StageRecord(**{"stage": stage, "task": task or stage, "started_at": BEGAN, "seconds": 1.0, **fields})


def score(model: str, right: int, n: int = 300, benchmark: str = "set") -> Score:
    low, high = wilson_interval(right, n)
    return Score(model=model, benchmark=benchmark, n=n, pass_at_1=right / n, low=low, high=high)


def evaluation(model: str, right: int, n: int = 300, benchmark: str = "set") -> StageRecord:
    return record("evaluation", f"evaluation {model}", scores=[score(model, right, n, benchmark)])


def ladder() -> list[StageRecord]:
    """One base model, three amounts of data, a generator that wrote them, and a verifier that is measured on its own benchmark."""
    rungs = {"7B x 7.5k": (7_500, 120), "7B x 60k": (60_000, 150), "7B x 480k": (480_000, 180)}
    records = [
        record("base_model", models=[ModelEntry(id="7B", role="base", stage="base_model")]),
        record("generator", models=[ModelEntry(id="writer", role="generator", parent="7B", stage="generator", rows=7_500)]),
    ]
    records += [
        record("sft", f"sft {name}", models=[ModelEntry(id=name, role="rung", parent="7B", stage="sft", rows=rows)])
        for name, (rows, _) in rungs.items()
    ]
    curves = [{"step": float(step), "loss": 1 / step} for step in range(1, 9)]
    verifier = ModelEntry(id="MINOS", role="verifier", parent="7B", stage="verifier", rows=27_000)
    records.append(record("verifier", models=[verifier], curves=curves))
    records += [evaluation("7B", 80), *(evaluation(name, right) for name, (_, right) in rungs.items())]
    return [*records, evaluation("MINOS", 900, 1000, "steps judged")]


def test_a_ladder_with_a_verifier_has_a_verdict_growth_and_a_row_for_each_model(tmp_path: Path) -> None:
    html, summary = make(tmp_path, ladder())
    page = Page(html)
    text = " ".join(page.text.split()).replace("\N{NO-BREAK SPACE}", " ")
    assert page.open == [] and "None" not in text and "nan" not in text
    assert summary.main_benchmark == "set", "the verifier's own benchmark is larger, and is not what the student is for"
    assert summary.verdict.headline.replace("\N{NO-BREAK SPACE}", " ") == "The student improved from 26.7 % to 60.0 %."
    assert [(change.first, change.second) for change in summary.growth] == [("7B x 480k", "7B")]
    assert "The largest step was 7B to 7B x 480k" in text, "rungs start from the base model, not from each other"
    assert "rung, trained from 7B on 60,000 rows" in text
    assert "verifier, trained from 7B on 27,000 rows" in text and "generator, trained from 7B on 7,500 rows" in text
    assert "Training: verifier" in text and "models" in page.ids
    assert "control" not in page.ids and "Preference tuning" not in text


@pytest.mark.parametrize("role", ["reward-tuned", "rung", "sft"])
def test_a_model_of_a_role_that_nobody_foresaw_is_a_step_of_the_student(role: str) -> None:
    records = [
        record("base_model", models=[ModelEntry(id="M0", role="base")]),
        record("new_stage", models=[ModelEntry(id="Z", role=role, parent="M0")]),
        evaluation("M0", 80),
        evaluation("Z", 200),
    ]
    verdict = judge_run(Ledger(records), None)
    assert verdict.tone == "good" and "improved" in verdict.headline


@pytest.mark.parametrize("role", ["verifier", "generator", "judge", "champion"])
def test_a_helper_is_no_step_of_the_student(role: str, tmp_path: Path) -> None:
    records = [
        record("base_model", models=[ModelEntry(id="M0", role="base")]),
        record("helper", models=[ModelEntry(id="Z", role=role, parent="M0")]),
        evaluation("M0", 80),
        evaluation("Z", 200),
    ]
    html, summary = make(tmp_path, records)
    assert summary.growth == [] and "improved" not in summary.verdict.headline
    assert "Z" in Page(html).text, "it has its row all the same"


def test_the_main_benchmark_is_one_of_the_students() -> None:
    """However many helpers are measured on something else, and on however many problems."""
    records = [record("base_model", models=[ModelEntry(id="M0", role="base")]), evaluation("M0", 80), evaluation("M1", 90)]
    for name in ("V1", "V2", "V3"):
        records += [record("verifier", name, models=[ModelEntry(id=name, role="verifier")]), evaluation(name, 900, 1000, "steps judged")]
    assert main_benchmark(Ledger(records).models) == "set"


def test_names_say_nothing(tmp_path: Path) -> None:
    """The whole loop under other names gives the same figures: only entries are read."""
    names = {"M0": "start", "M1": "M7-control", "M2": "b", "M2-control": "M1", "M3": "c", "M3-control": "d"}

    def renamed(entry: ModelEntry) -> ModelEntry:
        changed = {name: names.get(getattr(entry, name), "") for name in ("id", "parent", "control_of", "same_as")}
        return msgspec.structs.replace(entry, **changed)

    def other(row: StageRecord) -> StageRecord:
        scores = [msgspec.structs.replace(found, model=names[found.model]) for found in row.scores]
        return msgspec.structs.replace(row, models=[renamed(entry) for entry in row.models], scores=scores)

    known, strange = tmp_path / "known", tmp_path / "strange"
    for folder in (known, strange):
        folder.mkdir()
    records = sample_ledger(n=40)
    _, one = make(known, records)
    _, two = make(strange, [other(row) for row in records])
    assert two.verdict.headline == one.verdict.headline and two.verdict.tone == one.verdict.tone
    assert [(names[change.first], names[change.second], change.gain) for change in one.growth + one.controls] == [
        (change.first, change.second, change.gain) for change in two.growth + two.controls
    ]
    assert [names[model.name] for model in one.models] == [model.name for model in two.models]


def test_models_come_in_the_order_of_their_entries_and_scores_without_one_last() -> None:
    ledger = Ledger([evaluation("b", 1), record("base_model", models=[ModelEntry(id="a", role="base")]), evaluation("a", 1)])
    assert [(model.name, model.role) for model in ledger.models] == [("a", "base"), ("b", "other")]
    assert [model.name for model in steps(ledger.models)] == ["a"]


def test_the_reasons_of_a_round_that_was_left_out_are_put_together() -> None:
    records = [
        record("preferences", "pairs", round=2, left_out="all solved"),
        record(
            "preference_tuning", "one", round=2, left_out="no pair", models=[ModelEntry(id="x", role="preference", round=2, same_as="w")]
        ),
        record("preference_tuning", "two", round=2, left_out="no pair", models=[ModelEntry(id="y", role="control", round=2)]),
        record("preferences", "others", round=1, left_out="something else"),
    ]
    assert [(model.name, model.left_out) for model in Ledger(records).models] == [("x", "all solved; no pair"), ("y", "")]


def paid(requests: int) -> Usage:
    return Usage(requests=requests, usd=requests / 100)


@pytest.mark.parametrize(
    ("attempts", "status", "rows", "requests"),
    [
        ([("succeeded", BEGAN, 5, 10)], "succeeded", 5, 10),
        ([("failed", BEGAN, 2, 10), ("succeeded", LATER, 5, 3)], "succeeded", 5, 13),
        ([("succeeded", LATER, 5, 3), ("failed", BEGAN, 2, 10)], "succeeded", 5, 13),
        ([("failed", BEGAN, 2, 10), ("failed", LATER, 4, 1)], "failed", 4, 11),
        ([("running", BEGAN, 2, 10), ("running", LATER, 1, 1)], "stopped", 1, 11),
    ],
)
def test_of_a_task_the_last_attempt_counts_and_what_all_cost(
    attempts: list[tuple[str, str, int, int]], status: str, rows: int, requests: int
) -> None:
    ledger = Ledger(
        record("solving", status=state, started_at=at, rows_kept=kept, usage=paid(count)) for state, at, kept, count in attempts
    )
    [task] = ledger.tasks
    [stage] = ledger.stages()
    assert (task.status, stage.status, task.rows_kept, stage.rows_kept) == (status, status, rows, rows)
    assert ledger.usage().requests == requests and task.usage is not None and task.usage.requests == requests


def test_what_came_from_the_cache_was_not_paid_by_this_run() -> None:
    ledger = Ledger([record("synthesis", usage=paid(7)), record("solving", started_at=LATER, usage=paid(5))])
    assert (ledger.usage(LATER).requests, ledger.usage().requests) == (5, 12)
    assert [stage.cached for stage in ledger.stages(LATER)] == [True, False]
    assert [stage.cached for stage in ledger.stages()] == [None, None], "without the run's start nobody can know"


def test_shards_fare_as_the_worst_of_them() -> None:
    ledger = Ledger([record("solving", shard="0/2"), record("solving", shard="1/2", status="failed", rows_in=3)])
    [task] = ledger.tasks
    assert (task.shards, task.status, task.rows_in) == (2, "failed", 3)


def test_the_card_knows_the_candidates_role(tmp_path: Path) -> None:
    decision = Decision(promoted=True, reason="", candidate="7B x 480k", champion="", comparisons=[], alpha=0.05, min_gain=0.0)
    card = build_card(tmp_path, ladder(), decision, "")
    assert card.role == "rung" and {found.model for found in card.scores} >= {"MINOS", "7B"}


def test_summaries_have_every_field_of_an_entry() -> None:
    assert set(ModelEntry.__struct_fields__) - {"id"} <= set(ModelSummary.__struct_fields__)
