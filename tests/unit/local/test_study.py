"""Arms, seeds, and the table of a study."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from components.core.errors import ParameterError
from components.core.ledger.reader import ModelSummary
from components.core.records import Score
from pipelines.local.study import parse_arms, parse_seeds, run_study, table
from pipelines.runs.record import RunRecord
from tests.support.sample_ledger import entry

SMOKE = str(Path(__file__).parents[2] / "local" / "smoke.yaml")


def record(accuracies: dict[str, float]) -> RunRecord:
    models = []
    for name, value in accuracies.items():
        score = Score(model=name, benchmark="held-out", n=300, pass_at_1=value, low=value - 0.05, high=value + 0.05)
        known = entry(name)
        models.append(
            ModelSummary(name=name, role=known.role, round=known.round, control_of=known.control_of, benchmarks={"held-out": score})
        )
    return RunRecord(id="r", profile="tiny", status="succeeded", started_at="2026-01-01T00:00:00+00:00", models=models)


def test_arms() -> None:
    assert parse_arms([]) == {"default": []}
    assert parse_arms(["a:", "b:x.y=[1,2];seed=2"]) == {"a": [], "b": ["x.y=[1,2]", "seed=2"]}


@pytest.mark.parametrize("texts", [["nocolon"], [":x=1"], ["a:", "a:x=1"]])
def test_wrong_arms_are_refused(texts: list[str]) -> None:
    with pytest.raises(ParameterError, match="--arm"):
        parse_arms(texts)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1,1"])
def test_wrong_seeds_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="--seeds"):
        parse_seeds(text)


def test_table_compares_each_model_with_its_control_and_arms_with_the_first() -> None:
    base = {"M0": 0.3, "M1": 0.5, "M2": 0.6, "M2-control": 0.55}
    better = {"M0": 0.3, "M1": 0.5, "M2": 0.7, "M2-control": 0.55}
    text = table({"dpo": [record(base), record(base)], "kto": [record(better), record(better)]}, [0, 1])
    assert "| dpo: M2 - M2-control | +5.0 |" in text
    assert "| kto: M2 - M2-control | +15.0 |" in text
    assert "| M2: kto - dpo | +10.0 |" in text
    assert "| kto | M2 | 0.700 | 0.700 | 0.700 (0.000) |" in text


def left_out(run: RunRecord) -> RunRecord:
    """The same run, its first round left out."""
    models = [msgspec.structs.replace(model, same_as="M1", left_out="all solved") if model.round == 1 else model for model in run.models]
    return msgspec.structs.replace(run, models=models)


def test_a_round_that_was_left_out_says_nothing_about_its_control() -> None:
    """Both arms are then one model; accuracies stay, since that model was measured."""
    run = record({"M0": 0.3, "M1": 0.6, "M2": 0.7, "M2-control": 0.6})
    same = left_out(record({"M0": 0.3, "M1": 0.6, "M2": 0.6, "M2-control": 0.6}))
    text = table({"dpo": [run, same]}, [3, 4])
    assert "| dpo: M2 - M2-control | +10.0 |" in text
    assert "| dpo | M2 | 0.700 | 0.600 |" in text
    assert "dpo, seed 4: Practice round 1 was left out: all solved" in text and "seed 3:" not in text
    assert "M2 - M2-control" not in table({"dpo": [same, same]}, [3, 4])


def test_arms_may_have_different_rounds() -> None:
    short = {"M0": 0.3, "M1": 0.5, "M2": 0.6, "M2-control": 0.55}
    long = {"M0": 0.3, "M1": 0.5, "M2": 0.7, "M2-control": 0.55, "M3": 0.8, "M3-control": 0.6}
    for arms in ({"one": short, "two": long}, {"two": long, "one": short}):
        text = table({arm: [record(values), record(values)] for arm, values in arms.items()}, [0, 1])
        assert f"| M2: {' - '.join(reversed(arms))} | {'+' if list(arms)[1] == 'two' else '-'}10.0 |" in text
        assert "| two | M3 | 0.800 | 0.800 |" in text and "| two: M3 - M3-control | +20.0 |" in text


def test_arms_may_have_different_benchmarks() -> None:
    def renamed(run: RunRecord) -> RunRecord:
        models = [msgspec.structs.replace(row, benchmarks={"other": row.benchmarks["held-out"]}) for row in run.models]
        return msgspec.structs.replace(run, models=models)

    scores = {"M0": 0.3, "M1": 0.5}
    text = table({"a": [record(scores)], "b": [renamed(record(scores))]}, [0])
    assert "### held-out" in text and "### other" in text and "M1: b - a" not in text


def test_one_name_for_different_benchmarks_is_refused_before_any_run(tmp_path: Path) -> None:
    arms = ["a:", "b:benchmarks.sources[0].count=7"]
    with pytest.raises(ParameterError, match=r"--arm = 'b' .*held-out"):
        run_study(SMOKE, arms, "0", str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_file_that_one_arm_lacks_is_told_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"judging\.golden\[0\]"):
        run_study(SMOKE, ["a:", f"b:judging.golden=[{tmp_path}/none]"], "0", str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()
