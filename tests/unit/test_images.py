"""What goes into an image decides its version; the table of built images is right or refused; the lock files agree."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from click.testing import CliRunner

from components.core.errors import InputError, ParameterError
from components.core.images import AGENTS, GENERATOR, TRAINER
from pipelines import images
from pipelines.cli import cli
from pipelines.compile import COMPILED
from pipelines.images import Image, add_to_table, read_table, resolve
from tests.conftest import ROOT

NAMES = tuple(images.REPOSITORIES)
PIN = re.compile(r"([A-Za-z0-9_.-]+)==(\S+)")


def folders(name: str) -> set[str]:
    """Folders of components/ that an image holds."""
    return {path.split("/")[1] for path in images.context(name) if path.startswith("components/") and path.count("/") > 1}


def pins(path: Path) -> dict[str, str]:
    """Package to version of a lock file."""
    return {found[1]: found[2] for line in path.read_text().splitlines() if (found := PIN.fullmatch(line))}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what images are made of, to be changed."""
    for folder in ("components", "images"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.whl"))
    monkeypatch.setattr(images, "ROOT", tmp_path)
    return tmp_path


def versions() -> dict[str, str]:
    return {name: images.version(name) for name in NAMES}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("components/sft/stage.py", {"trainer"}),
        ("components/sampling/stage.py", {"trainer", "sampler"}),
        ("components/seeds/stage.py", {"agents"}),
        ("components/offline_teacher/server.py", {"offline-teacher"}),
        ("components/core/records.py", set(NAMES)),
        ("components/teacher/prompts/solve.md", {"agents"}),
        ("images/trainer/requirements.lock", {"trainer"}),
        ("images/trainer/torch-cpu.lock", {"trainer"}),
        ("images/agents/Dockerfile", {"agents"}),
        ("images/install.sh", set(NAMES)),
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


def test_every_stage_is_in_the_image_that_its_component_names() -> None:
    package = yaml.safe_load((COMPILED / "orca_math.yaml").read_text())
    held = {AGENTS: folders("agents"), TRAINER: folders("trainer"), GENERATOR: folders("trainer") & folders("sampler")}
    checked = 0
    for executor in package["deploymentSpec"]["executors"].values():
        container = executor["container"]
        for stage in re.findall(r"from components\.(\w+)", "\n".join(container["command"])):
            checked += 1
            assert stage in held[container["image"]], f"{container['image']} lacks {stage}"
    assert checked > 20


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_all_that_its_modules_import(name: str) -> None:
    held = folders(name)
    for file in images.context(name):
        if file.endswith(".py") and file.startswith("components/"):
            for node in ast.walk(ast.parse((ROOT / file).read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("components."):
                    assert node.module.split(".")[1] in held, f"{file} imports {node.module}"


@pytest.mark.parametrize("lock", ["agents/requirements.lock", "agents/hub.lock", "offline-teacher/requirements.lock"])
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
    for lock in ("agents/requirements.lock", "agents/hub.lock", "trainer/requirements.lock", "offline-teacher/requirements.lock"):
        for package, version in pins(ROOT / "images" / lock).items():
            assert laptop.get(package, version) == version, f"{lock}: {package}"


@pytest.mark.parametrize("lock", ["trainer/torch-cuda.lock", "trainer/torch-cpu.lock", "sampler/requirements.lock"])
def test_torch_is_the_pinned_one_everywhere(lock: str) -> None:
    pinned = pins(ROOT / "requirements/torch.lock")["torch"]
    assert pins(ROOT / "images" / lock)["torch"].split("+")[0] == pinned
    assert pins(ROOT / "images/sampler/requirements.lock")["kfp"] == pins(ROOT / "requirements/laptop.lock")["kfp"]


def table(path: str) -> list[Image]:
    found = [
        Image(name="agents", version=images.version("agents"), reference="registry.test/agents-python@sha256:" + "a" * 64),
        Image(name="trainer", version=images.version("trainer", {"TORCH": "cpu"}), arguments={"TORCH": "cpu"}, reference="t-python:1"),
    ]
    for image in found:
        add_to_table(image, path)
    return found


def test_the_table_is_what_the_compiler_puts_in(tmp_path: Path) -> None:
    path = str(tmp_path / "build/images.json")
    agents, trainer = table(path)
    found = read_table(path)
    assert found.images == [agents, trainer]
    text = resolve(f"{AGENTS} {TRAINER} {GENERATOR}", found)
    assert text == f"{agents.reference} {trainer.reference} {trainer.reference}"
    with pytest.raises(ParameterError, match="images build sampler"):
        resolve(GENERATOR, found, vllm=True)
    sampler = Image(name="sampler", version=images.version("sampler"), reference="s-python:1")
    add_to_table(sampler, path)
    assert resolve(GENERATOR, read_table(path), vllm=True) == "s-python:1"


def test_a_new_build_replaces_its_own_entry_only(tmp_path: Path) -> None:
    path = str(tmp_path / "t.json")
    agents, trainer = table(path)
    add_to_table(Image(name="trainer", version=trainer.version, arguments=trainer.arguments, reference="t-python:2"), path)
    assert [image.reference for image in read_table(path).images] == [agents.reference, "t-python:2"]


def test_a_table_that_the_code_has_overtaken_is_refused(tmp_path: Path, copy: Path) -> None:
    table(str(tmp_path / "t.json"))
    with (copy / "components/sft/stage.py").open("a") as handle:
        handle.write("# changed\n")
    found = read_table(str(tmp_path / "t.json"))
    assert images.reference("agents", found)
    with pytest.raises(
        ParameterError, match="trainer was built from other files; run `tutorloop images build trainer --build-arg TORCH=cpu`"
    ):
        images.reference("trainer", found)


@pytest.mark.parametrize(("content", "message"), [(None, "no table of images"), ("[1]", "not a table of images")])
def test_a_missing_or_broken_table_is_told(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "t.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_table(str(path))


def test_compile_writes_a_package_with_the_built_images(tmp_path: Path) -> None:
    agents, trainer = table(str(tmp_path / "t.json"))
    out = tmp_path / "deep" / "package.yaml"
    done = CliRunner().invoke(cli, ["compile", "--images", str(tmp_path / "t.json"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    package = yaml.safe_load(out.read_text())
    used = {executor["container"]["image"] for executor in package["deploymentSpec"]["executors"].values()}
    assert used == {agents.reference, trainer.reference}


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
