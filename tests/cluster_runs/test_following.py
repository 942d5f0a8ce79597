"""Workflows are followed by watches that break, expire and come back: each change is told, once and at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.kubeflow import following
from pipelines.kubeflow.cluster_api import AwayError, Cluster, ClusterError
from pipelines.kubeflow.following import Change, Ended, Event, events, follow
from pipelines.kubeflow.workflow import RUN_LABEL
from tests.support.argo_workflow import ArgoWorkflow
from tests.support.waiting import wait_until
from tests.support.workflows_double import Workflows, serving

RUN = "6f1d2c3b-0000-4000-8000-000000000001"


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workflows]:
    """An API server, and a configuration that leads to it."""
    monkeypatch.setattr(following, "FIRST_WAIT_S", 0.02)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with serving() as served:
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(served.kubeconfig(tmp_path)))
        yield served


class Following:
    """Follows in a thread."""

    def __init__(self, what: Callable[[], Iterator[Event | Change | Ended]]) -> None:
        self.seen: list[Event | Change | Ended] = []
        self.error: Exception | None = None
        self.ended = threading.Event()

        def work() -> None:
            try:
                for item in what():
                    self.seen.append(item)
            except Exception as error:
                self.error = error
            self.ended.set()

        threading.Thread(target=work, daemon=True).start()

    def told(self) -> list[tuple[str, str]]:
        """Tasks and their states, in order."""
        return [(item.task.path, item.task.state) for item in self.seen if isinstance(item, Change)]

    def kinds(self) -> list[str]:
        """Kinds of events, without those of waiting."""
        return [item.kind for item in self.seen if isinstance(item, Event) and item.kind not in ("quiet", "away")]


def test_a_run_is_followed_through_all_that_becomes_of_it(double: Workflows) -> None:
    workflow = ArgoWorkflow(RUN)
    double.put(ArgoWorkflow("another-run").object())
    double.put(workflow.object())
    found = Following(lambda: follow(Cluster("kubeflow"), RUN))
    wait_until(lambda: double.watches, 10)
    steps: list[tuple[Callable[[], object], list[tuple[str, str]]]] = [
        (lambda: workflow.task("preflight", "", ("Running", "")), [("preflight", "running")]),
        (lambda: workflow.set(f"{workflow.root}.preflight(0).executor(0)", "Failed"), [("preflight", "retrying")]),
        (lambda: workflow.set(f"{workflow.root}.preflight(0).executor", "Succeeded"), [("preflight", "done")]),
        (lambda: workflow.task("solve", "", cached=True), [("solve", "cached")]),
        (lambda: workflow.driver("sft-driver", workflow.root, "Running", container=True), [("sft", "preparing")]),
    ]
    told: list[tuple[str, str]] = []
    for step, news in steps:
        step()
        double.put(workflow.object())
        told += news
        # Long before the watch ends by itself.
        wait_until(lambda: found.told() == told, 10)  # noqa: B023
    workflow.end("Succeeded")
    double.put(workflow.object(packed=True))
    assert found.ended.wait(10) and found.error is None
    assert isinstance(found.seen[-1], Ended)


@pytest.mark.parametrize("accident", ["broken", "cut", "expired", "away"])
def test_nothing_is_lost_and_nothing_is_told_twice(double: Workflows, accident: str) -> None:
    found = Following(lambda: events(Cluster("kubeflow"), RUN_LABEL))
    wait_until(lambda: double.watches, 10)
    first, second = ArgoWorkflow("run-1"), ArgoWorkflow("run-2")
    double.put(first.object())
    wait_until(lambda: found.kinds() == ["complete", "changed"], 10)
    if accident == "cut":
        double.cut = 1
    if accident == "expired":
        double.expired = double.version + 1
    if accident == "away":
        double.away = True
    if accident != "cut":
        double.break_watches()
    double.put(second.object())
    if accident == "away":
        wait_until(lambda: any(isinstance(item, Event) and item.kind == "away" for item in found.seen), 10)
        double.away = False
    listed = ["found", "found", "complete"] if accident == "expired" else ["changed"]
    wait_until(lambda: found.kinds() == ["complete", "changed", *listed], 20)
    double.delete(first.name)
    wait_until(lambda: found.kinds()[-1] == "gone", 10)
    assert double.lists == (2 if accident == "expired" else 1)


def test_many_workflows_are_listed_page_by_page(double: Workflows) -> None:
    for number in range(23):
        double.put(ArgoWorkflow(f"{number:05}-run").object())
    found = Following(lambda: events(Cluster("kubeflow"), RUN_LABEL))
    wait_until(lambda: found.kinds() == ["found"] * 23 + ["complete"], 10)


def test_a_quiet_watch_says_that_it_is_there(double: Workflows) -> None:
    found = Following(lambda: events(Cluster("kubeflow"), RUN_LABEL, watch_s=1))
    wait_until(lambda: sum(isinstance(item, Event) and item.kind == "quiet" for item in found.seen) >= 2, 10)
    assert double.lists == 1


def test_a_run_that_is_deleted_ends_the_following(double: Workflows) -> None:
    workflow = ArgoWorkflow(RUN)
    double.put(workflow.object())
    found = Following(lambda: follow(Cluster("kubeflow"), RUN))
    wait_until(lambda: double.watches, 10)
    # While nobody can hear of it, and too long ago to be told afterwards.
    double.expired = double.version + 2
    double.delete(workflow.name)
    assert found.ended.wait(20)
    assert isinstance(found.error, ClusterError) and "was deleted while it was at work" in str(found.error)


def test_a_run_that_is_not_there(double: Workflows) -> None:
    with pytest.raises(ClusterError, match="there is no workflow of a run nobody in the namespace kubeflow"):
        list(follow(Cluster("kubeflow"), "nobody", appears_s=1))


def test_an_api_that_stays_away_or_refuses_is_an_error(double: Workflows) -> None:
    double.away = True
    with pytest.raises(AwayError, match="503"):
        list(follow(Cluster("kubeflow"), RUN, patience_s=0.1))
    double.away, double.forbidden = False, {"list"}
    with pytest.raises(ClusterError, match="needs the rights to get, list and watch"):
        list(follow(Cluster("kubeflow"), RUN))


def test_without_access_to_a_cluster_it_is_said_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ClusterError, match="set KUBECONFIG, or let kubectl's current context"):
        Cluster("kubeflow")
