"""Follows workflows by the watch of the Kubernetes API: what changes is told at once, and a lost connection loses nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pipelines.kubeflow.cluster_api import AwayError, Cluster, ClusterError, ExpiredError
from pipelines.kubeflow.workflow import ENDED, RUN_LABEL, Task, Workflow, phase_of

WATCH_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
APPEARS_S = 30.0
"""Kubeflow makes the workflow of a run before it answers; the cache of an API server may be a little behind."""


class Event(NamedTuple):
    """Something about workflows.

    Attributes:
        kind: ``found``: it is there, as listed. ``changed``: it is new or has changed. ``gone``: it was deleted; ``workflow`` is its last
            state. ``complete``: all that there are have been told as ``found``. ``quiet``: nothing for a while. ``away``: the API does not
            answer, and is tried again.
        workflow: The object; empty for the last three.
        reason: Why the API does not answer.
    """

    kind: Literal["found", "changed", "gone", "complete", "quiet", "away"]
    workflow: dict[str, Any] = {}
    reason: str = ""


def events(cluster: Cluster, selector: str, *, patience_s: float = float("inf"), watch_s: float = WATCH_S) -> Iterator[Event]:
    """All that happens to workflows with these labels, without an end.

    Args:
        cluster: Where they are.
        selector: Selector of labels.
        patience_s: How long an API that is away is tried again.
        watch_s: How long nothing may happen until that is told as ``quiet``.

    Raises:
        AwayError: The API was away for longer than the patience lasts.
        ClusterError: It refuses.
    """
    version, since, wait = "", 0.0, FIRST_WAIT_S
    while True:
        try:
            if not version:
                listed, newest = cluster.list(selector)
                for item in listed:
                    yield Event("found", item)
                yield Event("complete")
                version, since, wait = newest[0], 0.0, FIRST_WAIT_S
            for kind, item in cluster.watch(selector, version, watch_s):
                version, since, wait = str(item["metadata"]["resourceVersion"]), 0.0, FIRST_WAIT_S
                if kind != "BOOKMARK":
                    yield Event("gone" if kind == "DELETED" else "changed", item)
            since = 0.0
            yield Event("quiet")
        except ExpiredError:
            version = ""
        except AwayError as error:
            since = since or time.monotonic()
            if time.monotonic() + wait - since > patience_s:
                raise
            yield Event("away", reason=error.message)
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_S)


@dataclass(frozen=True)
class Change:
    """What changed in a run.

    Attributes:
        task: The task as it is now.
        before: Its state before; empty for one that is new.
        progress: Pods that are done, and those that Argo knows of so far.
    """

    task: Task
    before: str
    progress: tuple[int, int]


@dataclass(frozen=True)
class Ended:
    """The end of a run.

    Attributes:
        workflow: Its object.
    """

    workflow: dict[str, Any]


def follow(cluster: Cluster, run: str, *, patience_s: float = 300.0, appears_s: float = APPEARS_S) -> Iterator[Change | Ended]:
    """What becomes of a run's tasks, each change as soon as Argo notes it.

    Args:
        cluster: Where its workflow is.
        run: Id of the run.
        patience_s: How long a Kubernetes API that is away is tried again.
        appears_s: How long its workflow is waited for.

    Returns:
        The changes, and at last the end.

    Raises:
        ClusterError: The workflow is not there or was deleted, or the API refuses or is away for too long.
    """
    known: dict[str, Task] = {}
    there, listed, until = False, False, time.monotonic() + appears_s
    for event in events(cluster, f"{RUN_LABEL}={run}", patience_s=patience_s, watch_s=min(WATCH_S, appears_s)):
        if event.kind in ("found", "changed"):
            there, listed = True, True
            yield from _changes(Workflow(event.workflow), known)
            if phase_of(event.workflow) in ENDED:
                yield Ended(event.workflow)
                return
        elif event.kind == "gone" or (event.kind == "complete" and there and not listed):
            raise ClusterError(
                f"the workflow of the run {run} was deleted while it was at work", "start the run again; what is done is kept"
            )
        elif event.kind == "quiet" and not there and time.monotonic() >= until:
            raise ClusterError(
                f"there is no workflow of a run {run} in the namespace {cluster.namespace}",
                "take the run's id from its page in Kubeflow; a workflow is removed some time after its end (cluster.keep_workflow_s), "
                "what the run did is in its record",
            )
        if event.kind == "complete":
            listed = False


def _changes(workflow: Workflow, known: dict[str, Task]) -> Iterator[Change]:
    for task in workflow.tasks():
        before = known.get(task.path)
        known[task.path] = task
        if before is None or (before.state, before.attempts) != (task.state, task.attempts):
            yield Change(task, before.state if before else "", workflow.progress)
