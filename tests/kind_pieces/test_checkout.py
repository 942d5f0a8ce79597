"""The copy of the manifests that a test on a cluster works on: release, secrets, builds, schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.images.table import REPOSITORIES, add_to_table, described, version
from pipelines.kubeflow.packages import read_package
from tests.conftest import ROOT
from tests.kind.deploy import LAYERS, Checkout
from tests.kind.images import main
from tests.manifests import kustomize


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy with a release of its own; where Kubeflow's manifests are not at hand, stand-ins take their place."""
    if kustomize.command() is None:
        pytest.skip("no kustomize: tests/manifests/get_kustomize.sh build/bin gets one")
    folder = tmp_path_factory.mktemp("git")
    table = folder / "images.json"
    for name, repository in REPOSITORIES.items():
        add_to_table(described(name, f"{repository}:{version(name)}"), str(table))
    made = Checkout(kustomize.checkout(folder))
    made.release(table)
    return made


@pytest.fixture
def built(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """The same, ready to be built."""
    program = kustomize.command()
    assert program is not None
    monkeypatch.setenv("KUSTOMIZE", " ".join(program))
    # The copy has the local bases already.
    monkeypatch.delenv("KFP_MANIFESTS", raising=False)
    return checkout


def resources(checkout: Checkout, layer: str) -> list[dict[str, Any]]:
    return [item for item in yaml.load_all(checkout.build(layer), Loader=yaml.CSafeLoader) if item]


def test_every_layer_builds_with_our_released_images(built: Checkout) -> None:
    text = "".join(built.build(layer) for layer in LAYERS)
    assert f"tutorloop/sync-python:{version('sync')}" in text and f"tutorloop/offline-teacher-python:{version('offline-teacher')}" in text
    assert "symbolic" not in text


def test_the_released_package_is_that_of_the_tests_profile(built: Checkout) -> None:
    [package] = (built.overlay / "release" / "packages").glob("orca-math-*.yaml")
    spec, platform = yaml.load_all(package.read_text(), Loader=yaml.CSafeLoader)
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert inputs["sampling"]["defaultValue"]["chunk_size"] == 8
    shipped = [item for item in resources(built, "schedules") if str(item["metadata"]["name"]).startswith("tutorloop-schedules")]
    [schedule] = [yaml.safe_load(text) for text in shipped[0]["data"].values()]
    assert (schedule["pipeline"], schedule["profile"]) == (package.stem, read_package(package).profile), "or every sync would refuse it"
    assert f"tutorloop/trainer-python:{version('trainer')}" in package.read_text()
    assert platform["platforms"]["kubernetes"]


def test_schedules_are_declared_and_taken_away_as_in_git(built: Checkout) -> None:
    def shipped() -> dict[str, str]:
        [found] = [item for item in resources(built, "schedules") if str(item["metadata"]["name"]).startswith("tutorloop-schedules")]
        data = found["data"]
        assert isinstance(data, dict)
        return data

    before = shipped()
    built.declare("often", {"name": "often", "cron": "0 * * * * *"})
    assert yaml.safe_load(shipped()["often.yaml"]) == {"name": "often", "cron": "0 * * * * *"}
    built.declare("often", {"name": "often", "cron": "0 0 0 1 1 *"})
    assert yaml.safe_load(shipped()["often.yaml"])["cron"] == "0 0 0 1 1 *"
    built.declare("often", None)
    assert shipped() == before


def test_the_checkout_that_the_tests_run_from_is_never_changed(tmp_path: Path) -> None:
    def files() -> dict[Path, int]:
        # What Python compiles meanwhile is not copied either.
        found = [path for path in (ROOT / "manifests").rglob("*") if "__pycache__" not in path.parts]
        return {path: path.stat().st_mtime_ns for path in found if path.is_file()}

    before = files()
    made = Checkout.make(tmp_path)
    made.declare("often", {"name": "often"})
    assert files() == before
    assert (made.overlay / "secrets" / "minio-root.env").exists()


def test_the_images_to_bring_along_are_listed(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = kustomize.command()
    assert program is not None
    monkeypatch.setenv("KUSTOMIZE", " ".join(program))
    monkeypatch.setattr(Checkout, "make", classmethod(lambda cls, folder: checkout))
    monkeypatch.delenv("KFP_MANIFESTS", raising=False)
    main([])
    listed = capsys.readouterr().out.splitlines()
    assert any(image.startswith("quay.io/minio/minio:") for image in listed) and not any("tutorloop" in image for image in listed)
    main(["--prefix", "mirror:5000/"])
    pairs = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [first for first, _ in pairs] == listed and all(second.startswith("mirror:5000/") for _, second in pairs)
