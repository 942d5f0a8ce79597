"""What a person compares between runs: one set of numbers, in the order in which Kubeflow shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.core.records import Usage
from components.report.stage import run
from tests.support.sample_ledger import sample_ledger, write_ledger


def figures(folder: Path, **options: Any) -> dict[str, float]:
    """Of a made-up run, in Kubeflow's order: by name."""
    ledger = write_ledger(folder / "ledger.jsonl", sample_ledger(**options))
    found = run(ledger, None, folder / "report.html", folder / "summary.json").figures
    return dict(sorted(found.items()))


def test_accuracies_come_first_and_models_in_their_order(tmp_path: Path) -> None:
    found = figures(tmp_path, n=40)
    names = [name for name in found if name.startswith("accuracy") and " on " not in name]
    assert list(found)[: len([name for name in found if name.startswith("accuracy")])] == [name for name in found if "accuracy" in name]
    assert names == [f"accuracy % {model}" for model in ("M0", "M1", "M2", "M2-control", "M3", "M3-control")]
    assert all(0 <= found[name] <= 100 for name in names)
    gain = found["gain over the base, points"]
    assert gain == pytest.approx(found["accuracy % M3"] - found["accuracy % M0"], abs=0.11)
    assert found["gain over the base, points, 95 % from"] < gain < found["gain over the base, points, 95 % to"]
    assert found["gain over the control, points"] == pytest.approx(found["accuracy % M3"] - found["accuracy % M3-control"], abs=0.11)


def test_cost_time_and_rows_are_those_of_the_ledger(tmp_path: Path) -> None:
    rows = sample_ledger(n=40)
    found = figures(tmp_path, n=40)
    usage = sum((row.usage for row in rows if row.usage), Usage())
    assert found["cost, $"] == round(usage.usd, 2) and found["teacher: requests paid"] == usage.requests
    assert found["hours of all tasks"] == round(sum(row.seconds for row in rows) / 3600, 2)
    assert found["rows: demonstrations"] == sum(row.rows_kept for row in rows if row.stage == "contamination")


@pytest.mark.parametrize(("benchmarks", "shown"), [(["a"], 2), (["a", "b"], 3), (["a", "b", "c"], 1)])
def test_many_benchmarks_do_not_hide_the_main_one(benchmarks: list[str], shown: int, tmp_path: Path) -> None:
    """Each run of the sample measures development problems of its first benchmark as well."""
    found = figures(tmp_path, n=20, benchmarks=benchmarks, rounds=1)
    assert len([name for name in found if name.startswith("accuracy % M0")]) == shown


@pytest.mark.parametrize(("options", "missing"), [({"rounds": 0}, "control"), ({"controls": False}, "control")])
def test_what_was_not_measured_is_left_out(options: dict[str, Any], missing: str, tmp_path: Path) -> None:
    assert not [name for name in figures(tmp_path, n=20, **options) if missing in name]
