"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the repository, then compiled and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.local import command
from tests.local.command import SHORT

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

STEP = re.compile(
    r"(?:New file `(?P<new>[^`]+)`(?P<empty>, empty)?[^`]*?"
    r"|In `(?P<file>[^`]+)`, (?P<where>below|above|in the place of) `(?P<line>[^`\n]+)`:\n\n"
    r"|Then[^\n]*(?:\n[^\n`]+)*:\n\n)"
    r"(?(empty)|(?:[^`]|`[^`]+`)*?```(?P<kind>\w+)\n(?P<text>.*?)```)",
    re.DOTALL,
)


def follow(title: str, folder: Path) -> int:
    """Do what a recipe says, step by step; how many steps there were."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    section = re.search(rf"^## {title}\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE)
    assert section, f"CONTRIBUTING.md has no section {title!r}"
    steps = list(STEP.finditer(section[1]))
    assert len(steps) == len(re.findall(r"^(?:New file|In `|Then)", section[1], re.MULTILINE)), "a step is not understood"
    for step in steps:
        text = step["text"] or ""
        if step["new"]:
            path = folder / step["new"]
            path.parent.mkdir(parents=True, exist_ok=True)
            assert not path.exists(), path
            path.write_text(text)
        elif step["file"]:
            path, line = folder / step["file"], f"{step['line']}\n"
            before = path.read_text()
            assert f"\n{before}".count(f"\n{line}") == 1, f"{path} has not exactly one line {step['line']!r}"
            put = {"below": line + text, "above": text + line, "in the place of": text}[step["where"]]
            path.write_text(f"\n{before}".replace(f"\n{line}", f"\n{put}")[1:])
        else:
            for words in text.splitlines():
                assert words.startswith("python ")
                done = python(folder, *words.split()[1:])
                assert done.returncode == 0, done.stderr
    return len(steps)


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as far as it is needed."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("components", "pipelines", "images", "tests", "docs", "requirements", ".ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


def checks(folder: Path, *files: str) -> None:
    """The tests that hold packages, options and images together."""
    done = python(folder, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files)
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_stage_an_arm_and_a_method_are_added_as_the_recipes_say(copy: Path, tmp_path: Path) -> None:
    assert follow("Adding a stage", copy) >= 10
    assert follow("Adding a synthesis arm", copy) >= 4
    assert follow("Adding a method", copy) >= 6
    checks(copy, "tests/unit/packages/test_compiled_pipeline.py", "tests/unit/packages/test_layers.py")
    checks(copy, "tests/unit/parameters/test_parameters.py", "tests/unit/images/test_images.py")

    # The stage and the arm, with the smoke profile.
    home = tmp_path / "home"
    settings = ("--set", "synthesis.distraction=true", "--set", "counting.with_answer=true", "--set", "synthesis.suggester_editor=false")
    status, output = command.run(home, *SHORT, *settings, folder=copy)
    assert status == 0, output
    ran = {stage.stage: stage for stage in command.latest(home).stages}
    assert ran["counting"].rows_in == ran["counting"].rows_kept == 40
    ledger = (home / "latest" / "ledger.jsonl").read_text()
    assert '"distraction":' in ledger and "It is a sunny day." in ledger

    # The method, by its profile.
    done = python(copy, "-m", "pipelines", "run", "--profile", "tally", "--home", str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    record = command.latest(home)
    assert record.status == "succeeded" and {stage.stage: stage.rows_kept for stage in record.stages}["counting"] == 40
    page = (home / "latest" / "report.html").read_text()
    assert 'id="rows"' in page and 'id="promotion"' not in page
    for command_line in (["estimate", "--profile", "tally"], ["profiles"], ["run", "--profile", "tally", "--dry-run"]):
        done = python(copy, "-m", "pipelines", *command_line)
        assert (done.returncode == 0) == ("--dry-run" not in command_line), done.stderr
    assert "whose method asks a teacher" in done.stderr
