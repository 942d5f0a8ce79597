"""The collector, with a kubectl that fails half of the time: it finds what it can, and hides no failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.kind.cluster import Kubectl
from tests.kind.diagnosis import Collector
from tests.kind_pieces.programs import Programs, script
from tests.support.argo_workflow import ArgoWorkflow

UNRELIABLE = """
import pathlib, sys
line = " ".join(sys.argv[1:])
state = pathlib.Path({folder!r}) / "calls"
number = len(state.read_text()) if state.exists() else 0
state.write_text("x" * (number + 1))
if "--output name" in line:
    print("pod/run-abc-1\\npod/run-abc-2")
elif number % 2:
    sys.stderr.write("Unable to connect to the server: EOF")
    sys.exit(1)
else:
    print("answer to", line)
"""


def test_everything_is_collected(programs: Programs, tmp_path: Path) -> None:
    programs.answers("--output name", out="pod/run-abc\n")
    programs.answers("--output json", out='{"items": []}')
    programs.answers("", out="text\n")
    said = Collector(Kubectl("lab"), tmp_path / "found", "lab").collect()
    assert said == f"logs, events and descriptions are in {tmp_path / 'found'}"
    files = {str(path.relative_to(tmp_path / "found")) for path in (tmp_path / "found").rglob("*") if path.is_file()}
    for namespace in ("kubeflow", "tutorloop"):
        assert files >= {f"{namespace}/{name}" for name in ("events.txt", "objects.txt", "logs/run-abc.txt", "workflows.argoproj.io.yaml")}
    calls = programs.calls()
    assert any(call.startswith("kind export logs") and call.endswith("--name lab") for call in calls)
    assert not any("secret" in call for call in calls)


def test_the_last_words_of_a_driver_that_failed_are_printed(programs: Programs, tmp_path: Path) -> None:
    workflow, well = ArgoWorkflow("r"), ArgoWorkflow("well")
    pod = workflow.driver("tune-driver", workflow.root, "Failed", "exit code 1", container=True, shown="Train M2")
    workflow.end("Failed")
    well.end("Succeeded")
    programs.answers(
        "get workflows.argoproj.io --namespace kubeflow --sort-by", out=json.dumps({"items": [workflow.object(), well.object()]})
    )
    programs.answers(f"logs {pod}", out="F1201 02:00:00.000000       1 main.go:68] KFP driver: no artifact of that name\n")
    said = Collector(Kubectl("lab"), tmp_path / "found").collect()
    assert "the driver of Train M2 failed" in said and "KFP driver: no artifact of that name" in said and well.name not in said
    assert "no artifact of that name" in (tmp_path / "found" / "failed-runs.txt").read_text()


def test_half_of_it_failing_keeps_the_other_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "kubectl", UNRELIABLE.format(folder=str(tmp_path)))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    collector = Collector(Kubectl("lab"), tmp_path / "found")
    said = collector.collect()
    found = [path for path in (tmp_path / "found").rglob("*.txt") if path.name != "failures.txt"]
    assert len(found) >= 5 and collector.failures
    assert f"{len(collector.failures)} things could not be had" in said
    assert "Unable to connect" in (tmp_path / "found" / "failures.txt").read_text()


def test_without_kubectl_and_without_a_folder_it_still_says_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found").write_text("a file where the folder should be")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "things could not be had" in Collector(Kubectl("lab"), tmp_path / "found", "lab").collect()


FAILING = """
import pytest
from pathlib import Path
from tests.kind import conftest
from tests.kind.cluster import Kubectl
from tests.kind.settings import Settings
from tests.kind.conftest import pytest_runtest_makereport

@pytest.fixture(scope="session")
def broken():
    conftest._clusters.append((Kubectl("lab"), Settings(folder=Path({folder!r}), context="lab")))
    raise ValueError("the cause in the fixture")

def test_it(broken): ...

def test_that():
    raise ValueError("the cause in the test")
"""


def test_the_original_failure_is_what_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "kubectl", UNRELIABLE.format(folder=str(tmp_path)))
    file = tmp_path / "test_failing.py"
    file.write_text(FAILING.format(folder=str(tmp_path / "found")))
    # The hook must be a plugin's: a test file's own is not called.
    (tmp_path / "conftest.py").write_text("from tests.kind.conftest import pytest_runtest_makereport\n")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-q", str(file)],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert "the cause in the fixture" in ended.stdout and "the cause in the test" in ended.stdout
    assert f"are in {tmp_path / 'found' / 'test_it-setup'}" in ended.stdout
    found = {path.name for path in (tmp_path / "found" / "test_that-call").rglob("*.txt")}
    assert found - {"failures.txt"}, "of the second failure nothing was collected"
