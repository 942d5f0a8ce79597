"""A practice round from which nothing can be learnt: every stage after it goes on with the model as it is, and says so."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.options import parse_options
from components.core.records import Demonstration, StageRecord, digest_of, read_records, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.evaluation.options import EvaluationOptions
from components.evaluation.stage import run as evaluate
from components.judging.options import JudgingOptions
from components.judging.stage import run as judge
from components.preference_tuning.options import TuningOptions
from components.preference_tuning.stage import run as tune
from components.preferences.options import PreferenceOptions
from components.preferences.stage import run as build_preferences
from components.promotion.options import PromotionOptions
from components.promotion.records import Decision
from components.promotion.stage import Material, compare, publish
from components.report.stage import run as report
from components.report.summary import Summary
from components.sampling.options import SamplingOptions
from components.sampling.stage import run as sample
from components.sft.options import SFTOptions
from components.sft.stage import run as fine_tune
from components.student.models.load import read_info
from components.teacher.options import TeacherOptions
from pipelines.runs import record as run_record
from pipelines.runs import summary
from tests.support.sample_ledger import entry
from tests.support.student_material import benchmark, demonstrations, make_model
from tests.unit.stages.test_report import Page

PROBLEMS, SAMPLES, SHARDS = 4, 3, 6
GENERATION = {"max_new_tokens": 8}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """M0, and an M1 that has learnt to answer 7 whatever it is asked."""
    folder = tmp_path_factory.mktemp("models")
    make_model(folder / "M0")
    write_records(folder / "train.jsonl", answered("7", 40))
    options = parse_options(SFTOptions, {"batch_size": 8, "epochs": 6, "learning_rate": 1e-2}, "sft")
    fine_tune(
        str(folder / "M0"), str(folder / "train.jsonl"), options, StageRun("sft"),
        checkpoints=str(folder / "checkpoints"), seed=1, output=str(folder / "M1"),
    )  # fmt: skip
    return folder


def answered(answer: str, count: int) -> list[Demonstration]:
    """Demonstrations that all come to one answer."""
    return [msgspec.structs.replace(row, solution=f"#### {answer}", answer=answer) for row in demonstrations(count)]


@dataclass
class Loop:
    """One practice round and what follows it, stage by stage as the pipeline has them."""

    folder: Path
    models: Path
    method: str
    preferences: dict[str, Any]
    records: list[StageRecord] = field(default_factory=list)

    @property
    def work(self) -> str:
        """Address of the checkpoint store."""
        return str(self.folder / "checkpoints")

    def __post_init__(self) -> None:
        """M0 and M1 are there: their stages have entered them in the ledger."""
        for stage, name in (("base_model", "M0"), ("sft", "M1")):
            run = StageRun(stage)
            run.models.append(entry(name))
            self.records.append(run.record())

    def practise(self) -> None:
        """Sample, judge, build preferences, tune both arms."""
        train, judged, model = self.folder / "train.jsonl", [], str(self.models / "M1")
        for index in range(SHARDS):
            samples, verdicts = self.folder / f"samples{index}.jsonl", self.folder / f"judged{index}.jsonl"
            stage = StageRun("sampling", "sampling M1", f"{index}/{SHARDS}", 1)
            options = parse_options(SamplingOptions, {**GENERATION, "n": SAMPLES, "temperature": 0.01}, "sampling")
            sample(
                model, str(train), options, stage, checkpoints=self.work, round_number=1, seed=2, output=str(samples),
            )  # fmt: skip
            self.records.append(stage.record())
            stage = StageRun("judging", "judging M1", f"{index}/{SHARDS}", 1)
            judge(samples, train, verdicts, TeacherOptions(), JudgingOptions(judge="rule_only"), str(self.folder / "responses"), stage)
            self.records.append(stage.record())
            judged.append(verdicts)
        parsed = parse_options(PreferenceOptions, self.preferences, "preferences")
        stage = StageRun("preferences", "preferences M1", round_number=1)
        build_preferences(judged, train, self.folder / "pairs.jsonl", self.folder / "labelled.jsonl", parsed, stage, seed=3)
        self.records.append(stage.record())
        for arm, name in (("preference", "M2"), ("control", "M2-control")):
            stage = StageRun("preference_tuning", f"tuning M2 {arm}", round_number=1)
            tune(
                model, model, str(self.folder / "pairs.jsonl"), str(self.folder / "labelled.jsonl"),
                parse_options(TuningOptions, {"method": self.method, "learning_rates": [1e-3]}, "preference_tuning"), stage,
                checkpoints=self.work, round_number=1, arm=arm, seed=2, output=str(self.folder / name),
            )  # fmt: skip
            self.records.append(stage.record())

    def finish(self) -> Decision:
        """Evaluate every model, compare, report, publish."""
        for name, model in {"M0": self.models, "M1": self.models, "M2": self.folder, "M2-control": self.folder}.items():
            stage = StageRun("evaluation", f"evaluation {name}")
            options = parse_options(EvaluationOptions, {**GENERATION, "samples_per_problem": 2}, "evaluation")
            evaluate(
                str(model / name), str(self.folder / "benchmarks.jsonl"), options, stage,
                name=name, checkpoints=self.work, seed=2, output=str(self.folder / f"results-{name}.jsonl"),
            )  # fmt: skip
            self.records.append(stage.record())
        here = self.folder
        write_records(here / "ledger.jsonl", self.records)
        write_records(here / "none.jsonl", [])
        rule = PromotionOptions(publish_rejected=True, require_contamination_check=False)
        decision = compare(
            here / "ledger.jsonl", here / "results-M2.jsonl", here / "results-M0.jsonl", here / "none.jsonl", "", rule,
            here / "decision.json", StageRun("promotion"),
        )  # fmt: skip
        report(here / "ledger.jsonl", here / "decision.json", here / "report.html", here / "summary.json")
        names = ("train.jsonl", "results-M2.jsonl", "report.html", "summary.json", "ledger.jsonl", "decision.json")
        material = Material(here / "M2", *[here / name for name in names])
        assert publish(material, rule, str(here / "published"), "", here / "card.json", StageRun("promotion"))
        return decision


def loop(models: Path, folder: Path, answer: str, method: str = "kto", **preferences: Any) -> Loop:
    """A round over problems with this answer, tried by the student that always says 7."""
    write_records(folder / "train.jsonl", answered(answer, PROBLEMS))
    rows = [
        msgspec.structs.replace(row, answer="7" if index % 2 else "8")
        for index, row in enumerate([*benchmark(6), *benchmark(6, split="dev")])
    ]
    write_records(folder / "benchmarks.jsonl", rows)
    return Loop(folder, models, method, preferences)


@pytest.mark.parametrize(
    ("answer", "method", "preferences", "reason", "lacking"),
    [
        ("7", "dpo", {}, f"the student solved all {PROBLEMS} problems in all {SAMPLES} samples", "dpo has no pair"),
        (
            "7",
            "kto",
            {},
            f"the student solved all {PROBLEMS} problems in all {SAMPLES} samples",
            "kto learns from right and wrong responses",
        ),
        (
            "8",
            "kto",
            {"teacher_positives": False},
            f"the student solved none of the {PROBLEMS} problems in any of {SAMPLES} samples",
            "kto has no labelled response",
        ),
    ],
)
def test_a_round_without_pairs_is_left_out_and_the_run_goes_on(
    models: Path, tmp_path: Path, answer: str, method: str, preferences: dict[str, Any], reason: str, lacking: str
) -> None:
    made = loop(models, tmp_path, answer, method, **preferences)
    made.practise()
    assert any(record.stage == "judging" and not record.rows_in for record in made.records), "a shard without problems is part of this"
    told = {record.task: record.left_out for record in made.records if record.left_out}
    assert told.keys() == {"preferences M1", "tuning M2 preference", "tuning M2 control"}
    assert told["preferences M1"] == reason
    assert lacking in told["tuning M2 preference"] and told["tuning M2 preference"] == told["tuning M2 control"]
    for name in ("M2", "M2-control"):
        assert digest_of(tmp_path / name) == digest_of(models / "M1")
        assert read_info(tmp_path / name).digest == read_info(models / "M1").digest
    assert not list(open_store(made.work).list()), "nothing is left of a training that there was not"

    decision = made.finish()
    scores = {record.task.split()[1]: record.scores for record in made.records if record.stage == "evaluation"}
    for name in ("M2", "M2-control"):
        assert [msgspec.structs.replace(score, model="M1") for score in scores[name]] == scores["M1"]
    assert decision.candidate == "M2" and decision.comparisons

    sentence = f"Practice round 1 was left out: {reason}"
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == [] and "left-out" in page.ids and "control" not in page.ids
    assert sentence in page.text and "M1 unchanged" in page.text and "matched control of M2" not in page.text
    assert "nan" not in page.text and "None" not in page.text
    figures = msgspec.json.decode((tmp_path / "summary.json").read_bytes(), type=Summary)
    assert any(text.startswith(sentence) for text in figures.verdict.sentences)
    assert not any("matched control" in text for text in figures.verdict.sentences)
    assert figures.controls == []
    assert {model.name: model.same_as for model in figures.models} == {"M0": "", "M1": "", "M2": "M1", "M2-control": "M1"}
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["name"], card["model"]["name"], card["left_out"]) == ("M2", "M1", told)
    [version] = (tmp_path / "published" / "versions").iterdir()
    assert digest_of(version / "model") == digest_of(models / "M1")
    assert reason in (version / "card.md").read_text()

    opened = run_record.RunRecord(id="r", profile="p", status="running", started_at=run_record.now())
    kept = run_record.from_ledger(opened, list(read_records(tmp_path / "ledger.jsonl", StageRecord)))
    assert {stage.task: stage.left_out for stage in kept.stages if stage.left_out} == told
    assert f"left out: preferences M1: {reason}" in summary.text(kept)


def test_continued_sft_learns_from_a_round_in_which_everything_is_right(models: Path, tmp_path: Path) -> None:
    made = loop(models, tmp_path, "7", "sft")
    made.practise()
    records = {record.task: record for record in made.records}
    assert records["preferences M1"].left_out and not records["tuning M2 preference"].left_out
    assert records["tuning M2 preference"].counts["steps"] > 0
    assert read_info(tmp_path / "M2").name == "M2" and digest_of(tmp_path / "M2") != digest_of(models / "M1")
    made.finish()
    assert "left-out" not in Page((tmp_path / "report.html").read_text(encoding="utf-8")).ids


def test_a_student_that_solves_nothing_learns_from_the_teacher(models: Path, tmp_path: Path) -> None:
    """What the teacher wrote is a right answer beside each wrong one: by default such a round is not empty."""
    made = loop(models, tmp_path, "8", "dpo")
    made.practise()
    assert not any(record.left_out for record in made.records)
    assert read_info(tmp_path / "M2").parent == "M1"
