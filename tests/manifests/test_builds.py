"""Every kustomization builds, overlays are patches in layers, and what comes from elsewhere is pinned."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.packages.checks.workflow_size import MAX_WORKFLOW_SIZE
from tests.manifests import kubeflow, kustomize
from tests.manifests.conftest import LAYERS, OVERLAYS, Build
from tests.manifests.objects import CLUSTER_SCOPED, Identity, Object, identify, is_ours, read_yaml

REMOTE_BASES = {"cluster-scoped-resources", "env/platform-agnostic", "env/cert-manager/platform-agnostic-k8s-native"}
"""Of kubeflow/pipelines' manifests/kustomize."""

NEVER_PRUNED = {"Namespace", "CustomResourceDefinition", "PersistentVolumeClaim", "Pipeline", "PipelineVersion"}


COMPONENTS = [folder for folder in kustomize.folders() if kustomize.is_component(kustomize.MANIFESTS / folder)]
BUILT = [folder for folder in kustomize.folders() if folder not in COMPONENTS]


@pytest.mark.parametrize("folder", BUILT)
def test_it_builds(build: Build, folder: str) -> None:
    build(folder)


def test_every_component_is_part_of_something_that_builds() -> None:
    used = set()
    for folder in kustomize.folders():
        here = kustomize.MANIFESTS / folder
        for entry in read_yaml((here / "kustomization.yaml").read_text())[0].get("components") or []:
            used.add(str((here / entry).resolve().relative_to(kustomize.MANIFESTS)))
    assert used == set(COMPONENTS)


def test_remote_bases_are_the_pinned_ones() -> None:
    found = kustomize.remote_references(kustomize.MANIFESTS)
    matches = {address: kustomize.REMOTE.fullmatch(address) for address in found}
    assert all(matches.values()), f"not an address that a test knows: {[address for address, match in matches.items() if not match]}"
    assert {match["path"] for match in matches.values() if match} == REMOTE_BASES
    assert {match["ref"] for match in matches.values() if match} == {kubeflow.RELEASE}


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_layers_make_up_the_overlay(build: Build, overlay_name: str) -> None:
    layers = [identify(item) for layer in LAYERS for item in build(f"overlays/{overlay_name}/{layer}").items]
    twice = [str(name) for name, count in Counter(layers).items() if count > 1]
    assert not twice, f"in more than one layer: {twice}"
    assert set(layers) == set(build(f"overlays/{overlay_name}").by_identity)


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_definitions_and_namespaces_come_first(build: Build, overlay_name: str) -> None:
    first = build(f"overlays/{overlay_name}/crds")
    for layer in LAYERS[1:]:
        late = [str(identify(item)) for item in build(f"overlays/{overlay_name}/{layer}").of("CustomResourceDefinition", "Namespace")]
        assert not late, f"{layer} has {late}"
    assert {item["metadata"]["name"] for item in first.of("Namespace")} == {"tutorloop", "kubeflow"}


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_every_object_has_its_namespace(build: Build, overlay_name: str) -> None:
    for name in build(f"overlays/{overlay_name}").by_identity:
        assert name.kind in CLUSTER_SCOPED or name.namespace in {"tutorloop", "kubeflow"}, str(name)


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_what_is_not_kubeflows_is_labelled_as_ours(build: Build, overlay_name: str) -> None:
    known = kubeflow.facts()
    theirs = {(key.split()[1], key.split()[3]) for facts in known.values() for key in facts}
    for item in build(f"overlays/{overlay_name}").items:
        assert is_ours(item) or (item["kind"], item["metadata"]["name"]) in theirs, str(identify(item))


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_what_holds_data_is_never_pruned(build: Build, overlay_name: str) -> None:
    for item in build(f"overlays/{overlay_name}").of(*NEVER_PRUNED):
        annotations = item["metadata"].get("annotations", {})
        assert "Prune=false" in annotations.get("argocd.argoproj.io/sync-options", "").split(","), str(identify(item))
        assert annotations.get("kustomize.toolkit.fluxcd.io/prune") == "disabled", str(identify(item))


def _documents(folder: Path) -> Iterator[tuple[Path, Object]]:
    for path in sorted(folder.rglob("*.yaml")):
        for document in read_yaml(path.read_text()):
            if isinstance(document, dict) and "kind" in document and "name" in document.get("metadata", {}):
                yield path, document


def _restated(patch: Any, original: Any, path: str = "") -> Iterator[str]:
    """Leaves that a patch gives as they are already; identity and the names of list entries do not count."""
    if isinstance(patch, dict) and isinstance(original, dict):
        for key, value in patch.items():
            if key in original and key not in ("apiVersion", "kind", "name", "namespace"):
                yield from _restated(value, original[key], f"{path}.{key}")
    elif isinstance(patch, list) and isinstance(original, list):
        names = {entry["name"]: entry for entry in original if isinstance(entry, dict) and "name" in entry}
        for entry in patch:
            if isinstance(entry, dict) and entry.get("name") in names:
                yield from _restated(entry, names[entry["name"]], f"{path}[{entry['name']}]")
    elif patch == original:
        yield path


def _shared() -> dict[tuple[str, str], Object]:
    folders = [kustomize.MANIFESTS / name for name in ("base", "components")]
    return {(item["kind"], item["metadata"]["name"]): item for folder in folders for _, item in _documents(folder) if "spec" in item}


def test_overlays_are_patches_and_never_copies() -> None:
    shared = _shared()
    for path, document in _documents(kustomize.MANIFESTS / "overlays"):
        original = shared.get((document["kind"], document["metadata"]["name"]))
        again = list(_restated(document, original)) if original else []
        assert not again, f"{path.name}: {document['kind']} {document['metadata']['name']} says again what its component says: {again}"


def test_a_copy_is_noticed() -> None:
    original = {"kind": "Deployment", "spec": {"replicas": 1, "containers": [{"name": "a", "image": "b"}, {"name": "c", "image": "d"}]}}
    assert list(_restated(original, original)) == [".spec.replicas", ".spec.containers[a].image", ".spec.containers[c].image"]
    assert not list(_restated({"kind": "Deployment", "spec": {"replicas": 2, "containers": [{"name": "a", "image": "x"}]}}, original))


@pytest.mark.parametrize("base", sorted(REMOTE_BASES))
def test_stand_ins_have_all_objects(tmp_path: Path, base: str) -> None:
    kubeflow.write_stand_ins(base, tmp_path)
    known = kubeflow.facts()[base]
    built = {identify(item) for item in kustomize.build(tmp_path)} if kustomize.command() else set()
    expected = {Identity(kind, "" if namespace == "-" else namespace, name) for _, kind, namespace, name in (key.split() for key in known)}
    assert not built or built == expected


@pytest.mark.skipif("KFP_MANIFESTS" not in os.environ, reason="KFP_MANIFESTS and ARGO_MANIFESTS name no local copies (manifests/build.py)")
def test_stand_ins_know_what_kubeflow_brings(tmp_path: Path) -> None:
    assert kubeflow.describe_bases(tmp_path / "checkout") == kubeflow.facts()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_controller_lets_workflows_be_as_large_as_packages_are_checked_for(build: Build, overlay: str) -> None:
    variables = {
        variable["name"]: variable.get("value")
        for item in build(f"overlays/{overlay}").items
        if (item["kind"], item["metadata"]["name"]) == ("Deployment", "workflow-controller")
        for container in item["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", [])
    }
    assert variables.get("MAX_WORKFLOW_SIZE") == str(MAX_WORKFLOW_SIZE)
