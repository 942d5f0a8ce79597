"""What goes into an image decides its version; the table of built images is right or refused; the lock files agree."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from components.core.errors import InputError, ParameterError
from components.core.images import AGENTS, GENERATOR, SYNC, TRAINER
from pipelines.cli.main import cli
from pipelines.images import table as images
from pipelines.images.closure import closure, imported_modules
from pipelines.images.table import Image, add_to_table, described, read_table, reference
from pipelines.packages.compile import COMPILED
from tests.conftest import ROOT

NAMES = tuple(images.REPOSITORIES)
SEEDS, SFT, TUNING = ([f"components.{stage}.stage"] for stage in ("seeds", "sft", "preference_tuning"))
PIN = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)")


def pins(path: Path) -> dict[str, str]:
    """Package to version of a lock file."""
    return {found[1]: found[2] for line in path.read_text().splitlines() if (found := PIN.fullmatch(line))}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what images are made of, to be changed."""
    for folder in ("components", "images", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
    monkeypatch.setattr(images, "ROOT", tmp_path)
    return tmp_path


def edit(path: Path) -> None:
    with path.open("a") as handle:
        handle.write("\n# changed\n")


def versions() -> dict[str, str]:
    return {name: images.version(name) for name in NAMES}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("components/sft/stage.py", {"trainer", "sync"}),
        ("components/sampling/stage.py", {"trainer", "sampler", "sync"}),
        ("components/seeds/stage.py", {"agents", "sync"}),
        ("components/seeds/options.py", {"agents", "sync"}),
        ("components/sft/options.py", {"trainer", "sync"}),
        ("pipelines/methods/orca_math/profiles/tiny.yaml", {"sync"}),
        ("pipelines/local/runner.py", {"sync"}),
        ("components/offline_teacher/server.py", {"offline-teacher", "sync"}),
        ("components/core/records.py", set(NAMES)),
        ("components/stats/pools.py", {"agents", "trainer", "sampler", "sync"}),
        ("components/teacher/prompts/solve.md", {"agents", "sync"}),
        ("images/trainer/requirements.lock", {"trainer"}),
        ("images/trainer/torch-cpu.lock", {"trainer"}),
        ("images/agents/Dockerfile", {"agents"}),
        ("images/install.sh", set(NAMES)),
        ("images/slim.py", set(NAMES) - {"sampler"}),
        ("components/sft/component.py", set()),
        ("images/lock.py", set()),
        ("images/wheelhouse/README.md", set()),
    ],
)
def test_a_change_moves_exactly_the_images_that_hold_it(copy: Path, changed: str, expected: set[str]) -> None:
    before = versions()
    with (copy / changed).open("a") as handle:
        handle.write("\n# changed\n")
    after = versions()
    assert {name for name in NAMES if after[name] != before[name]} == expected


def test_a_new_file_moves_the_version_and_a_cache_does_not(copy: Path) -> None:
    before = versions()
    (copy / "components/sft/__pycache__").mkdir()
    (copy / "components/sft/__pycache__/stage.pyc").write_bytes(b"x")
    assert versions() == before
    (copy / "components/sft/more.py").write_text("")
    assert images.version("trainer") != before["trainer"]


def test_build_arguments_count_and_unknown_ones_are_refused() -> None:
    assert images.version("trainer", {"TORCH": "cpu"}) != images.version("trainer")
    assert images.version("trainer", {"TORCH": "cuda"}) == images.version("trainer")
    with pytest.raises(ParameterError, match=r"TORHC(.|\n)*BASE_IMAGE, TORCH"):
        images.version("trainer", {"TORHC": "cpu"})


IMAGES_OF = {AGENTS: ("agents",), SYNC: ("sync",), TRAINER: ("trainer",), GENERATOR: ("trainer", "sampler")}


def test_an_image_holds_all_that_its_stages_need() -> None:
    package = next(yaml.load_all((COMPILED / "orca_math.yaml").read_text(), Loader=yaml.CSafeLoader))
    needed = {"offline-teacher": set(closure(["components.offline_teacher.__main__"], ROOT))}
    for executor in package["deploymentSpec"]["executors"].values():
        for name in IMAGES_OF[executor["container"]["image"]]:
            needed.setdefault(name, set()).update(closure(imported_modules(executor["container"]["command"][-1]), ROOT))
    assert set(needed) == set(NAMES)
    for name, files in needed.items():
        held = set(images.context(name))
        # The engine says which module generates, and this image holds both.
        assert len(files) > 20 and not files - held, f"{name} lacks {sorted(files - held)}"


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_a_dockerfile_copies_exists(name: str) -> None:
    for line in (ROOT / images.dockerfile(name)).read_text().replace("\\\n", " ").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


IMPORT_ALL = """
import importlib.metadata, re, sys
copied, lock, *modules = sys.argv[1:]
normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
locked = {normal(line.split("==")[0]) for line in open(lock) if "==" in line}
owners = importlib.metadata.packages_distributions()
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top in owners and top not in ("components", "pipelines") and not {normal(owner) for owner in owners[top]} & locked:
            raise ModuleNotFoundError(f"{name}: not in the lock", name=name)
sys.meta_path.insert(0, Refuse())
import os, runpy
sys.argv = ["warm.py", copied, *modules]
runpy.run_path(copied + "/images/warm.py", run_name="__main__")
del os.environ["_KFP_RUNTIME"]
for name in [name for name in sys.modules if name.split(".")[0] == "kfp"]:
    del sys.modules[name]
import kfp
kfp.Client
import pipelines.cli.main
assert pipelines.cli.main.__file__.startswith(copied), pipelines.cli.main.__file__
"""


def test_the_sync_image_imports_with_nothing_but_its_lock(tmp_path: Path) -> None:
    for file in images.context("sync"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, tmp_path / file)
    (tmp_path / "images/lock.txt").write_text((ROOT / "images/sync/requirements.lock").read_text())
    imported_there = re.search(r"/warm\.py /opt/tutorloop ((?:[\w.]+|\\\n|\s)+)", (ROOT / "images/sync/Dockerfile").read_text())
    assert imported_there
    modules = imported_there[1].replace("\\", " ").split()
    command = [sys.executable, "-c", IMPORT_ALL, str(tmp_path), str(tmp_path / "images/lock.txt"), *modules]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "lock", ["agents/requirements.lock", "agents/hub.lock", "offline-teacher/requirements.lock", "sync/requirements.lock"]
)
def test_torch_stays_out_of_the_other_images(lock: str) -> None:
    assert not {"torch", "transformers", "trl", "peft", "vllm"} & set(pins(ROOT / "images" / lock))


@pytest.fixture(scope="module")
def lock_tool() -> ModuleType:
    """images/lock.py, which is no package."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "images" / "lock.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_locks_hold_what_this_environment_has(lock_tool: ModuleType) -> None:
    """So that a stage computes the same in its image and as a process."""
    for lock in lock_tool.FROM_ENVIRONMENT:
        assert (ROOT / "images" / lock).read_text() == lock_tool.from_environment(lock), "run `python images/lock.py` and commit the result"


def test_the_laptop_has_the_same_versions() -> None:
    laptop = pins(ROOT / "requirements/laptop.lock")
    for lock in sorted(ROOT.glob("images/*/*.lock")):
        if lock.parent.name == "sampler" or lock.name.startswith("torch"):
            continue
        for package, version in pins(lock).items():
            assert laptop.get(package, version) == version, f"{lock}: {package}"


@pytest.mark.parametrize("lock", ["trainer/torch-cuda.lock", "trainer/torch-cpu.lock", "sampler/requirements.lock"])
def test_torch_is_the_pinned_one_everywhere(lock: str) -> None:
    pinned = pins(ROOT / "requirements/torch.lock")["torch"]
    assert pins(ROOT / "images" / lock)["torch"].split("+")[0] == pinned
    assert pins(ROOT / "images/sampler/requirements.lock")["kfp"] == pins(ROOT / "requirements/laptop.lock")["kfp"]


def table(path: str) -> list[Image]:
    found = [
        described("agents", "registry.test/agents-python@sha256:" + "a" * 64),
        described("trainer", "t-python:1", {"TORCH": "cpu"}),
    ]
    for image in found:
        add_to_table(image, path)
    return found


def test_a_table_is_refused_where_it_lacks_what_a_stage_needs(tmp_path: Path, copy: Path) -> None:
    path = str(tmp_path / "t.json")
    agents, trainer = table(path)
    assert read_table(path).images == [agents, trainer]
    assert reference("trainer", SFT, read_table(path)) == "t-python:1"
    with pytest.raises(ParameterError, match="images build sampler"):
        reference("sampler", SFT, read_table(path))
    edit(copy / "components/sft/stage.py")
    assert reference("agents", SEEDS, read_table(path)) == agents.reference
    with pytest.raises(ParameterError, match="run `tutorloop images build trainer --build-arg TORCH=cpu`"):
        reference("trainer", SFT, read_table(path))


def test_a_stage_goes_on_naming_the_first_image_that_has_it(tmp_path: Path, copy: Path) -> None:
    path = str(tmp_path / "t.json")
    _, first = table(path)

    def named() -> list[str]:
        return [reference("trainer", modules, read_table(path)) for modules in (SFT, TUNING)]

    edit(copy / "components/preference_tuning/data.py")
    second = described("trainer", "t-python:2", {"TORCH": "cpu"})
    add_to_table(second, path)
    assert named() == ["t-python:1", "t-python:2"]
    assert read_table(path).newest["trainer"] == second, "what a cluster's manifests name"
    shutil.copy2(ROOT / "components/preference_tuning/data.py", copy / "components/preference_tuning/data.py")
    add_to_table(msgspec.structs.replace(first, reference="t-python:1b"), path)
    assert named() == ["t-python:1b", "t-python:1b"], "the edit was taken back, and the image built again"
    assert read_table(path).newest["trainer"].reference == "t-python:1b"
    edit(copy / "images/trainer/requirements.lock")
    add_to_table(described("trainer", "t-python:3", {"TORCH": "cpu"}), path)
    assert named() == ["t-python:3", "t-python:3"]
    add_to_table(described("trainer", "t-python:4"), path)
    assert named() == ["t-python:4", "t-python:4"], "built for GPUs now"


def test_an_image_that_is_gone_is_forgotten(tmp_path: Path, copy: Path) -> None:
    path = str(tmp_path / "t.json")
    table(path)
    edit(copy / "components/preference_tuning/data.py")
    add_to_table(described("trainer", "t-python:2", {"TORCH": "cpu"}), path, lambda reference: reference != "t-python:1")
    assert reference("trainer", SFT, read_table(path)) == "t-python:2"


@pytest.mark.parametrize(("content", "message"), [(None, "no table of images"), ("[1]", "not a table of images")])
def test_a_missing_or_broken_table_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(str(path))


def test_compile_writes_a_package_with_the_built_images(tmp_path: Path) -> None:
    built = [*table(str(tmp_path / "t.json")), described("sync", "s-python:1")]
    add_to_table(built[-1], str(tmp_path / "t.json"))
    out = tmp_path / "deep" / "package.yaml"
    done = CliRunner().invoke(cli, ["compile", "--images", str(tmp_path / "t.json"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    package = next(yaml.safe_load_all(out.read_text()))
    used = {executor["container"]["image"] for executor in package["deploymentSpec"]["executors"].values()}
    assert used == {image.reference for image in built}


def test_an_unknown_build_argument_or_image_is_named() -> None:
    for arguments in (["images", "list", "--build-arg", "TORHC=cpu"], ["images", "build", "trainr"]):
        done = CliRunner().invoke(cli, arguments)
        assert isinstance(done.exception, ParameterError)


@pytest.mark.parametrize("name", NAMES)
def test_dockerfiles_keep_the_rules(name: str) -> None:
    text = (ROOT / images.dockerfile(name)).read_text()
    stages = text.split("\nFROM ")
    assert len(stages) == 3, "two stages"
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", stages[2], re.MULTILINE)
    assert "org.opencontainers.image.version" in stages[2]
    assert "id=ca" in stages[1] and "wheelhouse" in stages[1]
    assert "# syntax" not in text, "it makes BuildKit pull a frontend"
    assert not re.search(r"\b(gcc|build-essential|apt-get)\b", text)


@pytest.mark.parametrize("name", NAMES)
def test_dockerfiles_are_clean(name: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed (requirements/dev.lock)")
    done = subprocess.run([hadolint, str(ROOT / images.dockerfile(name))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shell_scripts_are_clean() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck is not installed (requirements/dev.lock)")
    scripts = [*ROOT.glob("images/*.sh"), *ROOT.glob("tests/**/*.sh"), ROOT / ".ci/run"]
    done = subprocess.run([shellcheck, *map(str, scripts)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
