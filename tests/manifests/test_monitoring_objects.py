"""What watches a cluster is the same everywhere: rules for the operator are those of the files, and Prometheus is given all of them."""

from __future__ import annotations

from typing import Any

from tests.manifests import kustomize
from tests.manifests.conftest import Build
from tests.manifests.objects import Cluster, read_yaml

FOLDER = kustomize.MANIFESTS / "components" / "monitoring"


def _groups_of_the_files() -> dict[str, Any]:
    documents = (read_yaml(path.read_text())[0] for path in sorted((FOLDER / "rules").glob("*.yaml")))
    return {group["name"]: group for document in documents for group in document["groups"]}


def test_the_operators_rules_are_those_of_the_files(build: Build) -> None:
    [item] = build("components/monitoring-operator").of("PrometheusRule")
    assert {group["name"]: group for group in item["spec"]["groups"]} == _groups_of_the_files()


def _mounted(overlay: Cluster) -> dict[str, str]:
    """Path below Prometheus's folder to the file that it finds there."""
    [work] = [work for work in overlay.workloads if work.identity.name == "prometheus"]
    [volume] = [volume for volume in work.pod["volumes"] if "projected" in volume]
    files: dict[str, str] = {}
    for source in volume["projected"]["sources"]:
        part = source["configMap"]
        item = overlay.get("ConfigMap", "tutorloop", part["name"])
        assert item is not None
        for entry in part.get("items") or [{"key": key, "path": key} for key in item["data"]]:
            files[entry["path"]] = item["data"][entry["key"]]
    return files


def test_prometheus_finds_every_rule_where_its_configuration_looks(overlay: Cluster) -> None:
    files = _mounted(overlay)
    assert read_yaml(files["prometheus.yml"])[0]["rule_files"] == ["rules/*.yaml"]
    assert {path for path in files if path.startswith("rules/")} == {f"rules/{path.name}" for path in (FOLDER / "rules").glob("*.yaml")}


def test_prometheus_asks_every_source_of_ours(overlay: Cluster) -> None:
    configuration = read_yaml(_mounted(overlay)["prometheus.yml"])[0]
    targets = {target for job in configuration["scrape_configs"] for part in job.get("static_configs", []) for target in part["targets"]}
    assert any(target.startswith("pushgateway") for target in targets)
    assert any(target.startswith("minio") for target in targets)
    assert any(target.startswith("ml-pipeline.kubeflow") for target in targets)


def test_prometheus_keeps_as_long_as_rules_look_back(overlay: Cluster) -> None:
    [work] = [work for work in overlay.workloads if work.identity.name == "prometheus"]
    [days] = [word.partition("=")[2] for word in work.containers[0]["args"] if word.startswith("--storage.tsdb.retention.time=")]
    assert days.endswith("d")
    assert int(days[:-1]) > 30
