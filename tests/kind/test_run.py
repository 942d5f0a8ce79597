"""A run of the tiny pipeline on the cluster, and the same run again."""

from __future__ import annotations

import pytest

from tests.kind.commands import wait_until
from tests.kind.expected import Tasks
from tests.kind.kubeflow import PIPELINE
from tests.kind.lab import Bill, Lab, probes_of_a_run

MODELS = ("M0", "M1", "M2", "M2-control")


@pytest.fixture(scope="module")
def expected(lab: Lab) -> Tasks:
    """The tasks of the released package."""
    return Tasks.of(lab.released())


def test_the_run_carried_out_every_task(lab: Lab, first_run: str, expected: Tasks) -> None:
    states = {path: task.state for path, task in lab.kubeflow.tasks(first_run).items()}
    assert states == {task.path: "done" for task in expected.all}
    missing = expected.stages - lab.kubeflow.executed(first_run)
    assert not missing, f"of these stages there were too few pods: {dict(missing)}"


def test_kubeflow_shows_pipeline_and_version(lab: Lab, first_run: str) -> None:
    run = lab.kubeflow.call("look at a run", lambda client: client.get_run(first_run))
    reference = run.pipeline_version_reference
    pipeline = lab.kubeflow.call("look at a pipeline", lambda client: client.get_pipeline(reference.pipeline_id))
    assert pipeline.display_name == PIPELINE and reference.pipeline_version_id


def test_its_artifacts_are_in_the_store(lab: Lab, first_run: str) -> None:
    artifacts = lab.store.artifacts(first_run)
    for task, artifact in {"sft": "model", "base-model": "model", "report": "html", "gather": "ledger", "publish": "card"}.items():
        assert artifact in artifacts.get(task, set()), f"{task} left no {artifact}; what is there: {artifacts}"


def test_its_record_and_report_are_complete(lab: Lab, first_run: str) -> None:
    assert list(lab.store.problems_of_record(first_run, MODELS)) == []


def test_its_model_is_the_champion(lab: Lab, first_run: str) -> None:
    champion = lab.store.champion()
    decision = lab.store.record(first_run).promotion
    assert champion is not None, f"there is no champion; the run decided: {decision.get('reason', decision)}"
    files = lab.store.version_files(champion.version)
    assert {"manifest.json", "card.json", "report.html"} <= set(files) and any(name.startswith("model/") for name in files), files


def test_nothing_was_paid_for_and_not_kept(lab: Lab, first_run: str) -> None:
    assert list(Bill.of(lab).twice) == []
    assert lab.store.record(first_run).usage.requests > 0


def test_its_metrics_are_in_prometheus(lab: Lab, first_run: str) -> None:
    wait_until(
        "the end of the run in Prometheus",
        lambda: [series for series in lab.prometheus.query(f'tutorloop_run_failed{{run="{first_run}"}}') if series.value == 0],
        120,
    )
    labels = f'run="{first_run}",pipeline="orca-math-tiny"'
    stages = {series.labels["stage"] for series in lab.prometheus.query(f"tutorloop_stage_seconds{{{labels}}}")}
    assert stages >= {"sft", "sampling", "judging", "evaluation"}, f"only these stages have metrics: {stages}"
    assert lab.prometheus.query(f"tutorloop_accuracy_ratio{{{labels}}}"), "no model has a score"
    assert lab.prometheus.query('tutorloop_last_good_retraining_timestamp_seconds{pipeline="orca-math-tiny"}')


def test_monitoring_is_well(lab: Lab, first_run: str) -> None:
    assert lab.prometheus.unhealthy_targets() == []
    assert lab.prometheus.broken_rules() == []
    firing = lab.prometheus.query('ALERTS{alertname=~"TutorLoop.+",alertstate="firing"}')
    assert [series.labels for series in firing if series.labels.get("run") == first_run] == []


@pytest.fixture(scope="module")
def settled(lab: Lab, first_run: str) -> str:
    """Id of the same run once more: it is measured against the champion that the first one has made."""
    before = Bill.of(lab)
    run = lab.start(lab.released(), "second")
    lab.kubeflow.wait(run, lab.run_seconds)
    assert list(Bill.of(lab).problems_since(before, probes_of_a_run())) == []
    return run


def test_a_second_run_does_none_of_the_work_again(lab: Lab, settled: str, expected: Tasks) -> None:
    executed = set(lab.kubeflow.executed(settled))
    assert not executed & expected.work, f"carried out again, though nothing has changed: {sorted(executed & expected.work)}"
    assert executed <= expected.outside | expected.after_champion
    assert lab.store.record(settled).usage.requests == 0


def test_a_run_after_which_nothing_changes_is_served_from_the_cache_wholly(lab: Lab, settled: str, expected: Tasks) -> None:
    """The second run did not move the champion, which would be a gain over itself: nothing at all is left to do for a third."""
    before, champion = Bill.of(lab), lab.store.champion()
    run = lab.start(lab.released(), "third")
    lab.kubeflow.wait(run, lab.run_seconds)
    states = {path: task.state for path, task in lab.kubeflow.tasks(run).items()}
    assert states == {task.path: "cached" if task.cached else "done" for task in expected.all}
    assert set(lab.kubeflow.executed(run)) == expected.outside
    assert list(Bill.of(lab).problems_since(before, probes_of_a_run())) == []
    assert lab.store.champion() == champion
    assert list(lab.store.problems_of_record(run, MODELS)) == []
