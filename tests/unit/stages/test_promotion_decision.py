"""The promotion rule: paired tests on development problems, and refusals with their reasons."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from components.core.errors import InputError, ParameterError
from components.core.options import parse_options
from components.core.records import write_records
from components.core.stage import StageRun
from components.promotion.decide import compare_paired, decide, dev_outcomes
from components.promotion.options import PromotionOptions
from components.promotion.records import Decision
from components.promotion.stage import compare
from tests.support.sample_ledger import results, sample_ledger, write_ledger

CHECKED = [record for record in sample_ledger(rounds=0) if record.stage == "contamination"]
N = 200


def outcomes(right: int, n: int = N, start: int = 0) -> dict[tuple[str, str], bool]:
    """n development problems of which ``right`` are solved, counted from ``start``."""
    return {("set-dev", str(index)): start <= index < start + right for index in range(n)}


@pytest.mark.parametrize(
    ("mine", "base", "champion", "champions", "promoted", "words"),
    [
        (outcomes(120), outcomes(60), "", {}, True, "no champion before"),
        (outcomes(62), outcomes(60), "", {}, False, "can be chance"),
        (outcomes(60), outcomes(60), "", {}, False, "answer every development problem alike"),
        (outcomes(60, start=20), outcomes(60), "", {}, False, "no gain"),
        (outcomes(50), outcomes(60), "", {}, False, "worse than where it started"),
        (outcomes(120), outcomes(60), "abc", outcomes(90), True, "the champion abc 90"),
        (outcomes(120), outcomes(60), "abc", outcomes(118), False, "can be chance"),
        (outcomes(120), outcomes(60), "abc", outcomes(150), False, "no gain"),
        (outcomes(50), outcomes(60), "abc", outcomes(10), False, "worse than where it started"),
        (outcomes(62), outcomes(60), "abc", outcomes(20), False, "the base model"),
        (outcomes(120), outcomes(60), "abc", {}, False, "200 of 200 missing"),
        (outcomes(120), outcomes(60), "abc", outcomes(90, n=N + 5), False, "0 of 200 missing, 5 others"),
        (outcomes(120), outcomes(60, n=N - 1), "", {}, False, "the base model M0 was not measured"),
        ({}, {}, "", {}, False, "no development problems"),
    ],
)  # fmt: skip
def test_rule(mine, base, champion, champions, promoted, words) -> None:  # type: ignore[no-untyped-def]
    decision = decide("M3", "M0", mine, base, champion, champions, CHECKED, PromotionOptions())
    assert decision.promoted is promoted, decision.reason
    assert words in decision.reason


@pytest.mark.parametrize(
    ("options", "champions", "promoted", "words"),
    [
        (PromotionOptions(min_gain=0.2), outcomes(90), False, "not above 20 points"),
        (PromotionOptions(min_gain=0.1), outcomes(90), True, ""),
        (PromotionOptions(min_gain=0.15), outcomes(90), False, "not above 15 points"),
        (PromotionOptions(alpha=1e-12), outcomes(90), False, "can be chance"),
        (PromotionOptions(require_gain_over_base=False), outcomes(90), True, ""),
    ],
)
def test_options_of_the_rule(options: PromotionOptions, champions: dict[tuple[str, str], bool], promoted: bool, words: str) -> None:
    decision = decide("M3", "M0", outcomes(120), outcomes(60), "abc", champions, CHECKED, options)
    assert decision.promoted is promoted, decision.reason
    assert words in decision.reason


def test_base_model_and_candidate_are_called_by_their_ids() -> None:
    decision = decide("7B x 480k", "7B", outcomes(120), outcomes(60), "", {}, CHECKED, PromotionOptions())
    assert decision.candidate == "7B x 480k" and "the base model 7B 60" in decision.reason
    assert [(one.opponent, one.role) for one in decision.comparisons] == [("7B", "base")]


def test_the_least_gain_is_over_the_champion_and_any_real_gain_over_the_base_model_is_enough() -> None:
    options = PromotionOptions(min_gain=0.2)
    assert decide("M3", "M0", outcomes(120), outcomes(100), "abc", outcomes(60), CHECKED, options).promoted
    assert not decide("M3", "M0", outcomes(120), outcomes(100), "", {}, CHECKED, options).promoted, (
        "without a champion it is over the base model"
    )


def test_gain_over_base_can_be_waived_but_never_below_base() -> None:
    waived = PromotionOptions(require_gain_over_base=False)
    assert decide("M3", "M0", outcomes(62), outcomes(60), "abc", outcomes(20), CHECKED, waived).promoted
    assert not decide("M3", "M0", outcomes(59), outcomes(60), "abc", outcomes(20), CHECKED, waived).promoted


def test_model_without_contamination_check_is_refused() -> None:
    decision = decide("M3", "M0", outcomes(120), outcomes(60), "", {}, [], PromotionOptions())
    assert not decision.promoted
    assert "no contamination check" in decision.reason
    unchecked = PromotionOptions(require_contamination_check=False)
    assert decide("M3", "M0", outcomes(120), outcomes(60), "", {}, [], unchecked).promoted


def test_comparison_counts_and_is_repeatable() -> None:
    first = compare_paired(outcomes(100), outcomes(80, start=40), "x", 1000)
    assert (first.only_candidate, first.only_opponent, first.n) == (40, 20, N)
    assert first.gain == pytest.approx(0.1)
    assert first.low < first.gain < first.high
    assert first == compare_paired(outcomes(100), outcomes(80, start=40), "x", 1000)
    with pytest.raises(ValueError, match="same problems"):
        compare_paired(outcomes(100), outcomes(80, n=10), "x", 1000)


def test_only_development_problems_count() -> None:
    rows = results("M1", "a", split="dev", n=30) + results("M1", "a", split="test", n=50)
    assert len(dev_outcomes(rows)) == 30


def test_stage_reads_files_and_writes_the_decision(tmp_path: Path) -> None:
    names = {name: tmp_path / f"{name}.jsonl" for name in ("M3", "M0", "champion")}
    for name, skill in (("M3", 0.8), ("M0", 0.2)):
        rows = results(name, "a", split="dev", n=120, skill=skill) + results(name, "a", n=60, skill=skill)
        write_records(names[name], rows)
    write_records(names["champion"], [])
    ledger = write_ledger(tmp_path / "ledger.jsonl", sample_ledger(n=30))
    stage = StageRun("promotion")
    made = compare(ledger, names["M3"], names["M0"], names["champion"], "", PromotionOptions(), tmp_path / "out" / "decision.json", stage)
    import msgspec

    assert msgspec.json.decode((tmp_path / "out" / "decision.json").read_bytes(), type=Decision) == made
    assert made.promoted
    assert made.candidate == "M3"
    assert made.comparisons[0].n == 120
    assert stage.dropped == {"not_a_development_problem": 60}
    assert stage.counts["promoted"] == 1.0
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(InputError, match="no results of the candidate"):
        compare(ledger, empty, names["M0"], names["champion"], "", PromotionOptions(), tmp_path / "d.json", StageRun("promotion"))


def test_false_promotions_stay_within_alpha() -> None:
    """Two equally good models: at most alpha of the comparisons may promote (in fact half of it: only gains promote)."""
    promoted = 0
    for seed in range(60):
        rows = [dev_outcomes(results(name, "a", split="dev", n=100, seed=seed, skill=0.5)) for name in ("M3", "M0")]
        promoted += decide("M3", "M0", rows[0], rows[1], "", {}, CHECKED, PromotionOptions(bootstrap_samples=100)).promoted
    assert promoted <= 4


@pytest.mark.parametrize(("name", "value"), [("alpha", 0.0), ("alpha", 1.0), ("min_gain", -0.1), ("bootstrap_samples", 1), ("speed", 1)])
def test_wrong_options_are_named(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=rf"promotion\.{name}"):
        parse_options(PromotionOptions, {name: value}, "promotion")


def test_problem_in_two_benchmarks_counts_in_both() -> None:
    rows = list(itertools.chain(results("M1", "a", split="dev", n=10), results("M1", "a", split="dev", n=10)))
    again = [type(row)(**{**{field: getattr(row, field) for field in row.__struct_fields__}, "benchmark": "b-dev"}) for row in rows[:10]]
    assert len(dev_outcomes([*rows, *again])) == 20
