"""Every object keeps the schema of its kind, on the oldest and the newest Kubernetes that Kubeflow Pipelines 2.17 is tested on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests import kubeflow, schemas
from tests.manifests.conftest import Build
from tests.manifests.objects import Object
from tests.manifests.sample import REMOVED, changed, cluster
from tests.manifests.test_builds import BUILT

BROKEN: list[tuple[str, str, Any]] = [
    ("Deployment", "spec/template/spec/containers/0/imagePullPolicie", "Always"),
    ("Deployment", "spec/template/spec/containers/0/ports/0/containerPort", "8080"),
    ("Deployment", "apiVersion", "apps/v1beta1"),
    ("CronJob", "spec/schedule", REMOVED),
    ("NetworkPolicy", "spec/podSelectors", {}),
    ("ServiceMonitor", "spec/endpoints/0/ports", "web"),
    ("ServiceMonitor", "spec/selector", REMOVED),
    ("ServiceMonitor", "kind", "PodMonitor"),
    ("ConfigMap", "data/number", 5),
]


def _is_kubeflows(item: Object) -> bool:
    return any(f"{item['apiVersion']} {item['kind']} " in key for known in kubeflow.facts().values() for key in known)


@pytest.mark.parametrize("version", schemas.VERSIONS)
def test_every_object_keeps_its_schema(build: Build, version: str) -> None:
    built = [item for folder in BUILT for item in build(folder).items]
    # Custom kinds that come with Kubeflow are its own affair; offline they are only stood in for.
    items = [item for item in built if schemas.is_built_in(item["apiVersion"]) or not _is_kubeflows(item)]
    distinct = {repr(item): item for item in items}.values()
    complaints = [text for item in distinct for text in schemas.complaints(item, version)]
    assert len(distinct) > 50
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("version", schemas.VERSIONS)
@pytest.mark.parametrize(("kind", "path", "value"), BROKEN)
def test_a_broken_schema_is_noticed(version: str, kind: str, path: str, value: Any) -> None:
    assert not [text for item in cluster() for text in schemas.complaints(item, version)]
    assert [text for item in changed(cluster(), kind, path, value) for text in schemas.complaints(item, version)]
