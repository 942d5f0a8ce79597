"""The few calls to Kubernetes that a launcher of TrainJobs makes, with errors for the person who must act."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import urllib3

from components.core.errors import TutorLoopError
from components.core.redaction import redact

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT_S = (5.0, 60.0)
"""To connect, and to answer: a connection that is half open would wait for ever."""
PATIENCE_S = 300.0
"""An API server that is away for so long is given up."""
LOG_LINES = 20
T = TypeVar("T")


class ClusterError(TutorLoopError):
    """Kubernetes cannot be reached, refuses a request, or a TrainJob failed."""


class MissingError(ClusterError):
    """There is no such object."""


class ExistsError(ClusterError):
    """There is an object of this name already."""


@dataclass(frozen=True)
class PodLog:
    """The last lines of a pod."""

    pod: str
    text: str


class Cluster:
    """The namespace of this task's pod.

    Raises:
        ClusterError: This process has no access to a cluster.
    """

    def __init__(self) -> None:
        from kubernetes import client, config

        file = os.environ.get("KUBECONFIG")
        try:
            if NAMESPACE_FILE.is_file():
                config.load_incluster_config()
                self.namespace = NAMESPACE_FILE.read_text().strip()
            else:
                config.load_kube_config(file)
                self.namespace = str(config.list_kube_config_contexts(file)[1]["context"].get("namespace", "default"))
        except config.ConfigException as error:
            raise ClusterError(
                f"several nodes need a cluster: {error}", "run on Kubernetes, with a service account token in the pod, or set nodes to 1"
            ) from error
        self._objects = client.CustomObjectsApi()
        self._core = client.CoreV1Api()

    def own_pod(self) -> dict[str, Any]:
        """The pod of this task, as the API writes it."""
        # Kubeflow gives the name by the downward API; a host name is cut after 63 characters.
        name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
        pod = self._call("get", "pods", lambda: self._core.read_namespaced_pod(name, self.namespace, _request_timeout=TIMEOUT_S))
        return self._core.api_client.sanitize_for_serialization(pod)

    def create(self, job: dict[str, Any]) -> None:
        """Create a TrainJob.

        Raises:
            ExistsError: There is one of this name.
        """
        self._call("create", PLURAL, lambda: self._objects.create_namespaced_custom_object(*self._kind, job, _request_timeout=TIMEOUT_S))

    def get(self, name: str) -> dict[str, Any] | None:
        """A TrainJob; None when there is none of this name."""
        try:
            return self._call(
                "get", PLURAL, lambda: self._objects.get_namespaced_custom_object(*self._kind, name, _request_timeout=TIMEOUT_S)
            )
        except MissingError:
            return None

    def delete(self, name: str) -> None:
        """Delete a TrainJob with its pods; nothing happens when there is none."""
        try:
            self._call(
                "delete",
                PLURAL,
                lambda: self._objects.delete_namespaced_custom_object(
                    *self._kind, name, propagation_policy="Background", _request_timeout=TIMEOUT_S
                ),
            )
        except MissingError:
            return

    def logs(self, name: str) -> list[PodLog]:
        """The last lines of a TrainJob's pods, failed ones first."""
        selector = f"jobset.sigs.k8s.io/jobset-name={name}"
        pods = self._call(
            "list", "pods", lambda: self._core.list_namespaced_pod(self.namespace, label_selector=selector, _request_timeout=TIMEOUT_S)
        ).items
        found = []
        for pod in sorted(pods, key=lambda pod: (pod.status.phase != "Failed", pod.metadata.name)):
            pod_name = str(pod.metadata.name)
            read = partial(self._core.read_namespaced_pod_log, pod_name, self.namespace, tail_lines=LOG_LINES, _request_timeout=TIMEOUT_S)
            try:
                text = self._call("get", "pods/log", read)
            except ClusterError as error:
                text = f"(no log: {error.message})"
            found.append(PodLog(pod_name, str(redact(text)).strip()))
        return found

    @property
    def _kind(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL

    def _call(self, verb: str, resource: str, operation: Callable[[], T]) -> T:
        """Run a request, again while the server is away."""
        from kubernetes.client import ApiException

        until, told = time.monotonic() + PATIENCE_S, False
        while True:
            try:
                return operation()
            except ApiException as error:
                if error.status not in (429, 500, 502, 503, 504) or time.monotonic() > until:
                    raise _explained(verb, resource, self.namespace, error) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if time.monotonic() > until:
                    raise ClusterError(f"the Kubernetes API does not answer: {error}", "see that it runs, then run again") from error
            if not told:
                told = True
                print(f"the Kubernetes API does not answer, trying for another {PATIENCE_S:.0f} s", flush=True)
            time.sleep(2)


def _explained(verb: str, resource: str, namespace: str, error: Any) -> ClusterError:
    import msgspec

    try:
        said = str(msgspec.json.decode(error.body or b"{}").get("message", ""))
    except (msgspec.DecodeError, AttributeError):
        said = str(error.body)[:300]
    what = f"{verb} {resource} in the namespace {namespace}: HTTP {error.status} {said or error.reason}"
    if error.status == 404 and verb == "create":
        return ClusterError(what, "install Kubeflow Trainer (2.2 or newer) in the cluster, or set nodes to 1")
    if error.status == 404:
        return MissingError(what)
    if error.status == 409:
        return ExistsError(what)
    if error.status in (401, 403):
        group = f" of {GROUP}" if resource == PLURAL else ""
        return ClusterError(what, f"let the task's service account {verb} {resource}{group} in {namespace} (a Role), or set nodes to 1")
    return ClusterError(
        what, "see what the message says about the TrainJob's fields and the options sft.cluster or preference_tuning.cluster"
    )
