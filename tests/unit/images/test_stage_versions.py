"""A change costs what it changed: which tasks run again follows from what their code imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.images import table as images
from pipelines.images.closure import closure, imported_modules
from pipelines.packages.compile import COMPILED
from tests.conftest import ROOT

PACKAGE = (COMPILED / "orca_math.yaml").read_text()
TRAINERS = {"base_model", "sft", "tune", "sample", "evaluate", "evaluate_champion"}
TEACHERS = {"synthesize", "solve", "judge"}


def functions(package: str = PACKAGE) -> dict[str, tuple[str, str]]:
    """KFP function to its image and source, in a package."""
    spec = next(yaml.load_all(package, Loader=yaml.CSafeLoader))
    containers = [executor["container"] for executor in spec["deploymentSpec"]["executors"].values()]
    return {container["args"][-1]: (container["image"], container["command"][-1]) for container in containers}


EVERY = set(functions())


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what images are made of, to be changed."""
    for folder in ("components", "images", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
    monkeypatch.setattr(images, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("components/report/templates/report.css", {"report"}),
        ("components/report/wording.py", {"report"}),
        ("components/judging/verdicts.py", {"judge"}),
        ("components/promotion/templates/card.md", {"compare", "publish"}),
        ("components/preferences/steps.py", {"build_preferences"}),
        ("components/teacher/prompts/solve.md", {"solve", "synthesize", "preflight"}),
        ("components/sft/stage.py", {"sft"}),
        ("components/student/training/trl_trainers.py", {"sft", "tune"}),
        ("components/evaluation/stage.py", {"evaluate", "evaluate_champion"}),
        ("components/teacher/pacing/sender.py", TEACHERS),
        ("pipelines/control/results.py", {"keep_results"}),
        ("pipelines/methods/orca_math/profiles/tiny.yaml", {"preflight"}),
        # All tasks say how they fare, and so all have this in their closure.
        ("components/core/metrics/telemetry.py", EVERY),
        ("images/trainer/requirements.lock", TRAINERS),
        ("components/offline_teacher/server.py", set()),
        ("components/sft/component.py", set()),
        ("pipelines/cli/main.py", set()),
        ("pipelines/local/runner.py", set()),
        ("images/warm.py", set()),
        ("images/sampler/requirements.lock", set()),
    ],
)
def test_an_edit_moves_exactly_the_stages_whose_code_it_is(copy: Path, changed: str, expected: set[str]) -> None:
    before = functions(images.resolve(PACKAGE))
    with (copy / changed).open("a") as handle:
        handle.write("\n# changed\n")
    after = functions(images.resolve(PACKAGE))
    assert {name for name in EVERY if after[name] != before[name]} == expected


def test_a_comment_in_a_dockerfile_or_another_label_moves_none_and_a_package_of_the_system_moves_all_in_it(copy: Path) -> None:
    before = functions(images.resolve(PACKAGE))
    file = copy / "images/trainer/Dockerfile"
    text = file.read_text()
    file.write_text("# More.\n" + text.replace("TutorLoop trainer", "The trainer of TutorLoop"))
    assert functions(images.resolve(PACKAGE)) == before
    file.write_text(text.replace("USER 65532:65532", "RUN apt-get install --yes gcc\nUSER 65532:65532"))
    after = functions(images.resolve(PACKAGE))
    assert {name for name in EVERY if after[name] != before[name]} == TRAINERS


IMPORTS = """
import importlib, json, os, sys
os.environ["_KFP_RUNTIME"] = "true"
# What takes long to import is imported once: each stage then imports its own in a process of its own.
import torch, transformers, trl, autogen_agentchat.teams, openai, minio, scipy.stats, sklearn.feature_extraction.text
for stage, modules in json.load(sys.stdin).items():
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, stage
        continue
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # A name that is imported from a module need not be a module.
            if not (error.name or "").startswith(("components", "pipelines")):
                raise
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] in ("components", "pipelines")]
    print(json.dumps([stage, [module.__file__ for module in ours if module.__file__]]), flush=True)
    os._exit(0)
"""


def test_no_stage_imports_what_is_not_in_its_closure() -> None:
    roots = {name: sorted(imported_modules(source)) for name, (_, source) in functions().items()}
    done = subprocess.run([sys.executable, "-c", IMPORTS], input=json.dumps(roots), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert set(found) == EVERY
    for name, files in found.items():
        imported = {Path(file).resolve().relative_to(ROOT).as_posix() for file in files}
        missing = imported - set(closure(roots[name], ROOT))
        assert len(imported) > 5 and not missing, f"{name} imports what its version does not depend on: {sorted(missing)}"
