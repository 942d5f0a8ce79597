"""What is expected of a run, and packages that are to go wrong: from the package of the tests' profile as it is compiled."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipelines.images import REPOSITORIES, Image, add_to_table, version
from pipelines.kubeflow.packages import read_package
from tests.kind import lab as labs
from tests.kind.expected import Tasks
from tests.kind.packages import NOWHERE, changed, driver_that_fails, only_the_last_shard
from tests.kind.test_recovery import FIRST, KILL_PYTHON, LAST, SHARDS


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' profile with two shards of its practice."""
    folder = tmp_path_factory.mktemp("packages")
    table = folder / "images.json"
    for name, repository in REPOSITORIES.items():
        add_to_table(Image(name=name, version=version(name), reference=f"{repository}:{version(name)}"), str(table))
    lab = labs.Lab(None, table, folder, None, None, None, None, None)  # type: ignore[arg-type]
    return lab.package("two-shards", SHARDS)


def test_expectations_follow_from_the_package(package: Path) -> None:
    tasks = Tasks.of(package)
    assert tasks.outside == {"preflight", "sources-version", "starting-point", "current-champion", "keep-results"}
    assert tasks.after_champion == {"evaluate-champion", "compare", "report", "publish"}
    assert {"sft", "sample", "judge", "tune", "evaluate", "gather", "synthesize"} <= tasks.work
    assert not tasks.work & (tasks.outside | tasks.after_champion)
    counted = tasks.stages
    assert counted["sample"] == counted["synthesize"] == 2 and counted["evaluate"] == 4 and counted["preflight"] == 1
    paths = Counter(task.path for task in tasks.all)
    assert set(paths.values()) == {1}, "two tasks have one name"
    assert {
        "Preflight",
        "Data: problems and solutions / Collect seeds",
        FIRST.format("Sample M1"),
        LAST.format("Judge the answers"),
    } <= set(paths)


def test_only_the_last_shard_is_left_and_everything_else_stays(package: Path) -> None:
    before = package.read_text()
    made = changed(package, "last-shard", only_the_last_shard)
    assert package.read_text() == before
    tasks, whole = Tasks.of(made), Tasks.of(package)
    assert {task.path for task in whole.all} - {task.path for task in tasks.all} == {
        LAST.format(name) for name in ("Sample M1", "Judge the answers")
    }
    spec = next(iter(yaml.load_all(made.read_text(), Loader=yaml.CSafeLoader)))
    [shards] = [task["inputs"]["parameters"]["shards"] for name, task in spec["root"]["dag"]["tasks"].items() if "practice" in name]
    assert shards == {"runtimeValue": {"constant": ["1/2"]}}
    assert read_package(made).inputs == read_package(package).inputs


def test_a_driver_that_fails_asks_for_what_its_layer_does_not_have(package: Path) -> None:
    made = changed(package, "driver-fails", driver_that_fails)
    spec = next(iter(yaml.load_all(made.read_text(), Loader=yaml.CSafeLoader)))
    layer = spec["components"]["comp-data"]
    asked = layer["dag"]["tasks"]["starting-point"]["inputs"]["parameters"]["student"]["componentInputParameter"]
    assert asked == NOWHERE and asked not in layer["inputDefinitions"]["parameters"]
    assert layer["dag"]["tasks"]["starting-point"]["taskInfo"]["name"] == "Starting point"
    assert read_package(made).inputs == read_package(package).inputs


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the containers are Linux")
def test_only_the_python_of_a_task_is_killed(tmp_path: Path) -> None:
    """With a task as Kubeflow's component runs one: a shell whose child is Python."""
    module = tmp_path / "kfp" / "dsl"
    module.mkdir(parents=True)
    (module / "executor_main.py").write_text("import time; time.sleep(600)\n")
    (tmp_path / "kfp" / "__init__.py").touch()
    (module / "__init__.py").touch()
    # Of all processes of this machine, only those of this test: a container has no others.
    kill = KILL_PYTHON.replace(
        'b"kfp.dsl.executor_main" in command', f'b"kfp.dsl.executor_main" in command and b"{tmp_path.name}" in command'
    )
    task = subprocess.Popen(
        ["sh", "-ec", f'"{sys.executable}" -m kfp.dsl.executor_main {tmp_path.name}; true'], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    try:
        deadline = time.monotonic() + 60
        while (ended := subprocess.run([sys.executable, "-c", kill])).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ended.returncode == 0
        assert task.wait(60) != 0, "the shell should end with its child's status"
    finally:
        task.kill()
    assert subprocess.run([sys.executable, "-c", kill]).returncode == 1, "there is nothing left to kill"
