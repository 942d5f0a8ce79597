"""Argo's defaults: how long a finished run stays, which attempts a lost pod has, and no second node of what has none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.packages.compile import compile_profile
from pipelines.parameters.profile import load
from pipelines.parts.cluster import ClusterOptions
from tests.manifests.argo_defaults import defaults_of, merged, name_of, workflow_of
from tests.manifests.conftest import OVERLAYS, Build, whole
from tests.manifests.objects import Cluster, Object, read_yaml
from tests.manifests.package_pods import PACKAGES

BYTES_OF_ETCD = 1_572_864
"""--max-request-bytes of etcd, where nothing else is said."""
BYTES_OF_ARGO = 1_048_576
"""Argo's own limit (workflow/packer/packer.go)."""


def controller(overlay: Cluster) -> Object:
    [found] = [work for work in overlay.workloads if work.identity.name == "workflow-controller"]
    [container] = found.containers
    return container


def test_a_package_says_how_long_a_finished_run_stays(overlay: Cluster) -> None:
    assert defaults_of(overlay)["spec"]["ttlStrategy"].keys() == {"secondsAfterCompletion"}, "Argo asks the others first"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_run_of_a_package_stays_as_long_as_its_profile_says(overlay: Cluster, package: Path) -> None:
    seconds = int(read_yaml(package.read_text())[1]["platforms"]["kubernetes"]["pipelineConfig"]["resourceTtlOnCompletion"])
    assert merged(defaults_of(overlay), workflow_of(package))["spec"]["ttlStrategy"] == {"secondsAfterCompletion": seconds}
    assert seconds >= ClusterOptions().keep_workflow_s


def _strategies(overlay: Cluster, package: Path) -> dict[str, Object | None]:
    """Template to its retry strategy, of those that the workflow has itself."""
    workflow = workflow_of(package)
    own = {template["name"] for template in workflow["spec"]["templates"]}
    spec = merged(defaults_of(overlay), workflow)["spec"]
    assert "templateDefaults" not in spec and "retryStrategy" not in spec, "each driver and graph would get a node more"
    return {template["name"]: template.get("retryStrategy") for template in spec["templates"] if template["name"] in own}


def _check(found: dict[str, Object | None]) -> None:
    for name, strategy in found.items():
        if "retry-" in name:
            assert strategy is not None
            assert strategy.get("retryPolicy") == "Always", f"{name}: a pod that is lost with its node ends the run"
            assert strategy["limit"] == "{{inputs.parameters.retry-max-count}}" and strategy["backoff"]
        else:
            assert strategy is None, name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_whatever_ends_a_task_it_is_tried_again_and_nothing_else_is(overlay: Cluster, package: Path) -> None:
    found = _strategies(overlay, package)
    assert {"system-container-driver", "root"} < found.keys()
    assert any("retry-" in name for name in found)
    _check(found)


@pytest.mark.parametrize("cluster", [{}, {"queue": "gpus"}, {"cost_center": ""}, {"queue": "gpus", "cost_center": ""}], ids=json.dumps)
def test_it_is_whichever_labels_a_profile_gives(build: Build, tmp_path: Path, cluster: Object) -> None:
    out = tmp_path / "package.yaml"
    compile_profile(out, load("tiny", ["rounds=1", f"cluster={json.dumps(cluster)}"]))
    for name in OVERLAYS:
        _check(_strategies(whole(build, name), out))


def test_a_template_without_the_policy_is_noticed(build: Build) -> None:
    found = _strategies(whole(build, "kind"), PACKAGES[0])
    with pytest.raises(AssertionError, match="ends the run"):
        _check({name: strategy and {**strategy, "retryPolicy": "OnFailure"} for name, strategy in found.items()})


def test_a_default_template_that_nobody_uses_is_one_that_argo_takes(overlay: Cluster) -> None:
    for template in defaults_of(overlay)["spec"]["templates"]:
        # Argo checks every template of a workflow: a container must name an image, and those that KFP names have a container as well.
        assert template.keys() == {"name", "retryStrategy", "container"}
        assert template["container"].keys() == {"image", "command"}, "KFP's own container overwrites these two, and would inherit more"


@pytest.mark.parametrize(
    ("settings", "retried", "name"),
    [
        ({}, False, "system-container-impl"),
        ({}, True, "retry-system-container-impl"),
        ({"podMetadata": {"labels": {"a": "b"}}}, True, "metadata-0-1-retry-system-container-impl"),
        ({"podMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d", "e": "f"}}}, False, "metadata-2-1-system-container-impl"),
    ],
)
def test_templates_are_named_as_kfp_does(settings: Object, retried: bool, name: str) -> None:
    assert name_of(settings, retried) == name


def test_defaults_are_merged_as_argo_does() -> None:
    given = {"a": {"b": 1, "c": [1]}, "templates": [{"name": "x", "p": {"q": 1}}, {"name": "y"}]}
    mine = {"a": {"b": 2}, "templates": [{"name": "x", "p": {"r": 2}}, {"name": "z"}]}
    assert merged(given, mine) == {
        "a": {"b": 2, "c": [1]},
        "templates": [{"name": "x", "p": {"q": 1, "r": 2}}, {"name": "z"}, {"name": "y"}],
    }


def test_the_controller_takes_a_production_runs_object_and_looks_often(overlay: Cluster) -> None:
    given = {variable["name"]: variable.get("value") for variable in controller(overlay)["env"]}
    assert BYTES_OF_ARGO < int(given["MAX_WORKFLOW_SIZE"]) < BYTES_OF_ETCD * 0.9, "managedFields come on top, and Argo does not count them"
    assert given["DEFAULT_REQUEUE_TIME"] == "1s"


def test_controller_and_executor_are_of_one_release(overlay: Cluster) -> None:
    container = controller(overlay)
    executor = container["args"][container["args"].index("--executor-image") + 1]
    assert executor.rpartition(":")[2] == container["image"].rpartition(":")[2]
