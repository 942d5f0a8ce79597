"""What is read in a compiled package of the tests' profile, and how packages are changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.records import in_shard
from pipelines.images.table import REPOSITORIES, described, table_of
from pipelines.packages.finished import finished_package
from pipelines.parameters.profile import load
from tests.kind.deploy import PROFILE
from tests.kind.packages import expected, with_a_driver_that_fails, with_shards_of_sampling
from tests.kind.test_accidents import BROKEN, SHARDS


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package that the overlay of a test runs."""
    table = table_of(described(name, f"{repository}:1") for name, repository in REPOSITORIES.items())
    path = tmp_path_factory.mktemp("package") / "tiny.yaml"
    path.write_text(finished_package(load(str(PROFILE), ()), table, profile=PROFILE.stem))
    return path


def spec(path: Path) -> Any:
    return next(iter(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)))


def test_stages_are_those_that_always_run_those_after_the_champion_and_the_work(package: Path) -> None:
    plan = expected(package)
    assert plan.always >= {"preflight", "current-champion", "keep-results"} and not plan.always & plan.work
    assert plan.after_champion == {"evaluate-champion", "compare", "report", "publish"}
    assert plan.work >= {"synthesize", "solve", "sft", "evaluate", "sample", "judge", "build-preferences", "tune", "gather"}
    assert plan.always | plan.after_champion | plan.work == plan.stages


def test_shards_that_are_changed_are_still_all_problems_once(package: Path, tmp_path: Path) -> None:
    changed = spec(with_shards_of_sampling(package, SHARDS, tmp_path / "changed.yaml"))
    plain = spec(package)
    shards = changed["root"]["dag"]["tasks"]["practice-round-1"]["inputs"]["parameters"]["shards"]["runtimeValue"]
    before = plain["root"]["dag"]["tasks"]["practice-round-1"]["inputs"]["parameters"]["shards"]["runtimeValue"]
    assert set(SHARDS) & set(before["constant"]) == {SHARDS[1]}, "the first must be new, and one after it in the cache"
    assert all(sum(in_shard(f"problem {number}", shard) for shard in SHARDS) == 1 for number in range(200))
    shards["constant"] = before["constant"]
    assert changed == plain


def test_a_driver_that_is_to_fail_has_a_limit_that_is_no_quantity(package: Path, tmp_path: Path) -> None:
    changed, plain = (
        spec(path)["deploymentSpec"]["executors"]
        for path in (with_a_driver_that_fails(package, BROKEN, tmp_path / "changed.yaml"), package)
    )
    resources = changed[f"exec-{BROKEN}"]["container"]["resources"]
    assert resources["resourceMemoryLimit"] == "plenty"
    resources["resourceMemoryLimit"] = plain[f"exec-{BROKEN}"]["container"]["resources"]["resourceMemoryLimit"]
    assert changed == plain
