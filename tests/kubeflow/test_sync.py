"""``tutorloop sync`` against the double: what it brings about, what it leaves alone, and what it says."""

from __future__ import annotations

from typing import Any

import kfp_server_api
import pytest

from pipelines.images.table import REPOSITORIES, described, table_of
from pipelines.packages.finished import finished_package
from pipelines.parameters.profile import load
from pipelines.sync import wanted
from tests.kubeflow.git import Git
from tests.kubeflow.server import Double


def only(double: Double, name: str = "weekly") -> dict[str, Any]:
    """The one recurring run of a schedule."""
    [job] = double.cluster.jobs_named(name)
    return job


def foreign(double: Double, name: str, description: str = "") -> dict[str, Any]:
    """A recurring run that somebody made by hand."""
    like = next(job for job in double.cluster.jobs.values() if job["no_catchup"])
    kept = ("experiment_id", "pipeline_version_reference", "runtime_config", "trigger", "max_concurrency")
    body = {key: like[key] for key in kept} | {"display_name": name, "description": description, "mode": "ENABLE"}
    return double.cluster.create_job(body)


def test_a_schedule_becomes_a_recurring_run(git: Git, double: Double) -> None:
    git.sync(double.url)
    job = only(double)
    marker = wanted.marker(job["description"])
    assert marker and marker.name == "weekly"
    assert job["description"].endswith("\nWeekly retraining")
    assert (job["status"], job["no_catchup"], job["max_concurrency"]) == ("ENABLED", True, "1")
    assert (job["trigger"], job["service_account"]) == ({"cron_schedule": {"cron": "0 0 3 * * 1"}}, "tutorloop-run")
    given = job["runtime_config"]["parameters"]
    assert (given["seed"], given["sft"]["learning_rate"]) == (1, 1e-3)
    assert given["judging"], "every option is given, with what it has by default"
    assert "pipeline_version_id" not in job["pipeline_version_reference"], "the newest at each firing"
    assert double.cluster.summary()["experiments"] == [("retraining", "AVAILABLE")]
    assert double.cluster.summary()["versions"] == [git.package().version]
    first = next(call for call in double.changes if call[1].endswith("/recurringruns"))
    enabled = next(call for call in double.changes if call[1].endswith(":enable"))
    assert double.changes.index(first) < double.changes.index(enabled), "created disabled"


def test_a_second_sync_only_reads(git: Git, double: Double) -> None:
    git.schedule("paused", enabled=False)
    git.sync(double.url)
    double.forget()
    assert "agrees with 2 schedules and 1 packages" in git.sync(double.url).output
    assert double.calls and not double.changes


def test_a_changed_schedule_is_replaced_and_its_workflows_go_on(git: Git, double: Double) -> None:
    git.sync(double.url)
    old = only(double)["recurring_run_id"]
    double.cluster.tick()
    git.schedule(cron="0 0 4 * * 1", parameters={"seed": 2})
    shown = git.sync(double.url).output
    assert '"0 0 3 * * 1" -> "0 0 4 * * 1"' in shown and "parameters.seed: 1 -> 2" in shown
    assert only(double)["recurring_run_id"] != old and only(double)["status"] == "ENABLED"
    [workflow] = double.cluster.workflows
    assert workflow.recurring_run == old and not workflow.killed and not double.cluster.doubled


def test_the_double_collects_the_workflows_of_a_plain_delete(git: Git, double: Double) -> None:
    git.sync(double.url)
    double.cluster.tick()
    api = kfp_server_api.RecurringRunServiceApi(kfp_server_api.ApiClient(kfp_server_api.Configuration(host=double.url)))
    api.recurring_run_service_delete_recurring_run(only(double)["recurring_run_id"])
    assert double.cluster.workflows[0].killed


@pytest.mark.parametrize("prune", [False, True])
def test_a_schedule_that_is_gone(git: Git, double: Double, prune: bool) -> None:
    git.schedule("gone")
    git.sync(double.url)
    double.cluster.tick()
    (git.schedules / "gone.yaml").unlink()
    options = ["--prune"] if prune else []
    git.sync(double.url, *options)
    jobs = double.cluster.jobs_named("gone")
    assert [job["status"] for job in jobs] == ([] if prune else ["DISABLED"])
    assert not any(workflow.killed for workflow in double.cluster.workflows)
    double.forget()
    git.sync(double.url, *options)
    assert not double.changes


def test_pausing_and_resuming_keep_the_recurring_run(git: Git, double: Double) -> None:
    git.sync(double.url)
    kept = only(double)["recurring_run_id"]
    for enabled, status in ((False, "DISABLED"), (True, "ENABLED")):
        git.schedule(enabled=enabled)
        git.sync(double.url)
        assert (only(double)["recurring_run_id"], only(double)["status"]) == (kept, status)


def newest_run(double: Double) -> str:
    """Name of the version that a firing takes now."""
    double.cluster.tick()
    name: str = double.cluster.versions[double.cluster.workflows[-1].version]["name"]
    return name


def test_a_changed_package_is_what_the_next_firing_runs(git: Git, double: Double) -> None:
    git.sync(double.url)
    kept, first = only(double)["recurring_run_id"], git.package()
    second = git.package(salt="changed")
    git.sync(double.url)
    assert newest_run(double) == second.version and only(double)["recurring_run_id"] == kept
    git.package()
    git.sync(double.url)
    assert newest_run(double) == f"{first.version}-2", "what was there before is uploaded once more to be the newest"
    double.forget()
    git.sync(double.url)
    assert not double.changes


def test_two_versions_of_the_same_second_leave_no_chance(git: Git, double: Double) -> None:
    git.sync(double.url)
    changed = git.package(salt="changed")
    [first] = double.cluster.versions.values()
    first["created_at"] = double.cluster.now
    double.cluster.frozen = True

    def later(number: int, moment: str) -> None:
        if moment == "answered" and double.calls[-1][1].endswith("upload_version"):
            double.cluster.frozen = False

    double.forget()
    double.accident = later
    git.sync(double.url)
    assert {newest_run(double) for _ in range(20)} == {f"{changed.version}-2"}


def test_a_schedule_may_stay_with_a_version(git: Git, double: Double) -> None:
    git.sync(double.url)
    pinned = git.package()
    git.schedule(version=pinned.version)
    git.sync(double.url)
    job = only(double)
    [version] = double.cluster.versions
    assert job["pipeline_version_reference"]["pipeline_version_id"] == version
    git.package(salt="changed")
    git.sync(double.url)
    assert newest_run(double) == pinned.version
    git.schedule(version="no-such-version")
    failed = git.sync(double.url, code=1)
    assert "no version 'no-such-version'" in failed.output and only(double)["status"] == "ENABLED"


def test_a_description_fits_into_kubeflow(git: Git, double: Double) -> None:
    name = "n" * 63
    git.schedule(name, description="d" * 120)
    git.sync(double.url)
    assert only(double, name)["description"].endswith("d" * 120)


def test_what_people_changed_is_set_right(git: Git, double: Double) -> None:
    git.schedule("other", cron="0 0 5 * * *")
    git.sync(double.url)
    expected = double.cluster.summary()

    def disabled() -> None:
        double.cluster.set_mode(only(double)["recurring_run_id"], False)

    def deleted() -> None:
        double.cluster.delete_job(only(double)["recurring_run_id"], "")

    def edited() -> None:
        only(double)["trigger"] = {"cron_schedule": {"cron": "0 0 * * * *"}}

    def reparametrised() -> None:
        only(double)["runtime_config"]["parameters"] = {**only(double)["runtime_config"]["parameters"], "seed": 7}

    def archived() -> None:
        [experiment] = double.cluster.experiments
        double.cluster.archive_experiment(experiment, "ARCHIVED")

    for change in (disabled, deleted, edited, reparametrised, archived):
        change()
        assert double.cluster.summary() != expected
        git.sync(double.url, "--dry-run", "--exit-code", code=3)
        git.sync(double.url)
        assert double.cluster.summary() == expected, change.__name__
    assert not double.cluster.doubled


def test_a_pipeline_or_experiment_that_is_made_anew_is_another(git: Git, double: Double) -> None:
    git.sync(double.url)
    expected = double.cluster.summary()
    for table in (double.cluster.experiments, double.cluster.pipelines, double.cluster.versions):
        table.clear()
    git.sync(double.url)
    assert double.cluster.summary() == expected


def test_a_namespace_is_named_wherever_there_is_one_to_name(git: Git, double: Double) -> None:
    git.sync(double.url, "--namespace", "team")
    # What is below a pipeline or an experiment is in its namespace.
    without = {path.rsplit("/", 1)[-1] for (_, path), named in zip(double.calls, double.namespaces, strict=True) if named != "team"}
    enable = only(double)["recurring_run_id"] + ":enable"
    assert without == {"versions", "upload_version", enable} | {"recurringruns"}
    lists = [named for call, named in zip(double.calls, double.namespaces, strict=True) if call == ("GET", "/apis/v2beta1/recurringruns")]
    assert set(lists) == {"team"}


def test_of_several_that_a_killed_sync_left_one_stays(git: Git, double: Double) -> None:
    git.sync(double.url)
    kept = only(double)
    for _ in range(2):
        copy = foreign(double, "weekly", kept["description"])
        copy.update({key: kept[key] for key in ("no_catchup", "service_account")})
        double.cluster.set_mode(copy["recurring_run_id"], False)
    git.sync(double.url)
    assert only(double)["recurring_run_id"] == kept["recurring_run_id"] and only(double)["status"] == "ENABLED"


def test_recurring_runs_of_others_are_left_alone(git: Git, double: Double) -> None:
    git.sync(double.url)
    others = [
        foreign(double, "weekly"),
        foreign(double, "by-hand", "see managed-by=tutorloop;name=weekly;spec=0123"),
        foreign(double, "of-a-tool", "managed-by=something-else;name=weekly;spec=0123"),
    ]
    before = [dict(job) for job in others]
    git.schedule(cron="0 0 4 * * 1")
    git.sync(double.url, "--prune")
    (git.schedules / "weekly.yaml").unlink()
    git.sync(double.url, "--prune")
    assert [double.cluster.jobs[job["recurring_run_id"]] for job in before] == before
    assert len(double.cluster.jobs) == len(before)


def test_all_pages_are_looked_at(git: Git, double: Double) -> None:
    git.sync(double.url)
    for number in range(250):
        foreign(double, f"by-hand-{number}")
    double.forget()
    git.sync(double.url)
    assert not double.changes
    assert [path for _, path in double.calls].count("/apis/v2beta1/recurringruns") == 3


def test_a_dry_run_shows_everything_and_changes_nothing(git: Git, double: Double) -> None:
    shown = git.sync(double.url, "--dry-run").output
    assert "pipeline orca-math-tiny: create" in shown and "experiment retraining: create" in shown and "weekly: create" in shown
    git.schedule(version=git.package().version)
    assert "weekly: create" in git.sync(double.url, "--dry-run").output, "the version that it stays with is about to be uploaded"
    git.sync(double.url)
    git.schedule("gone")
    git.sync(double.url)
    (git.schedules / "gone.yaml").unlink()
    git.schedule(max_concurrency=2, service_account="")
    git.package(salt="changed")
    double.forget()
    shown = git.sync(double.url, "--dry-run", "--exit-code", code=3).output
    assert "max_concurrency: 1 -> 2" in shown and "gone from Git; --prune would delete it" in shown and "newest: " in shown
    assert double.calls and not double.changes
    git.sync(double.url)
    git.sync(double.url, "--dry-run", "--exit-code")


def test_two_syncs_at_once_agree_on_one(git: Git, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second runs as a whole at each call of the first in turn."""
    git.sync(double.url)
    for number in range(1, 12):
        git.schedule(parameters={"seed": number + 10})
        double.forget()

        def meanwhile(count: int, moment: str, at: int = number) -> None:
            if (count, moment) == (at, "before"):
                double.accident = None
                double.lock.release()
                try:
                    git.sync(double.url)
                finally:
                    double.lock.acquire()

        double.accident = meanwhile
        git.sync(double.url)
        double.accident = None
        git.sync(double.url)
        assert only(double)["status"] == "ENABLED" and not double.cluster.doubled


def test_the_real_package_is_taken(git: Git, double: Double) -> None:
    table = table_of(described(name, f"{name}:1") for name in REPOSITORIES)
    (git.packages / "orca-math-tiny.yaml").write_text(finished_package(load("tiny"), table, profile="tiny"))
    git.schedule()
    git.sync(double.url)
    double.cluster.tick()
    assert len(double.cluster.workflows) == 1


def test_the_sdk_works_with_the_double(git: Git, double: Double) -> None:
    """So that what it refuses and returns is what the SDK knows."""
    import kfp

    git.sync(double.url)
    client = kfp.Client(host=double.url)
    job = only(double)
    listed = client.list_recurring_runs(page_size=1).recurring_runs
    assert [item.recurring_run_id for item in listed] == [job["recurring_run_id"]]
    pipeline = client.get_pipeline_id("orca-math-tiny")
    assert pipeline in double.cluster.pipelines
    versions = client.list_pipeline_versions(pipeline, sort_by="created_at desc").pipeline_versions
    assert [version.display_name for version in versions] == [git.package().version]
    made = client.create_recurring_run(
        client.get_experiment(experiment_name="retraining").experiment_id,
        "by-hand",
        cron_expression="0 0 1 * * *",
        params=job["runtime_config"]["parameters"],
        pipeline_id=pipeline,
        version_id=versions[0].pipeline_version_id,
        enabled=False,
    )
    client.enable_recurring_run(made.recurring_run_id)
    assert client.get_recurring_run(made.recurring_run_id).status == "ENABLED"
    with pytest.raises(kfp_server_api.ApiException, match="already exist"):
        client.upload_pipeline(str(git.packages / "orca-math-tiny.yaml"), "orca-math-tiny")
