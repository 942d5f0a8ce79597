"""Argo CD and Flux apply the layers in their order, wait for health in between, and prune nothing that holds data."""

from __future__ import annotations

import pytest

from tests.manifests import kustomize
from tests.manifests.conftest import LAYERS, OVERLAYS, Build, whole
from tests.manifests.objects import Object, identify

ROOT = kustomize.MANIFESTS.parent
SYNC_WAVE = "argocd.argoproj.io/sync-wave"
REPOSITORY = "https://git.example.com/tutorloop.git"
HOOK = "argocd.argoproj.io/hook"


def _layer(path: str) -> str:
    return path.rpartition("/")[2]


@pytest.fixture(scope="session")
def applications(build: Build) -> dict[str, Object]:
    """Argo CD's application of each layer."""
    return {_layer(item["spec"]["source"]["path"]): item for item in build("gitops/argocd/apps").of("Application")}


@pytest.fixture(scope="session")
def kustomizations(build: Build) -> dict[str, Object]:
    """Flux's object of each layer."""
    return {_layer(item["spec"]["path"]): item for item in build("gitops/flux").of("Kustomization")}


def test_both_name_every_layer_and_the_folders_exist(applications: dict[str, Object], kustomizations: dict[str, Object]) -> None:
    assert applications.keys() == kustomizations.keys() == set(LAYERS)
    for layer in LAYERS:
        for path in (applications[layer]["spec"]["source"]["path"], kustomizations[layer]["spec"]["path"]):
            assert (ROOT / path / "kustomization.yaml").is_file(), path


def test_argocd_applies_layers_in_waves(applications: dict[str, Object]) -> None:
    waves = [int(applications[layer]["metadata"]["annotations"][SYNC_WAVE]) for layer in LAYERS]
    assert waves == sorted(set(waves))


def test_argocd_is_told_when_a_layer_is_healthy(build: Build) -> None:
    # Without this key it counts an Application as healthy when it exists, and the waves are only a matter of seconds.
    item = build("gitops/argocd").get("ConfigMap", "argocd", "argocd-cm")
    assert item is not None
    assert item["data"].keys() == {"resource.customizations.health.argoproj.io_Application"}


def test_argocd_applies_on_the_server_and_tries_again(applications: dict[str, Object]) -> None:
    for layer, item in applications.items():
        policy = item["spec"]["syncPolicy"]
        assert "ServerSideApply=true" in policy["syncOptions"]
        assert policy["retry"]["limit"] >= 5
        assert policy["retry"]["backoff"]["factor"] >= 2
        assert policy["automated"] == {"prune": layer != "crds", "selfHeal": True}
        assert "finalizers" not in item["metadata"], "deleting an application would delete its layer"


def test_argocds_projects_allow_what_the_layers_hold_and_no_more(build: Build) -> None:
    project = build("gitops/argocd").get("AppProject", "argocd", "tutorloop")
    assert project is not None
    items = [item for overlay in OVERLAYS for layer in LAYERS for item in build(f"overlays/{overlay}/{layer}").items]
    found = {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in items if not identify(item).namespace}
    assert {(entry["group"], entry["kind"]) for entry in project["spec"]["clusterResourceWhitelist"]} == found
    assert {entry["namespace"] for entry in project["spec"]["destinations"]} == {identify(item).namespace for item in items} - {""}


def test_every_layers_application_goes_where_its_project_allows(build: Build) -> None:
    project = build("gitops/argocd").get("AppProject", "argocd", "tutorloop")
    assert project is not None
    allowed = [(entry["server"], entry["namespace"]) for entry in project["spec"]["destinations"]]
    for item in build("gitops/argocd/apps").of("Application"):
        target = item["spec"]["destination"]
        assert (target["server"], target.get("namespace", "")) in allowed, item["metadata"]["name"]


def test_every_application_is_of_a_project_that_is_there(build: Build) -> None:
    bootstrap = build("gitops/argocd")
    [root] = bootstrap.of("Application")
    for item in (root, *build("gitops/argocd/apps").of("Application")):
        project = bootstrap.get("AppProject", "argocd", item["spec"]["project"])
        assert project is not None
        assert project["spec"]["sourceRepos"] == [item["spec"]["source"]["repoURL"]] == [REPOSITORY]
    assert (ROOT / root["spec"]["source"]["path"] / "kustomization.yaml").is_file()
    [writes] = bootstrap.by_identity[identify(bootstrap.get("AppProject", "argocd", "tutorloop-root") or {})]["spec"][
        "namespaceResourceWhitelist"
    ]
    assert writes == {"group": "argoproj.io", "kind": "Application"}


def test_flux_waits_for_each_layer_before_the_next(kustomizations: dict[str, Object]) -> None:
    for layer, before in zip(LAYERS, (None, *LAYERS), strict=False):
        spec = kustomizations[layer]["spec"]
        expected = [{"name": kustomizations[before]["metadata"]["name"]}] if before else []
        assert spec.get("dependsOn", []) == expected
        assert spec["wait"] is True
        assert "healthChecks" not in spec, "ignored beside wait"
        assert "timeout" in spec
        assert "retryInterval" in spec


def test_flux_prunes_and_forces_nothing_by_the_dozen(kustomizations: dict[str, Object]) -> None:
    for layer, item in kustomizations.items():
        assert item["spec"]["force"] is False
        assert item["spec"]["prune"] is (layer != "crds")
        assert item["spec"].get("deletionPolicy") == (None if layer == "schedules" else "Orphan")


def test_flux_reads_from_a_source_that_is_there(build: Build, kustomizations: dict[str, Object]) -> None:
    for item in kustomizations.values():
        source = item["spec"]["sourceRef"]
        assert build("gitops/flux").get(source["kind"], "flux-system", source["name"]) is not None


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_every_job_can_be_made_anew_by_both(build: Build, overlay_name: str) -> None:
    for item in whole(build, overlay_name).of("Job"):
        notes = item["metadata"].get("annotations", {})
        assert notes.get("argocd.argoproj.io/hook-delete-policy") == "BeforeHookCreation", identify(item)
        assert notes.get("kustomize.toolkit.fluxcd.io/force") == "enabled", identify(item)
        # Flux never tries a failed Job again while it is there; one that is gone it applies, that is runs, anew.
        assert 600 <= item["spec"].get("ttlSecondsAfterFinished", 0) <= 7200, identify(item)


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_only_jobs_are_forced(build: Build, overlay_name: str) -> None:
    for item in whole(build, overlay_name).items:
        forced = item["metadata"].get("annotations", {}).get("kustomize.toolkit.fluxcd.io/force")
        assert forced is None or item["kind"] == "Job", identify(item)


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_the_sync_runs_after_its_layer_and_sees_every_change(build: Build, overlay_name: str) -> None:
    found = build(f"overlays/{overlay_name}/schedules")
    job = found.get("Job", "tutorloop", "tutorloop-sync")
    assert job is not None
    assert job["metadata"]["annotations"][HOOK] == "PostSync"
    # Flux runs it again when its pod's spec has changed: the names of what it reads end in a hash of the content.
    maps = [item["metadata"]["name"] for item in found.of("ConfigMap")]
    mounted = {volume["configMap"]["name"] for volume in job["spec"]["template"]["spec"]["volumes"] if "configMap" in volume}
    assert mounted == set(maps)
    assert all(len(name.rpartition("-")[2]) == 10 for name in maps), maps


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_the_store_is_set_up_without_waiting_for_a_model_to_load(build: Build, overlay_name: str) -> None:
    found = build(f"overlays/{overlay_name}/platform")
    waves = {work.identity.name: int(work.controller["metadata"].get("annotations", {}).get(SYNC_WAVE, "0")) for work in found.ours}
    for work in found.ours:
        if any("nvidia.com/gpu" in container["resources"]["limits"] for container in work.containers):
            assert waves[work.identity.name] > waves["minio-setup"], work.identity
    assert waves["minio"] < waves["minio-setup"]


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_hooks_of_earlier_layers_do_not_wait_for_themselves(build: Build, overlay_name: str) -> None:
    # A PreSync Job would wait for a store that is applied after it.
    for layer in ("platform", "pipelines"):
        for item in build(f"overlays/{overlay_name}/{layer}").of("Job"):
            assert item["metadata"]["annotations"][HOOK] == "Sync", identify(item)
