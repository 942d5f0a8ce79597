"""The session's fixtures, in a pytest of their own: what is made is removed, what fails is told, and profiles are what tests need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from pipelines.images.table import REPOSITORIES, add_to_table, described, version
from pipelines.parameters.profile import load
from tests.conftest import ROOT
from tests.kind import lab as labs
from tests.kind.deploy import PROFILE
from tests.kind.lab import Bill, probes_of_a_run
from tests.kind.test_gpus import NEW_WORK
from tests.kind.test_kills import LONGER, ONE_SHARD, TRACES
from tests.kind_pieces.programs import Programs


def pytest_of(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the tests on a cluster, with the programs that are on the path."""
    table = folder / "images.json"
    for name in ("agents", "sync"):
        add_to_table(described(name, f"{REPOSITORIES[name]}:{version(name)}"), str(table))
    variables = {**os.environ, "TUTORLOOP_IMAGES": str(table), "TUTORLOOP_KIND_FOLDER": str(folder / "traces"), **environment}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
    return ended.returncode, ended.stdout + ended.stderr


def test_all_tests_on_a_cluster_are_found_the_first_run_first(tmp_path: Path) -> None:
    status, output = pytest_of(tmp_path, "--collect-only", "tests/kind")
    assert status == 0, output
    modules = list(dict.fromkeys(line.split("::")[0] for line in output.splitlines() if "::" in line))
    assert modules == [f"tests/kind/{name}.py" for name in ("test_run", "test_accidents", "test_kills", "test_schedules", "test_gpus")]


def test_a_cluster_that_does_not_come_up_is_told_its_logs_are_kept_and_it_is_removed(programs: Programs, tmp_path: Path) -> None:
    programs.answers("create cluster", err="ERROR: failed to create cluster: node image is not there", status=1)
    status, output = pytest_of(tmp_path, "tests/kind/test_run.py")
    assert status == 1 and "node image is not there" in output
    kind = [call.split()[1] for call in programs.calls() if call.startswith("kind ")]
    assert kind == ["delete", "create", "export", "delete"]
    assert list((tmp_path / "traces").iterdir()), "nothing was collected"


def test_one_that_is_to_stay_stays(programs: Programs, tmp_path: Path) -> None:
    programs.answers("image inspect", err="no such image", status=1)
    status, output = pytest_of(tmp_path, "tests/kind/test_run.py", TUTORLOOP_KIND_CLUSTER="mine")
    assert status == 1 and "no such image" in output and "kind export kubeconfig --name mine" in output
    assert not any("delete" in call or "create" in call for call in programs.calls())


def test_programs_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, output = pytest_of(tmp_path, "tests/kind/test_run.py")
    assert status == 1 and "not installed: kubectl, kind, docker" in output


def test_the_profile_and_its_variants_are_valid_and_the_pods_fit_four_cores() -> None:
    options, plain = load(str(PROFILE), (ONE_SHARD, *LONGER)), load(str(PROFILE), ())
    longer, usual = options.sections["sft"], plain.sections["sft"]
    for name in ("epochs", "learning_rate"):
        assert getattr(longer, name) == getattr(usual, name), "a student that learns more solves everything, and there are no pairs"
    assert longer.batch_size * longer.gradient_accumulation == usual.batch_size
    pods = options.cluster.pods
    assert all(pod.cpu.endswith("m") and int(pod.cpu[:-1]) <= 250 for pod in (pods.training, pods.generation, pods.model, pods.teacher))
    one_gpu = load(str(PROFILE), ("cluster.pods.generation.gpus=1", NEW_WORK))
    assert one_gpu.cluster.pods.generation.gpus == 1
    assert one_gpu.sections["evaluation"] != load(str(PROFILE), ()).sections["evaluation"], "the task would come from the cache"
    assert probes_of_a_run() == 1


def test_the_marks_of_work_in_progress_are_those_that_the_stages_leave() -> None:
    assert TRACES["sft"].search("checkpoints/0b1c/checkpoint-120/complete")
    assert not TRACES["sft"].search("checkpoints/0b1c/checkpoint-120/model.safetensors")
    assert not TRACES["sample"].search("checkpoints/0b1c/00000000-160.json"), "that is an evaluation's"


def test_a_package_of_the_profile_asks_for_the_gpus_that_are_set(tmp_path: Path) -> None:
    table = tmp_path / "images.json"
    for name, repository in REPOSITORIES.items():
        add_to_table(described(name, f"{repository}:{version(name)}"), str(table))
    lab = labs.Lab(None, table, tmp_path, None, None, None, None, None)  # type: ignore[arg-type]
    text = lab.package("one-gpu", "cluster.pods.generation.gpus=1").read_text()
    spec, _ = yaml.load_all(text, Loader=yaml.CSafeLoader)
    executors = spec["deploymentSpec"]["executors"]
    asked = executors["exec-evaluate"]["container"]["resources"]["accelerator"]
    assert (asked["resourceCount"], asked["resourceType"]) == ("1", "nvidia.com/gpu")
    assert "accelerator" not in executors["exec-sft"]["container"]["resources"]
    assert list(lab.parameters("evaluation.max_new_tokens=38")) == ["evaluation"], "a run may be given nothing that its package has not"


PREFLIGHTS = frozenset({"uid-1", "uid-2"})


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Bill(112, 110, ("old",), PREFLIGHTS), []),
        (Bill(111, 110, ("old",), frozenset({"uid-1"})), []),
        (Bill(117, 110, ("old",), PREFLIGHTS), ["15 replies were paid for, and 10"]),
        (Bill(112, 110, ("key", "old"), PREFLIGHTS), ["1 requests were paid for twice: key"]),
        (Bill(102, 90, ("old",), PREFLIGHTS), ["0 replies were paid for, and -10", "gone from the store"]),
    ],
    ids=["with a schedule's run in between", "alone", "in vain", "twice", "gone"],
)
def test_a_bill_tells_what_was_paid_for_in_vain(after: Bill, words: list[str]) -> None:
    said = list(after.problems_since(Bill(100, 100, ("old",)), 1))
    assert len(said) == len(words) and all(word in text for word, text in zip(words, said, strict=True))


def test_a_bill_is_written_when_nobody_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    at_work = [{"a schedule's"}, {"a schedule's"}, set[str]()]
    kubeflow = SimpleNamespace(at_work=lambda: at_work.pop(0), preflights=lambda: {"uid-1"})
    store = SimpleNamespace(replies=lambda: Counter({"once": 1, "again": 2}))
    lab = SimpleNamespace(kubeflow=kubeflow, store=store, teacher=SimpleNamespace(paid=lambda: 4), run_seconds=60)
    assert Bill.of(lab) == Bill(4, 2, ["again"], frozenset({"uid-1"}))  # type: ignore[arg-type]
    assert at_work == []
