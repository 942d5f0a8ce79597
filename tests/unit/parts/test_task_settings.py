"""What every pod of the compiled pipelines is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import ParameterError
from components.core.images import AGENTS, GENERATOR, SYNC, TRAINER
from pipelines.packages.compile import COMPILED, KEPT, compile_profile
from pipelines.parameters.profile import load
from pipelines.parts.cluster import VARIABLES, parse_cluster

GPU_IMAGES = {TRAINER, GENERATOR}


def executors(path: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Executor to its container and its Kubernetes settings."""
    spec, platform = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name: (executor["container"], settings[name]) for name, executor in spec["deploymentSpec"]["executors"].items()}


def tasks(path: Path) -> dict[str, dict[str, Any]]:
    """Display name to task, of every stage of a package."""
    spec = next(yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader))
    dags = [spec["root"]["dag"], *(component["dag"] for component in spec["components"].values() if "dag" in component)]
    found = {task["taskInfo"]["name"]: task for dag in dags for task in dag["tasks"].values()}
    return {name: task for name, task in found.items() if "executorLabel" in spec["components"][task["componentRef"]["name"]]}


@pytest.fixture(params=KEPT)
def package(request: pytest.FixtureRequest) -> Path:
    return COMPILED / str(request.param)


def test_every_pod_asks_for_what_it_needs_and_ends_in_time(package: Path) -> None:
    for name, (container, settings) in executors(package).items():
        resources = container["resources"]
        assert resources["resourceCpuRequest"] and resources["resourceMemoryRequest"], name
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"], name
        assert int(settings["activeDeadlineSeconds"]) >= 60, name


def test_every_pod_runs_without_root_and_says_whose_it_is(package: Path) -> None:
    pipeline = load(KEPT[package.name]).cluster.pipeline
    for name, (_, settings) in executors(package).items():
        assert settings["securityContext"] == {"runAsUser": "65532", "runAsGroup": "65532", "runAsNonRoot": True}, name
        labels = settings["podMetadata"]["labels"]
        assert labels["tutorloop.dev/pipeline"] == pipeline and labels["tutorloop.dev/stage"] and labels["tutorloop.dev/cost"], name


def test_only_the_stages_of_the_student_have_gpus() -> None:
    with_gpus = {
        container["image"] for container, _ in executors(COMPILED / "orca_math_7b.yaml").values() if "accelerator" in container["resources"]
    }
    assert with_gpus == GPU_IMAGES
    for container, settings in executors(COMPILED / "orca_math_7b.yaml").values():
        wanted = container["resources"].get("accelerator")
        if wanted:
            # KFP drops whole numbers here without a word.
            assert wanted["resourceType"] == "nvidia.com/gpu" and wanted["resourceCount"] in ("1", "8")
            assert settings["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
            assert [mount["mountPath"] for mount in settings["emptyDirMounts"]] == ["/dev/shm"]
        else:
            assert "tolerations" not in settings
    assert not any("accelerator" in container["resources"] for container, _ in executors(COMPILED / "orca_math.yaml").values())


def test_the_trainers_of_the_large_profile_get_shared_memory_and_a_node_of_gpus() -> None:
    found = {name: container["resources"] for name, (container, _) in executors(COMPILED / "orca_math_7b.yaml").items()}
    assert {found[name]["accelerator"]["resourceCount"] for name in found if "sft" in name or "tune" in name} == {"8"}


def secrets_of(settings: dict[str, Any]) -> set[str]:
    return {secret["secretNameParameter"]["runtimeValue"]["constant"] for secret in settings["secretAsEnv"]}


def test_a_pod_gets_the_secrets_it_needs_and_no_others(package: Path) -> None:
    for name, (container, settings) in executors(package).items():
        secrets, image = secrets_of(settings), container["image"]
        asks = any(word in name for word in ("synthesize", "solve", "judge", "preflight"))
        assert ("tutorloop-teacher" in secrets) == asks, name
        assert ("tutorloop-publisher" in secrets) == name.startswith(("exec-publish", "exec-preflight")), name
        fetches = any(word in name for word in ("sources-version", "collect", "base-model"))
        assert ("tutorloop-hub" in secrets) == fetches, name
        assert ("tutorloop-store" in secrets) != ("tutorloop-publisher" in secrets), name
        assert image in (AGENTS, TRAINER, GENERATOR, SYNC)
        # A pod whose Secret is missing would wait for ever: tasks tell what they lack.
        assert all(secret["optional"] for secret in settings["secretAsEnv"]), name


READ_BY = {
    "TUTORLOOP_CACHE_DAYS": ["sources-version"],
    "TUTORLOOP_DATA": ["sources-version", "collect-", "judge", "preflight"],
    "TUTORLOOP_MODEL_STORE": ["base-model", "sft", "tune"],
    "TUTORLOOP_MODEL_STORE_FROM_MB": ["base-model", "sft", "tune"],
    "TUTORLOOP_OFFLINE_TEACHER_URL": ["preflight", "synthesize", "solve", "judge"],
    "TUTORLOOP_RETRAINING_PERIOD_S": ["publish"],
}
"""Variables, and the tasks whose code reads them."""


def test_addresses_and_names_reach_the_pods_that_read_them(package: Path) -> None:
    for name, (_, settings) in executors(package).items():
        (environment,) = settings["configMapAsEnv"]
        given = {key["envVar"] for key in environment["keyToEnv"]}
        assert given >= {"AWS_ENDPOINT_URL", "AWS_REGION", "TUTORLOOP_PUSHGATEWAY", "TUTORLOOP_STORE_PATIENCE_S"}, name
        for variable, words in READ_BY.items():
            assert (variable in given) >= any(word in name for word in words), f"{name} reads {variable}"
        assert given <= set(VARIABLES), name
        assert {field["name"]: field["fieldPath"] for field in settings["fieldPathAsEnv"]} == {
            "TUTORLOOP_RUN": "metadata.labels['pipeline/runid']",
            "TUTORLOOP_PIPELINE": "metadata.labels['tutorloop.dev/pipeline']",
        }, name


def test_every_task_is_tried_again_but_for_the_preflight(package: Path) -> None:
    retry = load(KEPT[package.name]).cluster.retry
    for name, task in tasks(package).items():
        if name == "Preflight":
            assert "retryPolicy" not in task
        else:
            assert task["retryPolicy"]["maxRetryCount"] == retry.times and task["retryPolicy"]["backoffFactor"] == retry.factor, name


def test_only_what_looks_at_the_world_outside_is_not_cached(package: Path) -> None:
    uncached = {name for name, task in tasks(package).items() if not task["cachingOptions"].get("enableCache")}
    assert uncached == {"Preflight", "Version of the sources", "Starting point", "Current champion", "Keep the results"}


def test_settings_of_a_profile_reach_the_pods(tmp_path: Path) -> None:
    cluster = {
        "queue": "gpus",
        "cost_center": "research",
        "deadline_s": 3600,
        "secrets": {"pull": "registry"},
        "pods": {"training": {"gpus": 2, "gpu_type": "amd.com/gpu", "cpu_limit": "8", "node_selector": {"pool": "train"}}},
    }
    out = tmp_path / "p.yaml"
    compile_profile(out, load("tiny", ["rounds=1", f"cluster={json.dumps(cluster)}"]))
    found = executors(out)
    container, settings = found["exec-sft"]
    accelerator = container["resources"]["accelerator"]
    assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("amd.com/gpu", "2")
    assert settings["nodeSelector"]["labels"] == {"pool": "train"} and container["resources"]["resourceCpuLimit"] == "8"
    for name, (_, given) in found.items():
        labels = given["podMetadata"]["labels"]
        assert labels["kueue.x-k8s.io/queue-name"] == "gpus" and labels["tutorloop.dev/cost"] == "research", name
        assert given["imagePullSecret"], name
    platform = list(yaml.safe_load_all(out.read_text()))[1]["platforms"]["kubernetes"]
    assert int(platform["pipelineConfig"]["activeDeadlineSeconds"]) == 3600


def test_models_are_kept_for_one_another_in_a_claim(tmp_path: Path) -> None:
    out = tmp_path / "p.yaml"
    compile_profile(out, load("tiny", ["rounds=1", "cluster.model_cache=models"]))
    mounted = {name for name, (_, settings) in executors(out).items() if "pvcMount" in settings}
    assert "exec-sft" in mounted and "exec-sample" in mounted and "exec-base-model" in mounted and "exec-publish" not in mounted
    container = executors(out)["exec-sft"][0]
    assert {"name": "TUTORLOOP_MODEL_CACHE", "value": "/tutorloop-models"} in container["env"]


@pytest.mark.parametrize("nodes", [2, 8])
def test_a_task_that_lets_nodes_train_has_no_gpus_itself(tmp_path: Path, nodes: int) -> None:
    out = tmp_path / "p.yaml"
    compile_profile(out, load("orca_math_7b", ["rounds=1", f"sft.nodes={nodes}"]))
    resources = {name: container["resources"] for name, (container, _) in executors(out).items()}
    assert "accelerator" not in resources["exec-sft"] and "accelerator" in resources["exec-tune"]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"pods": {"data": {"gpus": 1}}}, "cluster.pods.data.gpus"),
        ({"pods": {"training": {"memory": "8GB"}}}, "cluster.pods.training.memory"),
        ({"pods": {"training": {"memory": 8}}}, "cluster.pods.training.memory"),
        ({"pods": {"training": {"memory": "1.5Gi"}}}, "cluster.pods.training.memory"),
        ({"pods": {"training": {"cpu": "2Gi"}}}, "cluster.pods.training.cpu"),
        ({"pods": {"train": {}}}, "cluster.pods"),
        ({"queue": "not a label"}, "cluster.queue"),
        ({"retry": {"wait": "soon"}}, "cluster.retry.wait"),
        ({"pods": {"training": {"tolerations": [{"effect": "NoSchedule"}]}}}, "cluster.pods.training.tolerations"),
    ],
)
def test_wrong_settings_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named.replace(".", r"\.")):
        parse_cluster(values)
