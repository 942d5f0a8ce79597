"""What Kubeflow's containers insist on is there in both overlays, and is missed when it goes."""

from __future__ import annotations

import pytest

from tests.manifests.conftest import OVERLAYS, Build, whole
from tests.manifests.objects import Cluster, Object, workload
from tests.manifests.required import NAMESPACE, facts, unmet

NEEDS = [(place, need) for place, needs in facts().items() for need in needs]
ONLY = [(place, need["setting"], need["ways"][0]) for place, need in NEEDS if len(need["ways"]) == 1 and "image" not in need["ways"][0]]


def test_every_container_is_given_what_it_needs(overlay: Cluster) -> None:
    assert list(unmet(overlay)) == []


def test_every_need_names_where_it_is_from() -> None:
    assert all(need["source"] and need["setting"] and need["ways"] for _, need in NEEDS)


def test_every_server_of_kubeflow_that_is_kept_was_looked_at(overlay: Cluster) -> None:
    theirs = {work.identity.name for work in overlay.workloads if work.identity.namespace == NAMESPACE and work.is_server}
    theirs -= {work.identity.name for work in overlay.ours}
    assert theirs == {place.partition("/")[0] for place in facts()} | {"mysql"}


def _without(found: Cluster, place: str, way: str, what: str) -> Cluster:
    deployment, _, container_name = place.partition("/")
    items: list[Object] = []
    for item in found.items:
        name = item["metadata"]["name"]
        if (item["kind"], name) in {("Service", what), ("ConfigMap", what.partition("/")[0])}:
            continue
        work = workload(item)
        if work is not None and name == deployment:
            item = {**item, "spec": {**item["spec"], "template": _stripped(item["spec"]["template"], container_name, way, what)}}
        items.append(item)
    return Cluster(items)


def _stripped(template: Object, container_name: str, way: str, what: str) -> Object:
    key, gone = {
        "env": ("env", lambda entry: entry["name"] == what),
        "arg": ("args", lambda entry: entry.partition("=")[0] == what),
        "mount": ("volumeMounts", lambda entry: entry["mountPath"] == what),
    }.get(way, ("env", lambda entry: False))
    containers = [
        {**part, key: [entry for entry in part.get(key, []) if not gone(entry)]} if part["name"] == container_name else part
        for part in template["spec"]["containers"]
    ]
    return {**template, "spec": {**template["spec"], "containers": containers}}


@pytest.mark.parametrize(("place", "setting", "way"), ONLY, ids=lambda value: str(value)[:60])
def test_what_is_taken_away_is_missed(build: Build, place: str, setting: str, way: dict[str, str]) -> None:
    [(kind, what)] = way.items()
    assert any(line.startswith(f"{place}: {setting}") for line in unmet(_without(whole(build, "kind"), place, kind, what)))


@pytest.mark.parametrize("overlay_name", OVERLAYS)
@pytest.mark.parametrize("part", ["HOST", "PORT"])
def test_the_visualization_servers_address_is_missed_with_its_service(build: Build, overlay_name: str, part: str) -> None:
    name = f"ML_PIPELINE_VISUALIZATIONSERVER_SERVICE_{part}"
    place = "ml-pipeline/ml-pipeline-api-server"
    stripped = _without(whole(build, overlay_name), place, "env", name)
    assert [line for line in unmet(stripped) if name in line]
    service: Object = {"kind": "Service", "metadata": {"name": "ml-pipeline-visualizationserver", "namespace": NAMESPACE}}
    assert not list(unmet(Cluster([*stripped.items, service])))


def test_a_container_that_is_gone_is_missed(build: Build) -> None:
    items = [item for item in whole(build, "kind").items if item["metadata"]["name"] != "ml-pipeline-ui"]
    assert "ml-pipeline-ui/ml-pipeline-ui: there is no such container" in list(unmet(Cluster(items)))
