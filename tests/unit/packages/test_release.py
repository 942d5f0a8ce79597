"""What a release writes for an overlay, and packages that are ready for a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from components.core.errors import InputError, ParameterError
from components.core.options import parse_options
from pipelines.images import table as images
from pipelines.images.table import REPOSITORIES, ImageTable, described, table_of
from pipelines.packages.binding import bound
from pipelines.packages.finished import finished_package
from pipelines.packages.release import release
from pipelines.parameters import profile as parameters

DIGEST = "sha256:" + "a" * 64


def table(pushed: bool = True) -> ImageTable:
    return table_of(
        described(name, f"registry.test:5000/{repository}@{DIGEST}" if pushed else f"{repository}:{images.version(name)}")
        for name, repository in REPOSITORIES.items()
    )


def overlay(folder: Path) -> Path:
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("resources: []\n")
    return folder


def written(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder / "release").as_posix(): list(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))
        for path in sorted((folder / "release").rglob("*.yaml"))
    }


def test_a_release_has_images_packages_and_custom_resources(tmp_path: Path) -> None:
    folder = overlay(tmp_path / "production")
    profiles = {name: parameters.load(name) for name in ("tiny", "orca_math_7b")}
    files = release(folder, profiles, table())
    found = written(folder)
    assert {path.relative_to(folder / "release").as_posix() for path in files} == set(found)
    (of_images,) = found["images/kustomization.yaml"]
    assert {image["name"] for image in of_images["images"]} == set(REPOSITORIES.values())
    assert all(image["digest"] == DIGEST and image["newName"].startswith("registry.test:5000/") for image in of_images["images"])
    (of_packages,) = found["packages/kustomization.yaml"]
    assert of_packages["configMapGenerator"][0]["files"] == ["orca-math-7b.yaml", "orca-math-tiny.yaml"]
    for name in ("orca-math-tiny", "orca-math-7b"):
        assert len(found[f"packages/{name}.yaml"]) == 2
        assert ":symbolic" not in (folder / "release" / "packages" / f"{name}.yaml").read_text()
        assert [resource["kind"] for resource in found[f"native/{name}.yaml"]] == ["Pipeline", "PipelineVersion"]


def test_the_same_release_is_the_same_and_an_old_one_goes(tmp_path: Path) -> None:
    folder = overlay(tmp_path / "kind")
    profiles = {"tiny": parameters.load("tiny")}
    release(folder, profiles, table(pushed=False))
    before = {path: path.read_bytes() for path in (folder / "release").rglob("*.yaml")}
    (folder / "release" / "packages" / "old.yaml").write_text("{}")
    release(folder, profiles, table(pushed=False))
    assert {path: path.read_bytes() for path in (folder / "release").rglob("*.yaml")} == before
    (of_images,) = written(folder)["images/kustomization.yaml"]
    assert all(image["newTag"] == images.version(name) for image, name in zip(of_images["images"], sorted(REPOSITORIES), strict=True))


def test_a_release_needs_an_overlay_and_pipelines_with_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an overlay"):
        release(tmp_path, {"tiny": parameters.load("tiny")}, table())
    folder = overlay(tmp_path / "kind")
    with pytest.raises(ParameterError, match="two profiles"):
        release(folder, {"tiny": parameters.load("tiny"), "again": parameters.load("tiny")}, table())
    four = {f"p{number}": parameters.load("tiny", [f"cluster.pipeline=p{number}"]) for number in range(4)}
    with pytest.raises(ParameterError, match="ConfigMap"):
        release(folder, four, table())
    assert not (folder / "release").exists(), "nothing is half written"


def test_a_run_without_arguments_is_a_run_of_the_profile() -> None:
    options = parameters.load("tiny", ["seed=7", "sft.learning_rate=2e-3"])
    spec, platform = yaml.load_all(finished_package(options, table(), profile="tiny"), Loader=yaml.CSafeLoader)
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert all(definition["isOptional"] for definition in inputs.values())
    values = {name: definition["defaultValue"] for name, definition in inputs.items()}
    assert values["sft"]["learning_rate"] == 2e-3 and values["seed"] == 7
    assert platform["platforms"]["kubernetes"]


@pytest.mark.parametrize("profile", parameters.profile_names())
def test_the_form_shows_every_option_and_nothing_that_is_not_for_people(profile: str) -> None:
    options = parameters.load(profile)
    spec = _through_protobuf(finished_package(options, table(), profile=profile))
    shown = {name: definition["defaultValue"] for name, definition in spec["root"]["inputDefinitions"]["parameters"].items()}
    assert set(shown) == {*options.method.sections, "seed"}
    for name, kind in options.method.sections.items():
        given, parsed = shown[name], options.section(kind, name)
        assert parse_options(kind, given, name) == parsed, "what the form shows is what the profile says"
        assert set(given) == {option for option, value in msgspec.to_builtins(parsed).items() if value is not None}


def _through_protobuf(package: str) -> dict[str, Any]:
    """The specification as Kubeflow keeps it and hands it to tasks: every number of a section is one with a fraction."""
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

    kept = json_format.ParseDict(next(yaml.load_all(package, Loader=yaml.CSafeLoader)), PipelineSpec())
    arrived: dict[str, Any] = json_format.MessageToDict(kept)
    [epochs] = {type(arrived["root"]["inputDefinitions"]["parameters"]["sft"]["defaultValue"]["epochs"])}
    assert epochs is float
    return arrived


def test_what_is_not_for_people_is_a_constant() -> None:
    stores = {"responses": "s3://paid", "records": "s3://kept/records"}
    changes = [f"cluster.stores.{name}={uri}" for name, uri in stores.items()]
    spec = next(yaml.load_all(finished_package(parameters.load("tiny", changes), table(), profile="tiny"), Loader=yaml.CSafeLoader))
    assert {name: bound(spec, name) for name in stores} == stores
    assert bound(spec, "profile") == "tiny" and len(bound(spec, "pipeline_digest")) == 64
    assert bound(spec, "models") == "s3://models", "what is not said is as in manifests/"
    assert bound(spec, "shards") == ["0/2", "1/2"]
    left = {
        source.get("componentInputParameter")
        for task in spec["root"]["dag"]["tasks"].values()
        for source in task["inputs"]["parameters"].values()
    }
    assert left - {None} <= set(spec["root"]["inputDefinitions"]["parameters"]), "no task names a parameter that is gone"


def test_the_digest_of_a_package_follows_from_its_images(tmp_path: Path) -> None:
    options = parameters.load("tiny")
    digests = []
    for pushed in (True, False, True):
        spec = next(yaml.load_all(finished_package(options, table(pushed), profile="tiny"), Loader=yaml.CSafeLoader))
        digests.append(bound(spec, "pipeline_digest"))
    assert digests[0] == digests[2] != digests[1]


def test_a_finished_package_loads_and_takes_the_arguments_of_a_run(tmp_path: Path) -> None:
    from kfp import components

    loaded = components.load_component_from_text(finished_package(parameters.load("tiny"), table(), profile="tiny"))
    assert set(parameters.run_arguments(parameters.load("tiny"))) == set(loaded.component_spec.inputs or {})
