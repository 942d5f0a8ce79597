"""What the schedules of an overlay name is in that overlay: packages, accounts, buckets; and ConfigMaps are not too large."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.manifests.conftest import OVERLAYS, Build
from tests.manifests.objects import Cluster, identify, read_yaml
from tests.manifests.test_store import BUCKETS

LARGEST = 1_000_000
"""Bytes; the API server takes 1 MiB in all for a ConfigMap."""

FIELDS = {
    "name",
    "description",
    "pipeline",
    "profile",
    "parameters",
    "cron",
    "experiment",
    "max_concurrency",
    "enabled",
    "service_account",
    "version",
}


def _files(found: Cluster, name: str) -> dict[str, str]:
    """Files of a ConfigMap, whose name ends in a hash."""
    [item] = [item for item in found.of("ConfigMap") if item["metadata"]["name"].rpartition("-")[0] == name]
    return dict(item.get("data", {}))


def complaints(found: Cluster) -> list[str]:
    """What schedules name and is not there."""
    packages = _files(found, "tutorloop-packages")
    said = [
        f"{file}: no bucket {uri}"
        for file, text in packages.items()
        for uri in re.findall(r"constant: (s3://\S+)", text)
        if uri.removeprefix("s3://").split("/")[0] not in BUCKETS
    ]
    names = []
    for file, text in _files(found, "tutorloop-schedules").items():
        schedule: dict[str, Any] = read_yaml(text)[0]
        names.append(schedule["name"])
        if f"{schedule['pipeline']}.yaml" not in packages:
            said.append(f"{file}: no package {schedule['pipeline']}.yaml")
        if found.get("ServiceAccount", "kubeflow", schedule["service_account"]) is None:
            said.append(f"{file}: no ServiceAccount {schedule['service_account']}")
        if len(schedule["cron"].split()) != 6:
            said.append(f"{file}: Kubeflow's cron has six fields, seconds first")
        said += [f"{file}: {field} is no field" for field in schedule.keys() - FIELDS]
        if f"{schedule['name']}.yaml" != file:
            said.append(f"{file}: is named {schedule['name']}")
    if len(set(names)) < len(names):
        said.append("two schedules of one name")
    return said


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_schedules_name_what_is_there(build: Build, overlay_name: str) -> None:
    found = build(f"overlays/{overlay_name}")
    assert _files(found, "tutorloop-schedules")
    assert complaints(found) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("pipeline: ", "pipeline: not-"),
        ("service_account: ", "service_account: not-"),
        ("constant: s3://", "constant: s3://not-"),
        ('cron: "0 ', 'cron: "'),
        ("enabled: ", "disabled: true\nenabled: "),
        ("name: ", "name: not-"),
    ],
)
def test_a_schedule_of_something_else_is_noticed(build: Build, old: str, new: str) -> None:
    items = []
    for item in build("overlays/kind").items:
        texts = item.get("data", {}) if item["metadata"]["name"].startswith(("tutorloop-schedules", "tutorloop-packages")) else {}
        changed = {key: text.replace(old, new, 1) for key, text in texts.items()}
        items.append({**item, "data": changed} if texts else item)
    assert complaints(Cluster(items))


@pytest.mark.parametrize("overlay_name", OVERLAYS)
def test_no_map_is_too_large(build: Build, overlay_name: str) -> None:
    for item in build(f"overlays/{overlay_name}").of("ConfigMap"):
        size = sum(len(text.encode()) for text in item.get("data", {}).values())
        assert size < LARGEST, f"{identify(item)}: {size} bytes"
