"""What a run of a released package may be given, by form, program or schedule: what a person chooses, and nothing that is fixed."""

from __future__ import annotations

from typing import Any

import kfp
import kfp_server_api
import pytest

from pipelines.images.table import REPOSITORIES, described, table_of
from pipelines.packages.finished import finished_package
from pipelines.parameters.profile import load, pipeline_arguments, run_arguments
from tests.kubeflow.git import Git
from tests.kubeflow.server import Double

STORES = dict.fromkeys(("responses", "checkpoints", "models", "records"), "s3://elsewhere")
FIXED = sorted(set(pipeline_arguments(load("tiny"), stores=STORES, pipeline_digest="d")) - set(run_arguments(load("tiny"))))


@pytest.fixture(scope="module")
def package() -> str:
    """A package as a release has it."""
    table = table_of(described(name, f"{name}:1") for name in REPOSITORIES)
    return finished_package(load("tiny"), table, profile="tiny")


@pytest.fixture
def client(git: Git, double: Double, package: str) -> kfp.Client:
    """Kubeflow with the package and its schedule."""
    (git.packages / "orca-math-tiny.yaml").write_text(package)
    git.sync(double.url)
    return kfp.Client(host=double.url)


def start(client: kfp.Client, given: dict[str, Any]) -> None:
    """Start a run, once and by schedule."""
    pipeline = client.get_pipeline_id("orca-math-tiny")
    [used] = client.list_pipeline_versions(pipeline).pipeline_versions
    experiment = client.get_experiment(experiment_name="retraining").experiment_id
    ids = {"experiment_id": experiment, "pipeline_id": pipeline, "version_id": used.pipeline_version_id, "params": given}
    client.create_recurring_run(job_name="by-hand", cron_expression="0 0 3 * * 1", **ids)
    client.run_pipeline(job_name="by-hand", **ids)


@pytest.mark.parametrize("given", [{}, {"seed": 3}, {"sft": {"epochs": 1}}, run_arguments(load("tiny", ["sft.epochs=2"]))])
def test_what_a_person_chooses_is_taken(client: kfp.Client, double: Double, given: dict[str, Any]) -> None:
    start(client, given)
    [run] = double.cluster.runs.values()
    [job] = double.cluster.jobs_named("by-hand")
    assert run["runtime_config"]["parameters"] == given == job["runtime_config"]["parameters"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *(({name: "s3://elsewhere"}, f"not required by pipeline: {name}") for name in FIXED),
        ({"rounds": 3}, "not required by pipeline: rounds"),
        ({"seed": "three"}, "seed requires type"),
        ({"seeds": "text"}, "seeds requires type"),
    ],
)
def test_what_is_fixed_or_no_parameter_is_refused(client: kfp.Client, double: Double, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(kfp_server_api.ApiException, match=reason):
        start(client, given)
    assert not double.cluster.runs and not double.cluster.jobs_named("by-hand")


def test_a_schedule_gives_only_what_its_package_takes(client: kfp.Client, double: Double) -> None:
    [job] = double.cluster.jobs_named("weekly")
    assert set(job["runtime_config"]["parameters"]) == set(run_arguments(load("tiny")))
    assert FIXED == ["checkpoints", "data_shards", "models", "pipeline_digest", "profile", "records", "responses", "sampling_shards"]
