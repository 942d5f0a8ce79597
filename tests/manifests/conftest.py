"""Builds of the manifests, each made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.manifests import kustomize
from tests.manifests.objects import Cluster
from tests.manifests.run_pods import run_pods
from tests.support.missing import missing

LAYERS = ("crds", "platform", "pipelines", "schedules")
OVERLAYS = ("kind", "production")

Build = Callable[[str], Cluster]


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of manifests/ that builds without a network."""
    if kustomize.command() is None:
        missing("neither kustomize nor kubectl is on the path; tests/manifests/get_kustomize.sh build/bin gets one")
    return kustomize.checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def build(manifests: Path) -> Build:
    """Builds a folder below manifests/, once."""

    @cache
    def built(folder: str) -> Cluster:
        return Cluster(kustomize.build(manifests / folder))

    return built


def whole(build: Build, *overlays: str) -> Cluster:
    """All layers of overlays, and the pods that Kubeflow makes of a run."""
    items = [item for overlay in overlays for layer in LAYERS for item in build(f"overlays/{overlay}/{layer}").items]
    return Cluster([*items, *run_pods()])


OPTIONS = (
    "overlays/kind/crds",
    "base",
    "components/minio",
    "components/monitoring-operator",
    "components/teacher",
    "components/teacher-vllm",
    "components/internet-egress",
    "components/external-secrets",
    "components/kubeflow-native",
    "components/multi-node",
    "overlays/production/schedules",
)
"""What no overlay of ours has, or not together: each reference has to resolve there as well."""


@pytest.fixture(scope="session")
def options(manifests: Path) -> Cluster:
    """A cluster with everything that is optional, and the pods that Kubeflow makes of a run."""
    folder = manifests / "options"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(f"resources: [{', '.join(f'../{name}' for name in OPTIONS)}]\n")
    return Cluster([*kustomize.build(folder), *run_pods()])


@pytest.fixture(scope="session", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, build: Build) -> Cluster:
    """One overlay; see whole."""
    return whole(build, request.param)
