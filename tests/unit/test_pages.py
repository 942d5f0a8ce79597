"""README and AGENTS.md say what is so: their commands run, their example loads, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.parameters.profile import load
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
AGENTS = (ROOT / "AGENTS.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """The commands of AGENTS.md, without their comments."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", AGENTS, re.DOTALL) for line in block.splitlines()]
    return [line.partition("#")[0].strip() for line in lines]


def test_the_readme_is_short() -> None:
    assert README.count("\n") <= 200


@pytest.mark.parametrize("line", commands())
def test_a_command_for_agents_runs(line: str, tmp_path: Path) -> None:
    words = line.replace(".venv/bin/", f"{Path(sys.executable).parent}/").split()
    environment, folder = {**os.environ, "PYTHONPATH": str(ROOT)}, ROOT
    if words[0] == "make":
        # What sets up the environment is set up: this test runs in it.
        words.insert(1, "--dry-run")
    elif line.endswith(("compile", "options_page")):
        # They write what is committed: in a copy.
        folder = tmp_path
        environment["PYTHONPATH"] = str(tmp_path)
        for name in ("components", "pipelines", "docs"):
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_of_the_readme_is_a_profile(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found
    path = tmp_path / "my.yaml"
    path.write_text(found[1])
    options = load(str(path))
    assert options.method.name == "orca_math" and options.sections["teacher"].max_usd == 20
    assert [source.name for source in options.sections["benchmarks"].sources] == ["mine", "mine-dev"]
    assert not options.method.warnings(options.sections)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:components|pipelines|tests|images|docs|manifests)/[\w./-]+\.\w+)`", text)
    missing = [link for link in links if not (page.parent / link).exists()] + [
        name for name in named if not (ROOT / name).exists() and not (ROOT / "manifests" / name).exists()
    ]
    # The recipes make files of their own.
    assert not [name for name in missing if "counting" not in name and "tally" not in name and "distraction" not in name]
