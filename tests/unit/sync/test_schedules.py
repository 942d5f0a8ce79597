"""Cron expressions as Kubeflow reads them, and the hash that says whether a recurring run is still what Git declares."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.errors import InputError
from pipelines.parameters.profile import load
from pipelines.sync import cron, schedules
from pipelines.sync.schedules import spec_hash
from tests.conftest import ROOT

HOUR, DAY = 3600, 86_400


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("0 0 3 * * 1", 7 * DAY),
        ("0 0 3 * * 1-5", 3 * DAY),
        ("0 0 3 * * mon,THU", 4 * DAY),
        ("0 */5 9-17 * * 1-5", 63 * HOUR + 5 * 60),
        ("0 0 0 1 * ?", 31 * DAY),
        ("0 0 0 ? * */2", 2 * DAY),
        ("0 0 0 1 JAN *", 366 * DAY),
        ("0 0 0 29 2 *", 4 * 365 * DAY + DAY),
        ("0 0 0 13 * 5", 7 * DAY),  # the 13th or a Friday
        ("0 0 0 */10 * 5", 182 * DAY),  # a star in either: the 1st, 11th, 21st or 31st, if it is a Friday
        ("0 0 6,18 * * *", 12 * HOUR),
        ("0 0 3,20 * * *", 17 * HOUR),  # longer within a day than over the night
        ("*/20 * * * * *", 20),
        ("0 0 0 * * 2/2", 3 * DAY),  # Tuesday, Thursday, Saturday
    ],
)
def test_the_longest_gap(expression: str, seconds: float) -> None:
    assert cron.longest_gap(expression) == seconds


@pytest.mark.parametrize(
    "expression",
    ["", "0 3 * * 1", "0 0 3 * * 1 2026", "@daily", "@every 1h", "0 0 0 L * *", "0 0 0 LW * *", "0 0 0 * * 5L", "0 0 0 * * 1#2",
     "0 0 0 * * 7", "0 0 0 * * 5-7", "0 0 0 30 2 *", "0 60 0 * * *", "0 0 0 * * */0", "0 0 5-3 * * *", "0 0 0 * MON *",
     "0 0 JAN * * *", "0 0 0 1,, * *", "0 0 0 1-2-3 * *", "x 0 0 * * *", "TZ=UTC 0 0 3 * * 1"],
)  # fmt: skip
def test_what_kubeflow_would_misread_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        cron.longest_gap(expression)


leaves = st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8
)
specs = st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=5)


def reordered(value: Any) -> Any:
    """The same with the keys of all mappings the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(specs)
def test_the_order_of_keys_does_not_count(spec: dict[str, Any]) -> None:
    assert spec_hash(spec) == spec_hash(reordered(spec)) == spec_hash(copy.deepcopy(spec))


@given(specs, specs)
def test_any_difference_counts(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (spec_hash(one) == spec_hash(other)) == same


@given(specs, st.data())
def test_a_change_anywhere_counts(spec: dict[str, Any], data: st.DataObject) -> None:
    def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(found for key, item in items for found in paths(item, (*path, key)))]

    path = data.draw(st.sampled_from([path for path in paths(spec) if path]))
    changed = copy.deepcopy(spec)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = {"changed from": place[path[-1]]}
    assert spec_hash(changed) != spec_hash(spec)


def test_numbers_are_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("{name: s, pipeline: p, profile: tiny, cron: '0 0 3 * * 1', parameters: {sft.learning_rate: 1e-3, seed: 2}}")
    declared = schedules.read(path)
    assert declared.arguments["sft"]["learning_rate"] == 1e-3
    assert declared.arguments["seed"] == 2
    assert not set(declared.arguments) & {"records", "profile", "data_shards"}, "the package says these"


@pytest.mark.parametrize(
    ("more", "named"), [("stores: {responses: 's3://r'}", r"schedule\.stores"), ("parameters: {data_shards: 2}", r"data_shards = 2")]
)
def test_what_is_compiled_into_the_package_is_refused(more: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"{{name: s, pipeline: p, profile: tiny, cron: '0 0 3 * * 1', {more}}}")
    with pytest.raises(InputError, match=named):
        schedules.read(path)


def test_the_schedules_that_are_declared_can_be_read() -> None:
    found = schedules.read_folder(ROOT / "manifests/components/schedules")
    assert not found.errors and len(found.schedules) >= 2
    for declared in found.schedules:
        assert load(declared.schedule.profile).cluster.pipeline == declared.schedule.pipeline, "its package is of its profile"
