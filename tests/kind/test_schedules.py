"""Retraining managed from Git: a recurring run is declared, changed and taken away, and Kubeflow follows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kind.commands import WaitError, wait_until
from tests.kind.kubeflow import ENDED
from tests.kind.lab import Lab

NAME = "kind-often"
EVERY_MINUTE, ONCE_A_YEAR = "0 * * * * *", "0 0 0 1 1 *"


def declared(lab: Lab, **changes: Any) -> dict[str, Any]:
    """The schedule's declaration."""
    content = {
        "name": NAME,
        "description": "Retraining in a test",
        "pipeline": lab.released().stem,
        "profile": "tiny",
        "parameters": {"seed": 11},
        "cron": EVERY_MINUTE,
        "experiment": "kind",
        "max_concurrency": 1,
        "enabled": True,
        "service_account": "tutorloop-run",
        "version": "",
    }
    return content | changes


def recurring(lab: Lab) -> list[Any]:
    """Kubeflow's recurring runs of the schedule."""

    def ask(client: Any) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            page = client.list_recurring_runs(page_size=100, page_token=token)
            found += page.recurring_runs or []
            token = page.next_page_token or ""
            if not token:
                return found

    return [run for run in lab.kubeflow.call("list recurring runs", ask) if run.display_name == NAME]


def runs_of(lab: Lab, recurring_run: str) -> list[str]:
    """Ids of the newest runs that a recurring run has started."""
    answer = lab.kubeflow.call("list runs", lambda client: client.list_runs(page_size=50, sort_by="created_at desc"))
    return [run.run_id for run in answer.runs or [] if run.recurring_run_id == recurring_run]


def merged(lab: Lab, schedule: dict[str, Any] | None) -> None:
    """Change Git, and let it be applied."""
    lab.deployment.checkout.declare(NAME, schedule)
    lab.deployment.schedules()


@pytest.fixture(scope="module")
def fired(lab: Lab) -> Iterator[tuple[Any, str]]:
    """The recurring run as it was declared first, and a run that it has started and that still goes on."""
    with lab.deployment.without_drift():
        try:
            merged(lab, declared(lab))
            yield running(lab)
        finally:
            over(lab)


def over(lab: Lab) -> None:
    """Let nothing of the schedule go on, also when a test has failed: on a cluster that stays, it would fire each minute for good."""
    left = recurring(lab)
    merged(lab, None)
    lab.started += [run for schedule in left for run in runs_of(lab, schedule.recurring_run_id)]
    lab.end_runs()


def running(lab: Lab) -> tuple[Any, str]:
    """The recurring run, and the run that it starts."""
    [run] = recurring(lab)

    def started() -> str | None:
        for found in runs_of(lab, run.recurring_run_id):
            lab.started.append(found)
            state = lab.kubeflow.state(found)
            if state in ENDED:
                raise WaitError(f"its run {found} has ended already, as {state}\n{lab.kubeflow.describe(found)}")
            if state == "RUNNING":
                return found
        return None

    return run, wait_until("a run of the schedule", started, 300 * lab.deployment.settings.patience, every=5)


def test_it_is_as_declared(fired: tuple[Any, str]) -> None:
    run, _ = fired
    assert run.trigger.cron_schedule.cron == EVERY_MINUTE and str(run.status) == "ENABLED" and run.no_catchup
    assert int(run.max_concurrency) == 1 and run.service_account == "tutorloop-run"
    assert run.runtime_config.parameters["seed"] == 11


def test_the_run_runs_as_the_schedules_account(lab: Lab, fired: tuple[Any, str]) -> None:
    _, started = fired
    pods = wait_until("a pod of the run", lambda: lab.deployment.kubectl.get("pods", "kubeflow", labels=f"pipeline/runid={started}"), 180)
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {"tutorloop-run"}


def test_a_change_in_git_replaces_it_and_leaves_its_runs_alone(lab: Lab, fired: tuple[Any, str]) -> None:
    before, started = fired
    merged(lab, declared(lab, cron=ONCE_A_YEAR, parameters={"seed": 12}))
    [after] = recurring(lab)
    assert after.recurring_run_id != before.recurring_run_id
    assert after.trigger.cron_schedule.cron == ONCE_A_YEAR and after.runtime_config.parameters["seed"] == 12
    assert lab.kubeflow.state(started) == "RUNNING", "a run that was at work did not survive the change"


def test_applying_the_same_again_changes_nothing(lab: Lab, fired: tuple[Any, str]) -> None:
    [before] = recurring(lab)
    lab.deployment.schedules()
    [after] = recurring(lab)
    assert after.recurring_run_id == before.recurring_run_id


def test_removed_from_git_it_is_gone_and_its_run_goes_on(lab: Lab, fired: tuple[Any, str]) -> None:
    _, started = fired
    merged(lab, None)
    assert recurring(lab) == []
    assert lab.kubeflow.state(started) == "RUNNING"
    lab.kubeflow.terminate(started)


def test_the_sync_says_so_in_prometheus(lab: Lab, fired: tuple[Any, str]) -> None:
    wait_until(
        "a sync without errors in Prometheus",
        lambda: [series for series in lab.prometheus.query("tutorloop_sync_failed") if series.value == 0],
        120,
    )
    assert lab.prometheus.query("tutorloop_schedule_period_seconds"), "no schedule has a period: its alert could never fire"
