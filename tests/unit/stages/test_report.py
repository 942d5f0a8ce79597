"""The report: what it says, that it says it honestly, and that untrusted text stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.errors import InputError
from components.core.ledger.reader import Ledger
from components.core.records import Score, StageRecord, Usage
from components.report.changes import changes
from components.report.stage import run
from components.report.summary import Summary
from components.report.verdict import judge_run
from tests.support.sample_ledger import entry, sample_ledger, write_ledger

DECISION = {
    "promoted": True,
    "reason": "M3 solves 210 of 300 development problems, the base model M0 80; there was no champion before.",
    "candidate": "M3",
    "comparisons": [
        {"opponent": "M0", "n": 300, "candidate_accuracy": 0.7, "opponent_accuracy": 0.267, "gain": 0.433, "low": 0.36, "high": 0.5,
         "p_value": 1e-22, "only_candidate": 150, "only_opponent": 20}
    ],
}  # fmt: skip


def make(folder: Path, records: Sequence[StageRecord], decision: dict[str, Any] | None = None) -> tuple[str, Summary]:
    """Run the stage; return page and summary."""
    ledger = write_ledger(folder / "ledger.jsonl", records)
    judged = folder / "decision.json"
    judged.write_text(json.dumps(decision) if decision else "")
    summary = run(ledger, judged, folder / "report.html", folder / "summary.json")
    return (folder / "report.html").read_text(encoding="utf-8"), summary


class Page(HTMLParser):
    """Checks nesting and collects tags, attributes and visible text."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "


def score(model: str, right: int, n: int = 300, benchmark: str = "set") -> Score:
    from scipy.stats import binomtest

    bounds = binomtest(right, n).proportion_ci(method="wilson")
    return Score(model=model, benchmark=benchmark, n=n, pass_at_1=right / n, low=float(bounds.low), high=float(bounds.high))


def evaluated(**right: int) -> list[StageRecord]:
    """A ledger of evaluations alone, with entries of the loop's models; ``M2_control`` stands for ``M2-control``."""
    names = {name: name.replace("_", "-") for name in right}
    return [
        StageRecord(
            stage="evaluation",
            task=f"evaluation {names[name]}",
            started_at="2026-11-22T03:00:00+00:00",
            seconds=1.0,
            models=[entry(names[name])] if name[0] == "M" else [],
            scores=[score(names[name], count)],
        )
        for name, count in right.items()
    ]


@pytest.mark.parametrize(
    ("right", "tone", "headline", "found", "missing"),
    [
        ({"M0": 80, "M1": 140}, "good", "improved from 26.7 % to 46.7 %", "more than chance explains", "control"),
        ({"M0": 80, "M1": 88}, "neutral", "could be chance", "chance alone could explain", "more than chance"),
        ({"M0": 80, "M1": 80}, "neutral", "did not improve", "±0.0 points", "more than chance"),
        ({"M0": 140, "M1": 80}, "bad", "got worse", "−20.0 points", "improved"),
        ({"M0": 80}, "neutral", "M0 solves 26.7 % of set", "nothing about growth", "improved"),
        ({}, "neutral", "No model was evaluated", "", "improved"),
        ({"M0": 80, "M1": 120, "M2": 160}, "good", "improved", "No matched control was trained", "beat its"),
        ({"M0": 80, "M1": 120, "M2": 160, "M2_control": 158}, "good", "improved", "did not clearly beat its matched control", "Promoted"),
        ({"M0": 80, "M1": 120, "M2": 200, "M2_control": 150}, "good", "improved", "beat its matched control: M2 solves 66.7 %", "did not"),
        ({"M0": 80, "M1": 120, "M2": 150, "M2_control": 200}, "good", "improved", "did worse than its matched control", "beat"),
    ],
)
def test_verdict_in_words(right: dict[str, int], tone: str, headline: str, found: str, missing: str) -> None:
    verdict = judge_run(Ledger(evaluated(**right)), None)
    text = " ".join([verdict.headline, *verdict.sentences]).replace("\N{NO-BREAK SPACE}", " ")
    assert verdict.tone == tone
    assert headline in verdict.headline.replace("\N{NO-BREAK SPACE}", " ")
    assert found in text
    assert missing not in text


def test_last_round_decides_about_preference_tuning_and_earlier_rounds_are_told() -> None:
    verdict = judge_run(Ledger(evaluated(M0=80, M1=120, M2=200, M2_control=150, M3=205, M3_control=204)), None)
    text = " ".join(verdict.sentences)
    assert "did not clearly beat" in text
    assert "M2 against its control +16.7" in text
    assert "preference tuning is ahead" in text


def without_round(records: list[StageRecord], number: int) -> list[StageRecord]:
    """The same ledger, one practice round left out."""
    told = {
        f"preferences M{number}": "the student solved all 96 problems in all 16 samples",
        f"tuning M{number + 1} preference": "dpo has no pair to learn from",
        f"tuning M{number + 1} control": "dpo has no pair to learn from",
    }
    return [_without(row, told[row.task], number) if row.task in told else row for row in records]


def _without(row: StageRecord, reason: str, number: int) -> StageRecord:
    models = [msgspec.structs.replace(model, same_as=f"M{number}") for model in row.models]
    return msgspec.structs.replace(row, left_out=reason, curves=[], models=models)


@pytest.mark.parametrize(("number", "other"), [(1, "M3"), (2, "M2")])
def test_of_a_round_that_was_left_out_nothing_is_claimed(tmp_path: Path, number: int, other: str) -> None:
    html, summary = make(tmp_path, without_round(sample_ledger(n=30), number), DECISION)
    page = Page(html)
    sentence = (
        f"Practice round {number} was left out: the student solved all 96 problems in all 16 samples; dpo has no pair to learn from. "
        f"M{number + 1} is M{number} unchanged"
    )
    assert page.open == [] and "left-out" in page.ids
    assert page.text.count(sentence) == 2, "among the findings, and in a section of its own"
    assert f"M{number} unchanged: practice round {number} was left out" in page.text
    assert f"after practice round {number}:" not in page.text and f"matched control of M{number + 1}" not in page.text
    assert f"since M{number} " not in page.text, "the same model has not changed"
    assert {change.first for change in summary.controls} == {other}
    assert {model.name: model.same_as for model in summary.models if model.same_as} == {
        f"M{number + 1}": f"M{number}",
        f"M{number + 1}-control": f"M{number}",
    }
    assert f"{other} over its SFT control" in page.text and f"M{number + 1} over its SFT control" not in page.text
    assert [stage.left_out for stage in summary.stages if stage.task == f"preferences M{number}"] == [
        "the student solved all 96 problems in all 16 samples"
    ]


def test_pairs_that_lack_are_no_round_left_out_where_the_method_needs_none(tmp_path: Path) -> None:
    records = [
        row if row.stage != "preference_tuning" else msgspec.structs.replace(row, left_out="", models=[entry(row.models[0].id)])
        for row in without_round(sample_ledger(n=30), 1)
    ]
    html, summary = make(tmp_path, records)
    assert "left-out" not in Page(html).ids and not any(model.same_as for model in summary.models)
    assert not any("left out" in sentence for sentence in summary.verdict.sentences)


SECTIONS = (
    *("accuracy", "control", "sampling", "slices", "rows", "contamination", "problems", "practice"),
    *("pairs", "training", "answers", "teacher", "time", "promotion", "details"),
)


def test_whole_page(tmp_path: Path) -> None:
    records = sample_ledger()
    html, summary = make(tmp_path, records, DECISION)
    page = Page(html)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert len(html.encode()) < 300_000
    assert page.tags.count("svg") == 11
    for section in SECTIONS:
        assert section in page.ids
    text = " ".join(page.text.split()).replace("\N{NO-BREAK SPACE}", " ")
    for model in summary.models:
        for found in model.benchmarks.values():
            assert f"{found.pass_at_1 * 100:.1f} %" in text
            assert f"{found.low * 100:.1f} to {found.high * 100:.1f} %" in text
    for fact in (
        "M2-control",
        "M3-control",
        "test set, 300 problems",
        "development set, 300 problems",
        DECISION["reason"],
        "gold mismatch 21",
    ):
        assert str(fact) in text
    for fact in ("12.9 %", "judge precision 99.1 %", "pass ratio 47.0 %", "3,416", "9f2c", "ask_me_anything@1a2b3c4d", "1 min 01 s"):
        assert fact in text, fact


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = Page(make(tmp_path, sample_ledger(), DECISION)[0])
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "xlink:href", "action")]
    assert "http" not in re.sub(r"http://www\.w3\.org/2000/svg|http-equiv", "", (tmp_path / "report.html").read_text())


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }}</style></svg>"


def test_untrusted_text_stays_text(tmp_path: Path) -> None:
    """Every text of the ledger made hostile: reasons, names, options, examples, prompts, lineage."""
    records = []
    for record in sample_ledger(rounds=1, n=30):
        hostile: dict[str, Any] = json.loads(_encode(record))
        hostile["examples"] = _poison(hostile["examples"])
        hostile["dropped"] = {f"{name}{HOSTILE}": count for name, count in record.dropped.items()}
        hostile["prompts"] = _poison(hostile["prompts"])
        hostile["lineage"] = _poison(hostile["lineage"])
        hostile["options"] = _poison(hostile["options"])
        hostile["counts"] = {f"{name}{HOSTILE}": count for name, count in record.counts.items()}
        hostile["task"] = record.task + (HOSTILE if record.stage == "solving" else "")
        hostile["scores"] = _poison(hostile["scores"], keep=("model",))
        records.append(_decode(hostile))
    html, _ = make(tmp_path, records, {**DECISION, "reason": HOSTILE})
    page = Page(html)
    assert page.open == []
    assert not {"script", "img"} & set(page.tags)
    assert page.tags.count("style") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) > 60
    assert "49</style>" not in html


def _encode(record: StageRecord) -> bytes:
    import msgspec

    return msgspec.json.encode(record)


def _decode(value: dict[str, Any]) -> StageRecord:
    import msgspec

    return msgspec.convert(value, StageRecord)


def _poison(value: Any, keep: tuple[str, ...] = ("rejected_from", "decided_by", "method", "model")) -> Any:
    if isinstance(value, dict):
        return {key: item if key in keep else _poison(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [_poison(item, keep) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("records", "absent"),
    [
        ([], {"accuracy", "control", "sampling", "slices", "rows", "training", "teacher", "time", "promotion"}),
        (sample_ledger(rounds=0, n=30), {"control", "pairs", "practice"}),
        (sample_ledger(samples=0, n=30), {"sampling"}),
        (sample_ledger(controls=False, n=30), {"control"}),
        (
            evaluated(M0=80, M1=120),
            {"control", "sampling", "slices", "rows", "contamination", "problems", "training", "answers", "teacher"},
        ),
        ([record for record in sample_ledger(n=30) if record.stage != "evaluation"], {"accuracy", "control", "sampling", "slices"}),
    ],
    ids=["empty", "no rounds", "greedy only", "no controls", "evaluations only", "nothing evaluated"],
)
def test_empty_sections_are_left_out(tmp_path: Path, records: list[StageRecord], absent: set[str]) -> None:
    page = Page(make(tmp_path, records)[0])
    assert page.open == []
    assert not absent & set(page.ids)
    assert "h1" in page.tags
    assert "None" not in page.text
    assert "nan" not in page.text


def test_three_rounds_and_several_benchmarks(tmp_path: Path) -> None:
    records = sample_ledger(benchmarks=["gsm8k", "svamp", "addsub"], n=40)
    extra = evaluated(M4=200, M4_control=190, champion=150)
    html, summary = make(tmp_path, records + extra)
    assert [model.name for model in summary.models] == ["M0", "M1", "M2", "M2-control", "M3", "M3-control", "M4", "M4-control", "champion"]
    assert summary.main_benchmark in ("gsm8k", "svamp", "addsub")
    assert {"gsm8k", "svamp", "addsub", "gsm8k-dev", "set"} == set(summary.models[-3].benchmarks) | set(summary.models[0].benchmarks)
    assert Page(html).open == []


def test_summary_file(tmp_path: Path) -> None:
    records = sample_ledger()
    make(tmp_path, records, DECISION)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["schema"] == "tutorloop.report/1"
    models = {model["name"]: model for model in written["models"]}
    assert list(models) == ["M0", "M1", "M2", "M2-control", "M3", "M3-control"]
    assert models["M2-control"]["role"] == "control"
    found = models["M3"]["benchmarks"]["word_problems"]
    assert set(found) >= {"pass_at_1", "n", "low", "high", "pass_at_n", "pass_ratio_at_n", "majority_at_n", "by_steps", "by_source"}
    assert set(found["pass_at_n"]) == {"1", "2", "4", "8"}
    assert [(item["first"], item["second"], item["benchmark"]) for item in written["controls"]] == [
        ("M2", "M2-control", "word_problems"),
        ("M2", "M2-control", "word_problems-dev"),
        ("M3", "M3-control", "word_problems"),
        ("M3", "M3-control", "word_problems-dev"),
    ]
    assert written["growth"][0]["gain"] == pytest.approx(found["pass_at_1"] - models["M0"]["benchmarks"]["word_problems"]["pass_at_1"])
    assert written["usage"]["requests"] == sum(record.usage.requests for record in records if record.usage)
    assert len(written["stages"]) == len(records)
    assert [stage["shard"] for stage in written["stages"] if stage["task"] == "synthesis"] == ["0/2", "1/2"]
    assert written["contamination"]["dropped_contaminated_jaccard"] == 9
    assert written["promotion"]["promoted"] is True
    assert written["verdict"]["headline"].startswith("The student improved")


def test_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(tmp_path / name, sample_ledger(), DECISION)
    for name in ("report.html", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_shards_of_a_task_are_put_together() -> None:
    def shard(index: int, rows: int, precision: float) -> StageRecord:
        return StageRecord(
            stage="judging", task="judging M1", shard=f"{index}/2", started_at="2026-11-22T03:00:00+00:00", seconds=2.0, rows_in=rows,
            rows_kept=rows - 1, dropped={"empty": 1}, counts={"correct": 10, "pass_ratio": precision, "judge_n": 50},
            usage=Usage(requests=5, usd=0.5),
        )  # fmt: skip

    [task] = Ledger([shard(0, 100, 0.9), shard(1, 300, 0.5)]).tasks
    assert (task.shards, task.seconds, task.rows_in, task.rows_kept, task.dropped) == (2, 4.0, 400, 398, {"empty": 2})
    assert task.counts == {"correct": 20, "pass_ratio": pytest.approx(0.6), "judge_n": 50}
    assert task.usage == Usage(requests=10, usd=1.0)


def test_what_the_run_changes_is_shown_and_is_no_place_for_secrets(tmp_path: Path) -> None:
    ledger = write_ledger(tmp_path / "ledger.jsonl", sample_ledger(rounds=0, n=30))
    html, summary = tmp_path / "report.html", tmp_path / "summary.json"
    changed = {"sft.learning_rate": 0.5, "seeds.sources": [{"adapter": "<b>gsm8k"}], "student.base": "https://me:letmein@host/m"}
    run(ledger, None, html, summary, changed)
    page = Page(html.read_text())
    shown = page.text[page.text.index("What this run changes") :][:300]
    assert "changed" in page.ids and page.open == []
    assert all(text in shown for text in ("sft.learning_rate", "0.5", "seeds.sources.1.adapter", "<b>gsm8k"))
    assert json.loads(summary.read_text())["changed"]["sft.learning_rate"] == 0.5
    assert "letmein" not in html.read_text() + summary.read_text()
    run(ledger, None, html, summary, changes(str(tmp_path)))
    assert "changed" not in Page(html.read_text()).ids, "a run of the profile as it is, or without a record"


def test_secrets_do_not_reach_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-environment")
    first, *others = sample_ledger(rounds=0, n=30)
    options = {
        "teacher": {"base_url": "https://me:hunter2@host/v1", "api_key": "typed-key", "max_tokens": 700},
        "x": "sk-from-environment",
    }
    html, _ = make(tmp_path, [msgspec.structs.replace(first, options=options), *others])
    for secret in ("sk-from-environment", "hunter2", "typed-key"):
        assert secret not in html
    assert "host/v1" in html
    assert "700" in html


def test_long_texts_are_cut_and_the_page_stays_small(tmp_path: Path) -> None:
    html, _ = make(tmp_path, sample_ledger(extra_text=" word" * 100_000))
    assert len(html.encode()) < 300_000
    assert "[…]" in html


@pytest.mark.parametrize("broken", ["ledger", "decision"])
def test_broken_input_is_named(tmp_path: Path, broken: str) -> None:
    write_ledger(tmp_path / "ledger.jsonl", sample_ledger(rounds=0, n=30))
    (tmp_path / "decision.json").write_text("{}")
    path = tmp_path / {"ledger": "ledger.jsonl", "decision": "decision.json"}[broken]
    path.write_text("{broken")
    with pytest.raises(InputError, match=path.name):
        run(tmp_path / "ledger.jsonl", tmp_path / "decision.json", tmp_path / "r.html", tmp_path / "s.json")
    assert not (tmp_path / "r.html").exists()
