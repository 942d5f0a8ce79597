"""Runs through the API of Kubeflow Pipelines, and their pods through that of Kubernetes.

Read in the sources of KFP at tag 2.17.0: an executor's pod has the label of its run and those of its task, a driver's only the first
(argocompiler/container.go); a task that is served from the cache has no executor's pod at all; and a run's state is one of
``STATES`` (apiserver/model/run.go).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError, WaitError, say, wait_until
from tests.kind.deploy import troubles_of
from tests.kind.forward import Address

T = TypeVar("T")
STATES = ("PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "FAILED", "CANCELING", "CANCELED", "PAUSED")
ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
NAMESPACE = "kubeflow"
RUN_LABEL = "pipeline/runid"
STAGE_LABEL = "tutorloop.dev/stage"
SERVICE_ACCOUNT = "tutorloop-run"
AGAIN_S = 120.0


@dataclass(frozen=True)
class Pod:
    """The pod of an attempt at a task.

    Attributes:
        name: Its name.
        stage: Of the task.
        phase: ``Pending``, ``Running``, ``Succeeded`` or ``Failed``.
        node: Where it runs; empty before that is decided.
    """

    name: str
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
        """Start a run of a compiled package.

        Args:
            package: The package.
            name: Shown for the run.
            parameters: What differs from the package's defaults.
            experiment: Where it is shown.

        Returns:
            The run's id.
        """
        group = self.call("make an experiment", lambda client: client.create_experiment(experiment).experiment_id)

        def start(client: Any) -> str:
            run = client.run_pipeline(
                group, name, pipeline_package_path=str(package), params=dict(parameters or {}), service_account=SERVICE_ACCOUNT
            )
            return str(run.run_id)

        run = self.call(f"start the run {name}", start)
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
        seen: dict[str, str] = {}

        def ended() -> bool:
            state = self.state(run)
            self._report(run, state, seen)
            if state in ENDED and state != wanted:
                raise WaitError(f"the run {run} ended as {state}, not {wanted}\n{self.describe(run)}")
            return state == wanted

        wait_until(f"the run {run} to be {wanted}", ended, seconds, every=5, describe=lambda: self.describe(run))

    def _report(self, run: str, state: str, seen: dict[str, str]) -> None:
        try:
            pods = self.pods(run)
        except CommandError as error:
            say(f"(pods cannot be listed: {str(error).splitlines()[0]})")
            return
        for pod in pods:
            if seen.get(pod.name) != pod.phase:
                seen[pod.name] = pod.phase
                say(f"{state.lower()}: {pod.stage} {pod.phase.lower()} ({pod.name})")

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
                stage=item["metadata"]["labels"][STAGE_LABEL],
                phase=item.get("status", {}).get("phase", "Pending"),
                node=item["spec"].get("nodeName", ""),
            )
            for item in self._kubectl.get("pods", NAMESPACE, labels=selector)
        ]

    def executed(self, run: str) -> Counter[str]:
        """Stages that a run has carried out, and how many pods that took; what came from the cache is not among them."""
        return Counter(pod.stage for pod in self.pods(run))

    def cached(self, run: str) -> int | None:
        """How many tasks were served from the cache; None where Kubeflow tells nothing about tasks.

        Of such a task Argo skips the node ``executor`` below the task's own. The API gives no node its parent, so that it does not say
        which tasks these are; :meth:`executed` says which they are not.
        """
        answer = self.call("look at a run", lambda client: client.get_run(run))
        tasks = answer.run_details.task_details if answer.run_details else None
        if not tasks:
            return None
        return len([task for task in tasks if task.display_name == "executor" and str(task.state) == "SKIPPED"])

    def log(self, pod: str, *, lines: int = 40) -> str:
        """The end of what a task said."""
        return self._kubectl("logs", pod, "--namespace", NAMESPACE, "--container", "main", "--tail", str(lines), quiet=True)

    def describe(self, run: str) -> str:
        """What is known about a run's tasks that are not well."""
        lines = []
        for pod in self.pods(run):
            if pod.phase in ("Failed", "Pending"):
                lines.append(f"{pod.stage}: {pod.name} is {pod.phase}")
                try:
                    lines.append(self.log(pod.name) if pod.phase == "Failed" else self._pending(pod.name))
                except CommandError as error:
                    lines.append(f"  (its log cannot be read: {str(error).splitlines()[0]})")
        return "\n".join(lines) or "no task has failed or waits for a node; a driver may have (kubectl get pods -l pipeline/runid)"

    def _pending(self, pod: str) -> str:
        return "\n".join(troubles_of(self._kubectl.get("pod", NAMESPACE, name=pod)))
