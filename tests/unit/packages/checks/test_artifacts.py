"""What Kubeflow's record of artifacts and its launcher refuse is found through every kind of layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.packages.checks.artifacts import buckets_are_opened, one_name_each
from pipelines.packages.checks.ir import Package
from tests.unit.packages.checks import samples
from tests.unit.packages.checks.samples import collected_in_a_nested_pipeline, compiled, sharded


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (samples.twice, ["take"]),
        (samples.twice_to_a_nested_pipeline, ["nested-same", "nested-same/take"]),
        (samples.twice_out_of_a_nested_pipeline, ["take"]),
        (samples.twice_out_of_and_into, ["nested-both", "nested-both/take"]),
        (samples.twice_under_a_condition, ["condition-1/take"]),
        (samples.two_that_differ, []),
        (samples.two_of_one_component, []),
    ],
)
def test_one_artifact_under_two_names_is_refused(build: Callable[..., None], where: list[str]) -> None:
    found = list(one_name_each(Package.parse(compiled(build))))
    assert [problem.split(" gets ")[0] for problem in found] == where
    assert all("output 'data' of" in problem for problem in found)


def test_a_list_that_is_collected_twice_is_refused() -> None:
    def build(*_: Any) -> None:
        sharded("source")(["a", "b"], "", 0)

    package = Package.parse(compiled(build))
    (collecting,) = (task for task in package.all_tasks() if task.key == "collect")
    dict(collecting.spec)["inputs"]["artifacts"]["beside"] = collecting.artifacts["parts"]
    assert [problem for problem in one_name_each(package) if "'beside' and 'parts'" in problem]


@pytest.mark.parametrize(
    ("build", "hint"),
    [
        (sharded(), "output 'data' of make"),
        (sharded("unrelated"), "output 'data' of make"),
        (sharded(chained=True), "output 'data' of make"),
        (sharded(without=True), "takes none from outside its loop"),
        (sharded("source", without=True), "takes none from outside its loop"),
        (collected_in_a_nested_pipeline(beside=False), "output 'data' of make"),
        (sharded("source"), ""),
        (sharded("source", chained=True), ""),
        (sharded(cached=False), ""),
        (collected_in_a_nested_pipeline(beside=True), ""),
    ],
)
def test_a_collected_list_comes_with_what_opens_the_store(build: Callable[..., None], hint: str) -> None:
    found = list(buckets_are_opened(Package.parse(compiled(build))))
    assert len(found) == bool(hint), found
    assert all("collect collects" in problem and hint in problem for problem in found)
