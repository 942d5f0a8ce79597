"""Runs through the API of Kubeflow Pipelines, and their pods through that of Kubernetes.

Read in the sources of KFP at tag 2.17.0: an executor's pod has the label of its run and those of its task, a driver's only the first
(argocompiler/container.go); a task that is served from the cache has no executor's pod at all; and a run's state is one of
``STATES`` (apiserver/model/run.go).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipelines.kubeflow.calls import UnreachableError
from pipelines.kubeflow.client import Kubeflow as Client
from pipelines.kubeflow.explain import failures
from pipelines.kubeflow.submitting import submit
from pipelines.kubeflow.workflow import Task, Workflow
from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError, WaitError, say
from tests.kind.deploy import troubles_of
from tests.kind.forward import Address
from tests.kind.watching import PodWatch

T = TypeVar("T")
STATES = ("PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED", "CANCELING", "CANCELED", "PAUSED")
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
NAMESPACE = "kubeflow"
RUN_LABEL = "pipeline/runid"
WORKFLOWS = "workflows.argoproj.io"
STAGE_LABEL = "tutorloop.dev/stage"
PIPELINE = "orca-math-kind"
"""What runs of the tests are shown as runs of: never the pipeline that a schedule runs, whose newest version it takes."""
AGAIN_S = 120.0
CALL_S = 10.0
QUIET_S = 3.0
"""No pod has changed for so long: the run may be at its end."""


@dataclass(frozen=True)
class Pod:
    """The pod of an attempt at a task.

    Attributes:
        name: Its name. Argo can give a pod that takes the place of a deleted one the same (its node is the same).
        uid: Its own, which no other pod ever has.
        stage: Of the task; empty for a driver.
        phase: ``Pending``, ``Running``, ``Succeeded`` or ``Failed``.
        node: Where it runs; empty before that is decided.
    """

    name: str
    uid: str
    stage: str
    phase: str
    node: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Pod:
        """As the Kubernetes API has it."""
        metadata = item["metadata"]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            stage=metadata.get("labels", {}).get(STAGE_LABEL, ""),
            phase=item.get("status", {}).get("phase", "Pending"),
            node=item["spec"].get("nodeName", ""),
        )


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
        import kfp_server_api
        import urllib3

        deadline = time.monotonic() + self._patience
        while True:
            try:
                return ask(kfp.Client(host=self._forward.url(), namespace=NAMESPACE))
            except kfp_server_api.ApiException as error:
                failure, lasting = f"{error.status}: {error.body or error.reason}", bool(error.status) and error.status < 500
            except (urllib3.exceptions.HTTPError, OSError, TimeoutError, RuntimeError) as error:
                failure, lasting = f"{type(error).__name__}: {error}", False
            if lasting or time.monotonic() > deadline:
                raise CommandError(f"Kubeflow: cannot {what}: {failure}")
            self._forward.again()
            time.sleep(2)

    def submit(self, package: Path, name: str, parameters: Mapping[str, Any] | None = None, *, experiment: str = "kind") -> str:
        """Start a run of a compiled package as ``tutorloop submit`` does, so that Kubeflow shows its pipeline and version.

        Args:
            package: The package.
            name: Shown for the run.
            parameters: What differs from the package's defaults.
            experiment: Where it is shown.

        Returns:
            The run's id.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                client = Client(self._forward.url(), patience_s=CALL_S)
                run = submit(client, package, pipeline=PIPELINE, name=name, experiment=experiment, parameters=parameters)
                break
            except UnreachableError as error:
                if time.monotonic() > deadline:
                    raise CommandError(f"Kubeflow: cannot start the run {name}: {error}") from error
                # The forwarded port may be what is away.
                self._forward.again()
        say(f"run {name}: {run}")
        return run

    def state(self, run: str) -> str:
        """One of :data:`STATES`; ``PENDING`` before Kubeflow says anything."""
        answer = self.call("look at a run", lambda client: client.get_run(run))
        return str(answer.state or "PENDING")

    def shown(self, run: str) -> tuple[str, str]:
        """Names of the pipeline and of the version that a run is shown as a run of; empty where Kubeflow knows none."""

        def ask(client: Any) -> tuple[str, str]:
            reference = client.get_run(run).pipeline_version_reference
            if reference is None or not reference.pipeline_version_id:
                return "", ""
            version = client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
            return str(client.get_pipeline(reference.pipeline_id).display_name), str(version.display_name)

        return self.call("look up the pipeline of a run", ask)

    def wait(self, run: str, seconds: float, *, wanted: str = "SUCCEEDED") -> None:
        """Watch a run to its end.

        Raises:
            WaitError: It ended otherwise, or not in time; says which tasks failed, and what their pods said last.
        """
        say(f"waiting for the run {run} to be {wanted} (at most {seconds:g} s)")
        deadline, seen = time.monotonic() + seconds, dict[str, str]()
        with PodWatch(self._kubectl, NAMESPACE, f"{RUN_LABEL}={run}") as watch:
            while True:
                if item := watch.next(min(QUIET_S, max(deadline - time.monotonic(), 0.0))):
                    self._report(Pod.of(item), seen)
                else:
                    state = self.state(run)
                    if state == wanted:
                        return
                    if state in ENDED:
                        raise WaitError(f"the run {run} ended as {state}, not {wanted}\n{self.describe(run)}")
                if time.monotonic() >= deadline:
                    raise WaitError(f"in {seconds:g} s: the run {run} is not {wanted}\n{self.describe(run)}")

    def _report(self, pod: Pod, seen: dict[str, str]) -> None:
        if seen.get(pod.uid) != pod.phase and (pod.stage or pod.phase == "Failed"):
            say(f"{pod.stage or 'a driver'} {pod.phase.lower()} ({pod.name})")
        seen[pod.uid] = pod.phase

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
        return [Pod.of(item) for item in self._kubectl.get("pods", NAMESPACE, labels=selector)]

    def preflights(self) -> set[str]:
        """UIDs of the preflights of all runs, also of those that somebody else has started."""
        return {Pod.of(item).uid for item in self._kubectl.get("pods", NAMESPACE, labels=f"{RUN_LABEL},{STAGE_LABEL}=preflight")}

    def at_work(self) -> set[str]:
        """Ids of all runs that go on, also of those that somebody else has started."""
        unfinished = f"{RUN_LABEL},workflows.argoproj.io/completed!=true"
        return {item["metadata"]["labels"][RUN_LABEL] for item in self._kubectl.get(WORKFLOWS, NAMESPACE, labels=unfinished)}

    def executed(self, run: str) -> Counter[str]:
        """Stages that a run has carried out, and how many pods that took; what came from the cache is not among them."""
        return Counter(pod.stage for pod in self.pods(run))

    def tasks(self, run: str) -> list[Task]:
        """The tasks that a run has come to, with those from the cache, shards by themselves.

        Raises:
            CommandError: The run has no workflow any more.
        """
        found = self._kubectl.get(WORKFLOWS, NAMESPACE, labels=f"{RUN_LABEL}={run}")
        if not found:
            raise CommandError(f"the run {run} has no workflow")
        return Workflow(found[0]).tasks()

    def log(self, pod: str, *, lines: int = 40) -> str:
        """The end of what a task said."""
        return self._kubectl("logs", pod, "--namespace", NAMESPACE, "--container", "main", "--tail", str(lines), quiet=True)

    def describe(self, run: str) -> str:
        """What went wrong in a run, with the last words of tasks and drivers that failed, and which tasks wait for what."""
        lines = []
        for workflow in self._kubectl.get(WORKFLOWS, NAMESPACE, labels=f"{RUN_LABEL}={run}"):
            lines += [str(failure) for failure in failures(workflow, self._last_words)]
        for pod in self.pods(run):
            if pod.phase == "Pending":
                lines.append(f"{pod.stage}: {pod.name} is Pending\n{self._pending(pod.name)}")
        return "\n".join(lines) or "nothing has failed, and no task waits for a node (kubectl get pods -l pipeline/runid)"

    def _last_words(self, pod: str) -> str:
        # The pod of a lost node has no log any more.
        with contextlib.suppress(CommandError):
            return self.log(pod)
        return ""

    def _pending(self, pod: str) -> str:
        return "\n".join(troubles_of(self._kubectl.get("pod", NAMESPACE, name=pod)))
