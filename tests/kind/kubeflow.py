"""Runs through the API of Kubeflow Pipelines, and their pods through that of Kubernetes.

Read in the sources of KFP at tag 2.17.0: an executor's pod has the label of its run and those of its task, a driver's only the first
(argocompiler/container.go); a task that is served from the cache has no executor's pod at all; and a run's state is one of
``STATES`` (apiserver/model/run.go).
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.kubeflow.calls import KubeflowError, UnreachableError
from pipelines.kubeflow.client import Kubeflow as Client
from pipelines.kubeflow.cluster_api import ClusterError
from pipelines.kubeflow.explain import Failure, failures
from pipelines.kubeflow.following import events
from pipelines.kubeflow.submitting import submit
from pipelines.kubeflow.workflow import ENDED as WORKFLOW_ENDED
from pipelines.kubeflow.workflow import RUN_LABEL, Task, Workflow, phase_of
from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError, WaitError, say, wait_until
from tests.kind.deploy import troubles_of
from tests.kind.expected import STAGE_LABEL
from tests.kind.forward import Address
from tests.kind.workflows import ClusterUnderTest

T = TypeVar("T")
STATES = ("PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED", "CANCELING", "CANCELED", "PAUSED")
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
NAMESPACE = "kubeflow"
PIPELINE = "orca-math-kind"
"""What the tests' runs are runs of in the UI; not what a schedule runs, which would take the tests' newest package at its next firing."""
WORKFLOWS = "workflows.argoproj.io"
AGAIN_S = 120.0
QUIET_S = 5.0
"""While nothing happens in a run, whether its time is over is looked at so often."""
REPORT_S = 120.0
"""Kubeflow hears of the end of a workflow from its agent, a little later."""
LOG_LINES = 200


@dataclass(frozen=True)
class Pod:
    """The pod of an attempt at a task.

    Attributes:
        name: Its name; Argo makes a pod that was deleted anew under the same one.
        uid: Tells it from all others.
        stage: Of the task.
        phase: ``Pending``, ``Running``, ``Succeeded`` or ``Failed``.
        node: Where it runs; empty before that is decided.
    """

    name: str
    uid: str
    stage: str
    phase: str
    node: str


class Kubeflow:
    """A Kubeflow Pipelines installation.

    Args:
        forward: Leads to its API.
        kubectl: Its cluster.
        patience_s: How long a call is repeated that does not get through.
    """

    def __init__(self, forward: Address, kubectl: Kubectl, patience_s: float = AGAIN_S) -> None:
        self._forward = forward
        self._kubectl = kubectl
        self._patience = patience_s

    def call(self, what: str, ask: Callable[[Any], T]) -> T:
        """Ask with a ``kfp.Client``, again while nobody answers.

        Args:
            what: For the error.
            ask: Gets the client. What it does may happen twice, if an answer is lost.

        Raises:
            CommandError: The API refuses, or nobody answers.
        """
        import kfp

        return self._again(what, lambda: ask(kfp.Client(host=self._forward.url(), namespace=NAMESPACE)))

    def _again(self, what: str, ask: Callable[[], T]) -> T:
        import kfp_server_api
        import urllib3

        deadline = time.monotonic() + self._patience
        while True:
            try:
                return ask()
            except kfp_server_api.ApiException as error:
                failure, lasting = f"{error.status}: {error.body or error.reason}", bool(error.status) and error.status < 500
            except KubeflowError as error:
                failure, lasting = str(error), not isinstance(error, UnreachableError)
            except (urllib3.exceptions.HTTPError, OSError, TimeoutError, RuntimeError) as error:
                failure, lasting = f"{type(error).__name__}: {error}", False
            if lasting or time.monotonic() > deadline:
                raise CommandError(f"Kubeflow: cannot {what}: {failure}")
            self._forward.again()
            time.sleep(2)

    def submit(self, package: Path, name: str, parameters: Mapping[str, Any] | None = None, *, experiment: str = "kind") -> str:
        """Start a run of a compiled package, as a version of the pipeline :data:`PIPELINE`.

        Args:
            package: The package.
            name: Shown for the run.
            parameters: What differs from the package's defaults.
            experiment: Where it is shown.

        Returns:
            The run's id.
        """

        def start() -> str:
            client = Client(self._forward.url(), patience_s=self._patience / 4)
            return submit(client, package, pipeline=PIPELINE, name=name, experiment=experiment, parameters=parameters)

        run = self._again(f"start the run {name}", start)
        say(f"run {name}: {run}")
        return run

    def state(self, run: str) -> str:
        """One of :data:`STATES`; ``PENDING`` before Kubeflow says anything."""
        answer = self.call("look at a run", lambda client: client.get_run(run))
        return str(answer.state or "PENDING")

    def wait(self, run: str, seconds: float, *, wanted: str = "SUCCEEDED") -> None:
        """Watch a run to its end.

        Raises:
            WaitError: It ended otherwise, or not in time; says which tasks failed, and what their pods said last.
        """
        known: dict[str, tuple[str, int]] = {}
        say(f"waiting for the run {run} to be {wanted} (at most {seconds:g} s)")
        for workflow in self.follow(run, seconds):
            for task in workflow.tasks():
                if known.get(task.path) != (task.state, task.attempts):
                    known[task.path] = (task.state, task.attempts)
                    say(f"{task.state}: {task.path} ({workflow.progress[0]} pods are done)")
        state = wait_until("Kubeflow's word on how the run ended", lambda: found if (found := self.state(run)) in ENDED else None, REPORT_S)
        if state != wanted:
            raise WaitError(f"the run {run} ended as {state}, not {wanted}\n{self.describe(run)}")

    def follow(self, run: str, seconds: float) -> Iterator[Workflow]:
        """The workflow of a run whenever it has changed, until it is at its end.

        Raises:
            WaitError: It is not at its end in time, or was deleted; says which tasks failed or wait.
        """
        deadline = time.monotonic() + seconds
        try:
            for event in events(self._cluster, f"{RUN_LABEL}={run}", patience_s=self._patience, watch_s=QUIET_S):
                if event.kind in ("found", "changed"):
                    yield Workflow(event.workflow)
                    if phase_of(event.workflow) in WORKFLOW_ENDED:
                        return
                elif event.kind == "gone":
                    raise WaitError(f"the workflow of the run {run} was deleted")
                if time.monotonic() > deadline:
                    raise WaitError(f"in {seconds:g} s: the run {run} is not at its end\nas things stand:\n{self.describe(run)}")
        except ClusterError as error:
            raise CommandError(f"the run {run} cannot be followed: {error}") from error

    @functools.cached_property
    def _cluster(self) -> ClusterUnderTest:
        return ClusterUnderTest(self._kubectl, NAMESPACE)

    def workflow(self, run: str) -> Any:
        """The workflow of a run, as it is now.

        Raises:
            CommandError: There is none.
        """
        found = self._kubectl.get(WORKFLOWS, NAMESPACE, labels=f"{RUN_LABEL}={run}")
        if not found:
            raise CommandError(f"the run {run} has no workflow")
        return found[0]

    def tasks(self, run: str) -> dict[str, Task]:
        """The tasks that a run has come to, by their paths; those from the cache too."""
        return {task.path: task for task in Workflow(self.workflow(run)).tasks()}

    def runs_at_work(self) -> list[str]:
        """Ids of all runs that are at work, whoever started them."""
        going = self._kubectl.get(WORKFLOWS, NAMESPACE, labels="workflows.argoproj.io/completed!=true")
        return sorted({item["metadata"].get("labels", {}).get(RUN_LABEL, item["metadata"]["name"]) for item in going})

    def terminate(self, run: str) -> None:
        """Let Kubeflow end a run."""
        self.call("end a run", lambda client: client.terminate_run(run))

    def pods(self, run: str, stage: str = "") -> list[Pod]:
        """Pods of the tasks of a run that were really carried out; all attempts, those of drivers not.

        Args:
            run: Its id.
            stage: Only those of this stage.
        """
        selector = f"{RUN_LABEL}={run},{STAGE_LABEL}" + (f"={stage}" if stage else "")
        return [
            Pod(
                name=item["metadata"]["name"],
                uid=item["metadata"]["uid"],
                stage=item["metadata"]["labels"][STAGE_LABEL],
                phase=item.get("status", {}).get("phase", "Pending"),
                node=item["spec"].get("nodeName", ""),
            )
            for item in self._kubectl.get("pods", NAMESPACE, labels=selector)
        ]

    def executed(self, run: str) -> Counter[str]:
        """Stages that a run has carried out, and how many pods that took; what came from the cache is not among them."""
        return Counter(pod.stage for pod in self.pods(run))

    def log(self, pod: str, *, lines: int = LOG_LINES) -> str:
        """The end of what a task or a driver said."""
        return self._kubectl("logs", pod, "--namespace", NAMESPACE, "--container", "main", "--tail", str(lines), quiet=True)

    def failures(self, run: str) -> list[Failure]:
        """What went wrong in a run, drivers too, with their last words."""

        def log_of(pod: str) -> str:
            with contextlib.suppress(CommandError):
                return self.log(pod)
            return ""

        return failures(self.workflow(run), log_of)

    def describe(self, run: str) -> str:
        """What is known about a run's tasks that are not well."""
        try:
            lines = [str(failure) for failure in self.failures(run)]
        except CommandError as error:
            lines = [f"(why it failed cannot be told: {str(error).splitlines()[0]})"]
        try:
            pods = self._kubectl.get("pods", NAMESPACE, labels=f"{RUN_LABEL}={run}")
        except CommandError as error:
            pods, lines = [], [*lines, f"(its pods cannot be listed: {str(error).splitlines()[0]})"]
        for pod in pods:
            if pod.get("status", {}).get("phase") == "Pending":
                lines += [f"{pod['metadata']['name']} is Pending", *troubles_of(pod)]
        return "\n".join(lines) or "no task or driver has failed or waits for a node"
