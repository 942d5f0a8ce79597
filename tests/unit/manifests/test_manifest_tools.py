"""The programs among the manifests: building with local copies, making secrets, the operator's rules."""

from __future__ import annotations

import importlib.util
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.conftest import ROOT

MANIFESTS = ROOT / "manifests"
FAKE_KUSTOMIZE = "import pathlib, sys; [print(path.read_text()) for path in sorted(pathlib.Path(sys.argv[1]).rglob('kustomization.yaml'))]"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return _load(MANIFESTS / "build.py")


@pytest.fixture(scope="module")
def make_secrets() -> ModuleType:
    return _load(MANIFESTS / "overlays" / "kind" / "secrets" / "make_secrets.py")


def _local_copies(folder: Path) -> dict[str, str]:
    """Something shaped as the two repositories."""
    kubeflow, argo = folder / "pipelines", folder / "argo"
    remote = "https://github.com/argoproj/argo-workflows/manifests/base/workflow-controller?ref=v4.0.5&timeout=60s"
    for path, resource in (
        (kubeflow / "env" / "platform-agnostic", remote),
        (kubeflow / "cluster-scoped-resources", "crd.yaml"),
        (argo / "base" / "workflow-controller", "controller.yaml"),
    ):
        path.mkdir(parents=True)
        (path / "kustomization.yaml").write_text(f"resources: [{resource}]\n")
    # Prints what it is given, so that no kustomize is needed to see which addresses are left.
    return {"KFP_MANIFESTS": str(kubeflow), "ARGO_MANIFESTS": str(argo), "KUSTOMIZE": f'{sys.executable} -c "{FAKE_KUSTOMIZE}"'}


def test_local_copies_take_the_place_of_every_address(build: ModuleType, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "manifests"
    copy.parent.mkdir()
    subprocess.run(["cp", "-r", str(MANIFESTS), str(copy)], check=True)
    build.use_local_copies(copy, _local_copies(tmp_path))
    for path in copy.parent.rglob("kustomization.yaml"):
        assert "github.com" not in path.read_text(), path
    [resource] = yaml.safe_load((copy / "components" / "kubeflow" / "upstream" / "kustomization.yaml").read_text())["resources"]
    [further] = yaml.safe_load((copy / "components/kubeflow/upstream" / resource / "kustomization.yaml").read_text())["resources"]
    assert (copy / "components/kubeflow/upstream" / resource / further / "kustomization.yaml").is_file()


def test_the_manifests_themselves_stay_as_they_are(build: ModuleType, tmp_path: Path) -> None:
    before = (MANIFESTS / "components" / "kubeflow" / "upstream" / "kustomization.yaml").read_text()
    assert "github.com" in before
    assert "github.com" not in build.build("components/kubeflow/upstream", _local_copies(tmp_path))
    assert (MANIFESTS / "components" / "kubeflow" / "upstream" / "kustomization.yaml").read_text() == before


def test_without_copies_the_addresses_are_kept(build: ModuleType, tmp_path: Path) -> None:
    environment = {"KUSTOMIZE": _local_copies(tmp_path)["KUSTOMIZE"]}
    assert "github.com/kubeflow/pipelines" in build.build("components/kubeflow/upstream", environment)


@pytest.mark.parametrize(("change", "said"), [({"ARGO_MANIFESTS": ""}, "ARGO_MANIFESTS=''"), ({"KFP_MANIFESTS": "/nowhere"}, "/nowhere")])
def test_a_copy_that_is_missing_is_named(build: ModuleType, tmp_path: Path, change: dict[str, str], said: str) -> None:
    with pytest.raises(build.BuildError, match=said):
        build.build("overlays/kind", {**_local_copies(tmp_path), **change})


def test_a_folder_that_is_none_is_named(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match="manifests/overlays/kin holds no kustomization"):
        build.build("overlays/kin", {})


def _values(folder: Path) -> dict[str, dict[str, str]]:
    return {path.stem: dict(line.split("=", 1) for line in path.read_text().splitlines()) for path in folder.glob("*.env")}


def test_secrets_are_made_once_and_fit_together(make_secrets: ModuleType, tmp_path: Path) -> None:
    assert make_secrets.make(tmp_path)
    made = _values(tmp_path)
    assert make_secrets.make(tmp_path) == []
    assert _values(tmp_path) == made
    for user in make_secrets.IN_KUBEFLOW:
        assert made[user]["accesskey"] == made["minio-users"][f"{user.upper()}_ACCESS_KEY"]
        assert made[user]["secretkey"] == made["minio-users"][f"{user.upper()}_SECRET_KEY"]
    everything = [value for values in made.values() for name, value in values.items() if name != "username"]
    assert len(set(everything)) == len(everything) - 2 * len(make_secrets.IN_KUBEFLOW)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


def test_a_user_that_comes_later_gets_keys_and_the_others_keep_theirs(make_secrets: ModuleType, tmp_path: Path) -> None:
    make_secrets.make(tmp_path)
    path = tmp_path / "minio-users.env"
    before = path.read_text()
    path.write_text("".join(line for line in before.splitlines(keepends=True) if "BACKUP" not in line))
    make_secrets.make(tmp_path)
    after = _values(tmp_path)["minio-users"]
    assert "BACKUP_SECRET_KEY" in after
    assert f"STORE_SECRET_KEY={after['STORE_SECRET_KEY']}" in before


def test_secrets_are_made_for_every_file_and_user(make_secrets: ModuleType, tmp_path: Path) -> None:
    make_secrets.make(tmp_path)
    generators = yaml.safe_load((MANIFESTS / "overlays" / "kind" / "secrets" / "kustomization.yaml").read_text())["secretGenerator"]
    assert {name for generator in generators for name in generator["envs"]} == {path.name for path in tmp_path.glob("*.env")}
    users = yaml.safe_load((MANIFESTS / "components" / "minio" / "store.yaml").read_text())["users"]
    assert set(users) == set(make_secrets.USERS)


def test_git_does_not_take_secrets() -> None:
    assert (MANIFESTS / "overlays" / "kind" / "secrets" / ".gitignore").read_text().split() == ["*.env"]


def test_the_operator_gets_the_rules_that_prometheus_gets() -> None:
    generate = _load(MANIFESTS / "components" / "monitoring-operator" / "generate.py")
    assert generate.TARGET.read_text() == generate.render(), "run manifests/components/monitoring-operator/generate.py"


def test_stages_that_reach_the_internet_are_components() -> None:
    path = MANIFESTS / "components" / "internet-egress" / "network.yaml"
    expressions = yaml.safe_load(path.read_text())["spec"]["podSelector"]["matchExpressions"]
    [stages] = [set(item["values"]) for item in expressions if item["key"] == "tutorloop.dev/stage"]
    sources = [*(ROOT / "components").glob("*/component.py"), *(ROOT / "pipelines").glob("*/component.py")]
    names = {name.replace("_", "-") for source in sources for name in re.findall(r"^def (\w+)\(", source.read_text(), re.MULTILINE)}
    assert stages - {"preflight"} <= names
