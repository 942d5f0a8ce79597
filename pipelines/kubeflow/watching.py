"""``tutorloop watch``: a run on a cluster as a person follows it, with lines like those of a run on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from components.core.errors import InputError, StoreError
from components.core.metrics.progress import clock
from pipelines.kubeflow.cluster_api import Cluster
from pipelines.kubeflow.explain import failures
from pipelines.kubeflow.following import Change, Ended, follow
from pipelines.kubeflow.workflow import argument_of, phase_of
from pipelines.runs import record as run_record
from pipelines.runs import summary
from pipelines.runs.record import RunRecord, page_of

WORDS = {"running": "at work", "preparing": "is prepared", "cached": "from the cache", "skipped": "is left out", "retrying": "again"}


def watch(cluster: Cluster, run: str, say: Callable[[str], None], *, host: str = "", records: str = "", patience_s: float = 300.0) -> bool:
    """Follow a run to its end.

    Args:
        cluster: Where its workflow is.
        run: Id of the run.
        say: Told each line.
        host: Address of Kubeflow's UI; empty where it is not known.
        records: Home of its record where the run does not say.
        patience_s: How long a Kubernetes API that is away is tried again.

    Returns:
        Whether it succeeded.

    Raises:
        ClusterError: There is no such workflow, or the API refuses or is away for too long.
    """
    workflow: dict[str, Any] = {}
    for item in follow(cluster, run, patience_s=patience_s):
        if isinstance(item, Ended):
            workflow = item.workflow
        else:
            for line in _lines(item):
                say(line)
    home = str(argument_of(workflow, "records") or records).rstrip("/")
    if phase_of(workflow) == "Succeeded":
        record = _record(f"{home}/{run}", say)
        if record:
            say(summary.text(record))
    else:
        say("")
        for failure in failures(workflow, cluster.log):
            say(str(failure))
    say(f"record: {home}/{run}" + (f"; page: {page_of(host, run)}" if host else ""))
    return phase_of(workflow) == "Succeeded"


def _lines(change: Change) -> Iterator[str]:
    task, (done, known) = change.task, change.progress
    at = time.strftime("%H:%M:%S", time.localtime(task.finished or time.time()))
    took = clock(task.finished - task.started) if task.finished and task.started else ""
    if task.state == "done":
        yield f"{at} {task.path} done in {took}; pods {done} of {known} so far"
    elif task.state == "failed":
        yield f"{at} {task.path} failed" + (f" after {took}" if took else "")
    elif task.state == "retrying":
        yield f"{at} {task.path} again (attempt {task.attempts})"
    elif task.state != "preparing" or not change.before:
        yield f"{at} {task.path} {WORDS[task.state]}"


def _record(folder: str, say: Callable[[str], None]) -> RunRecord | None:
    try:
        return run_record.read(folder)
    except (InputError, StoreError) as error:
        say(f"the run succeeded; its record cannot be read from here: {error}")
        return None
