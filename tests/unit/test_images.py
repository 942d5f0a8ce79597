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
from components.core.images import AGENTS, GENERATOR, SYNC, TRAINER
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
    for folder in ("components", "images", "pipelines"):
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
        ("components/seeds/options.py", {"agents", "sync"}),
        ("components/sft/options.py", {"trainer", "sync"}),
        ("pipelines/profiles/tiny.yaml", {"sync"}),
        ("pipelines/runner.py", set()),
        ("components/offline_teacher/server.py", {"offline-teacher"}),
        ("components/core/records.py", set(NAMES)),
        ("components/stats/pools.py", {"agents", "trainer", "sampler"}),
        ("components/teacher/prompts/solve.md", {"agents", "sync"}),
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
    package = next(yaml.safe_load_all((COMPILED / "orca_math.yaml").read_text()))
    held = {
        AGENTS: folders("agents"),
        SYNC: folders("sync"),
        TRAINER: folders("trainer"),
        GENERATOR: folders("trainer") & folders("sampler"),
    }
    checked = 0
    for executor in package["deploymentSpec"]["executors"].values():
        container = executor["container"]
        for stage in re.findall(r"from components\.(\w+)", "\n".join(container["command"])):
            checked += 1
            assert stage in held[container["image"]], f"{container['image']} lacks {stage}"
    assert checked > 20


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_all_that_its_modules_import(name: str) -> None:
    held = set(images.context(name))
    for file in held:
        if file.endswith(".py") and file.startswith(("components/", "pipelines/")):
            tree = ast.parse((ROOT / file).read_text())
            # The command line imports a command's work when it is called, and an image has the work of its own commands only.
            nodes = ast.walk(tree) if file.startswith("components/") else iter(tree.body)
            for node in nodes:
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("components", "pipelines"):
                    missing = {path for path in imported(node) if path not in held}
                    assert not missing, f"{file} imports {node.module}"


def imported(node: ast.ImportFrom) -> set[str]:
    """Files that an import needs: the module's, and those of the names that are modules themselves."""
    base = str(node.module).replace(".", "/")
    paths = [f"{base}/{alias.name}.py" for alias in node.names] + [f"{base}.py", f"{base}/__init__.py"]
    return {path for path in paths if (ROOT / path).exists()}


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_a_dockerfile_copies_exists(name: str) -> None:
    for line in (ROOT / images.dockerfile(name)).read_text().replace("\\\n", " ").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


IMPORT_ALL = """
import importlib.metadata, re, sys
copied, lock = sys.argv[1:]
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
sys.argv = ["warm.py", copied, "kfp.dsl.executor_main", "kubernetes.client", "minio", *sys.argv[3:]]
runpy.run_path(copied + "/images/warm.py", run_name="__main__")
del os.environ["_KFP_RUNTIME"]
for name in [name for name in sys.modules if name.split(".")[0] == "kfp"]:
    del sys.modules[name]
import kfp
kfp.Client
import pipelines.cli
assert pipelines.cli.__file__.startswith(copied), pipelines.cli.__file__
"""


def test_the_sync_image_imports_with_nothing_but_its_lock(tmp_path: Path) -> None:
    for file in images.context("sync"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, tmp_path / file)
    # warm.py imports all that lies below; the lock and the like are no modules.
    (tmp_path / "images/lock.txt").write_text((ROOT / "images/sync/requirements.lock").read_text())
    command = [sys.executable, "-c", IMPORT_ALL, str(tmp_path), str(tmp_path / "images/lock.txt")]
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
    with pytest.raises(ParameterError, match="images build sync"):
        resolve(SYNC, found)
    assert resolve(SYNC) == f"tutorloop/sync-python:{images.version('sync')}"


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
    built = [*table(str(tmp_path / "t.json")), Image(name="sync", version=images.version("sync"), reference="s-python:1")]
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
