"""A run of the tiny pipeline on the cluster, and the same run again."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.kind.commands import WaitError, wait_until
from tests.kind.kubeflow import ENDED, PIPELINE
from tests.kind.lab import Bill, Lab, probes_of_a_run
from tests.kind.packages import Expected, expected

MODELS = ("M0", "M1", "M2", "M2-control")


@pytest.fixture(scope="module")
def plan(lab: Lab) -> Expected:
    """What a run of the released package has to do."""
    return expected(lab.released())


def test_the_run_carried_out_every_stage(lab: Lab, first_run: str, plan: Expected) -> None:
    executed = lab.kubeflow.executed(first_run)
    assert set(executed) == plan.stages, f"these were carried out: {dict(executed)}"


def test_kubeflow_shows_what_it_is_a_run_of(lab: Lab, first_run: str) -> None:
    pipeline, version = lab.kubeflow.shown(first_run)
    assert pipeline == PIPELINE and version.startswith(f"{PIPELINE}-"), f"it is shown as {pipeline!r}, version {version!r}"


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
def again(lab: Lab, first_run: str) -> tuple[str, str]:
    """Ids of the same run a second and a third time; nothing was paid for in vain.

    The second is measured against the champion that the first has made. It does not move the champion, which would be a gain over
    itself, so that nothing at all is left to do for the third. That one starts when the second is at its last layer: it gets there itself
    minutes later, and until then has nothing to do with it.
    """
    before = Bill.of(lab)
    second = lab.start(lab.released(), "second")

    def near_its_end() -> bool:
        if (state := lab.kubeflow.state(second)) in ENDED:
            raise WaitError(f"the run {second} ended as {state} before it compared its model\n{lab.kubeflow.describe(second)}")
        return bool(lab.kubeflow.pods(second, "evaluate-champion"))

    wait_until("the second run to measure the champion", near_its_end, lab.run_seconds)
    third = lab.start(lab.released(), "third")
    for run in (second, third):
        lab.kubeflow.wait(run, lab.run_seconds)
    assert list(Bill.of(lab).problems_since(before, probes_of_a_run())) == []
    return second, third


def test_a_second_run_does_none_of_the_work_again(lab: Lab, again: tuple[str, str], plan: Expected) -> None:
    executed = set(lab.kubeflow.executed(again[0]))
    assert not executed & plan.work, f"carried out again, though nothing has changed: {sorted(executed & plan.work)}"
    assert executed == plan.always | plan.after_champion
    assert lab.store.record(again[0]).usage.requests == 0


def test_a_run_after_which_nothing_changes_is_served_from_the_cache_wholly(
    lab: Lab, first_run: str, again: tuple[str, str], plan: Expected
) -> None:
    executed = lab.kubeflow.executed(again[1])
    assert set(executed) == plan.always, f"carried out: {dict(executed)}"
    states = Counter(task.state for task in lab.kubeflow.tasks(again[1]))
    # The shards of a loop count once in the plan.
    assert set(states) == {"done", "cached"} and states["cached"] >= plan.tasks, f"of {plan.tasks} tasks: {dict(states)}"
    champion, promotion = lab.store.champion(), lab.store.record(first_run).promotion
    assert champion is not None and champion.generation == 1, f"the champion of {promotion} was moved: {champion}"
    assert list(lab.store.problems_of_record(again[1], MODELS)) == []
