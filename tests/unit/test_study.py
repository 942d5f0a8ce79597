"""Arms, seeds, and the table of a study."""

from __future__ import annotations

import msgspec
import pytest

from components.core.errors import ParameterError
from components.core.ledger import ModelSummary
from components.core.records import Score
from pipelines.run_record import RunRecord
from pipelines.study import parse_arms, parse_seeds, table
from tests.sample_ledger import entry


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
