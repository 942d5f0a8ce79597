"""The compiled pipeline from seeds to report on this machine: real teacher over HTTP, real training, real kills."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from components.core.records import Demonstration, Problem, normalise_question, read_records
from pipelines.images.closure import closure, imported_modules
from tests.conftest import ROOT
from tests.local import command
from tests.local.command import KEY, SHORT, ledger, scores

OPENED = "opened.txt"
"""Which files of the repository each task opened."""
ALWAYS = {"promotion", "ledger", "record"}
"""What looks at the world outside in every run, or comes after the report."""

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a finished smoke run."""
    home = tmp_path_factory.mktemp("home")
    path = os.pathsep.join(filter(None, (str(ROOT / "tests" / "support" / "opened"), os.environ.get("PYTHONPATH", ""))))
    noted = {"PYTHONPATH": path, "TUTORLOOP_TEST_OPENED": str(home / OPENED)}
    status, output = command.run(home, environment={"TUTORLOOP_TEACHER_API_KEY": KEY, **noted})
    assert status == 0, output + command.log_of(home)[-5000:]
    return home


def test_no_task_opens_a_file_that_its_version_does_not_depend_on(finished: Path) -> None:
    spec = next(yaml.load_all((finished / "latest" / "pipeline.yaml").read_text(), Loader=yaml.CSafeLoader))
    sources = {
        executor["container"]["args"][-1]: executor["container"]["command"][-1] for executor in spec["deploymentSpec"]["executors"].values()
    }
    opened: dict[str, set[str]] = defaultdict(set)
    for line in (finished / OPENED).read_text().splitlines():
        task, file = line.split("\t")
        # Compiled code stands for its source.
        name = re.sub(r"__pycache__/(\w+)\.cpython-\d+\.pyc(\.\d+)?$", r"\1.py", file)
        opened[task].add(name)
    assert set(opened) == set(sources)
    assert "components/report/templates/report.css" in opened["report"] and "components/teacher/prompts/solve.md" in opened["solve"]
    for task, files in opened.items():
        extra = {file for file in files if (ROOT / file).is_file()} - set(closure(imported_modules(sources[task]), ROOT))
        assert not extra, f"{task} opens {sorted(extra)}"


def test_a_run_leaves_record_report_and_log(finished: Path) -> None:
    folder = finished / "latest"
    record = command.latest(finished)
    assert record.status == "succeeded" and record.error == ""
    assert (folder / "report.html").stat().st_size > 10_000
    assert "M3" in (folder / "report.html").read_text()
    assert (folder / "log.txt").stat().st_size > 0
    assert json.loads((folder / "report.json").read_text())["models"]
    assert [path.name for path in (folder / "metrics").glob("*.prom")]
    assert {name: Path(uri).exists() for name, uri in record.outputs.items()} == dict.fromkeys(
        ("html", "summary", "ledger", "decision", "card", "model"), True
    )


def test_the_record_holds_what_is_promised(finished: Path) -> None:
    record = command.latest(finished)
    assert [model.name for model in record.models] == ["M0", "M1", "M2", "M2-control", "M3", "M3-control"]
    for model in record.models:
        for score in model.benchmarks.values():
            assert score.n > 0 and 0 <= score.low <= score.pass_at_1 <= score.high <= 1
        assert any(score.pass_at_n and score.pass_ratio_at_n is not None for score in model.benchmarks.values())
    assert record.usage.requests > 0 and record.usage.prompt_tokens > 0
    assert record.parameters["sections"]["sft"] and record.seconds > 0 and record.seconds_by_stage["sft"] > 0
    stages = {stage.stage: stage for stage in record.stages}
    assert set(stages) >= {
        "seeds", "synthesis", "solving", "contamination", "base_model", "sft", "sampling", "judging", "preferences",
        "preference_tuning", "evaluation",
    }  # fmt: skip
    for name in ("synthesis", "solving", "sampling", "judging"):
        assert stages[name].rows_in > 0 and stages[name].rows_kept > 0


def test_rows_add_up(finished: Path) -> None:
    for row in ledger(finished / "latest"):
        if row.stage in {"seeds", "judging"}:
            assert row.rows_in == row.rows_kept + sum(row.dropped.values()), row.task


def test_the_control_takes_as_many_steps_as_its_preference_arm(finished: Path) -> None:
    steps = [row.counts["steps"] for row in ledger(finished / "latest") if row.stage == "preference_tuning"]
    assert len(steps) == 4 and steps[0] == steps[1] > 0 and steps[2] == steps[3] > 0


def test_no_benchmark_problem_is_in_the_training_data(finished: Path) -> None:
    root = Path(command.latest(finished).outputs["ledger"]).parents[1]
    benchmark = {normalise_question(row.question) for row in read_records(next(root.glob("collect-benchmarks*/problems")), Problem)}
    train = {normalise_question(row.question) for row in read_records(next(root.glob("decontaminate*/train")), Demonstration)}
    corpus = {normalise_question(row.question) for row in read_records(next(root.glob("base-model*/corpus")), Problem)}
    assert benchmark and train and corpus
    assert not benchmark & train and not benchmark & corpus


def test_the_key_is_nowhere_in_what_a_run_leaves(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_a_rerun_is_served_from_the_caches(finished: Path) -> None:
    before = command.latest(finished)
    status, output = command.run(finished)
    assert status == 0, output
    again = command.latest(finished)
    assert again.id != before.id
    assert again.usage.requests == 0
    executed = [stage.task for stage in again.stages if not stage.cached]
    assert executed == [], "no stage of the loop runs again"
    assert scores(again) == scores(before)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a finished run with one practice round."""
    home = tmp_path_factory.mktemp("short")
    status, output = command.run(home, *SHORT)
    assert status == 0, output + command.log_of(home)[-5000:]
    return home


def test_a_changed_training_parameter_reruns_what_depends_on_it_and_nothing_else(short: Path) -> None:
    status, output = command.run(short, *SHORT, "--set", "preference_tuning.beta=0.2")
    assert status == 0, output
    record = command.latest(short)
    executed = {stage.task for stage in record.stages if not stage.cached}
    after = {"comparison with the champion", "publishing"}
    assert executed == {"tuning M2 preference", "tuning M2 control", "evaluation M2", "evaluation M2-control", *after}
    assert record.usage.requests == 0


def test_a_study_compares_arms_over_seeds_from_the_caches(finished: Path) -> None:
    arguments = [
        "study",
        "--profile",
        str(command.SMOKE),
        "--home",
        str(finished),
        "--seeds",
        "0",
        "--arm",
        "one:",
        "--arm",
        "same:rounds=2",
    ]
    done = subprocess.run([*command.TUTORLOOP, *arguments], capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| one: M3 - M3-control |" in done.stdout and "| M3: same - one | +0.0 |" in done.stdout


def test_kto_is_a_parameter(short: Path) -> None:
    status, output = command.run(short, *SHORT, "--set", "preference_tuning.method=kto")
    assert status == 0, output
    assert {row.options["method"] for row in ledger(short / "latest") if row.stage == "preference_tuning"} == {"kto"}


def test_the_second_run_in_a_home_is_refused(finished: Path) -> None:
    with (finished / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, output = command.run(finished)
    assert status == 1 and "another run is active" in output and "--home" in output


def test_nothing_survives_the_command(tmp_path: Path) -> None:
    process = command.start(tmp_path)
    assert command.kill_in_new_stage(process, tmp_path, set(), set())
    command.wait_for_the_end_in(tmp_path)


def test_a_changed_stage_runs_again_and_what_depends_on_it(short: Path, tmp_path: Path) -> None:
    """Run from a copy of the code in which one file of a stage differs."""
    for folder in ("components", "pipelines", "images"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))

    def executed(changed: str) -> set[str]:
        with (tmp_path / changed).open("a") as handle:
            handle.write("\n/* changed */\n" if changed.endswith(".css") else "\n# changed\n")
        status, output = command.run(short, *SHORT, folder=tmp_path)
        assert status == 0, output
        return {stage.stage for stage in command.latest(short).stages if not stage.cached}

    assert executed("components/report/templates/report.css") <= {"report", *ALWAYS}
    after = executed("components/evaluation/stage.py")
    assert {"evaluation", "promotion"} <= after
    assert not after & {"base_model", "sft", "sampling", "preference_tuning", "seeds", "synthesis", "solving"}
    status, output = command.run(short, *SHORT, folder=tmp_path)
    assert status == 0, output
    assert [stage.task for stage in command.latest(short).stages if not stage.cached] == []
