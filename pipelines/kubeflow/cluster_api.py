"""What is needed of the Kubernetes API to look after runs: their workflows as they change, and the logs of their pods."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3

from components.core.errors import TutorLoopError

GROUP, VERSION, PLURAL = "argoproj.io", "v1alpha1", "workflows"
PAGE = 10
"""Workflows of one answer: each may be a megabyte and more."""
TIMEOUT_S = (10.0, 60.0)
"""To connect, and to answer."""
SPARE_S = 30.0
"""A watch that says nothing for so long after its end is dead."""
LOG_LINES = 200
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
GONE = 410
REFUSED = (401, 403)


class ClusterError(TutorLoopError):
    """The Kubernetes API refuses, or this process has no access to it."""


class AwayError(ClusterError):
    """The Kubernetes API does not answer just now."""


class ExpiredError(ClusterError):
    """What a watch was to go on from is no longer known; everything has to be listed anew."""


class Cluster:
    """The workflows of a namespace.

    Args:
        namespace: Where Kubeflow runs them.

    Raises:
        ClusterError: This process has no access to a cluster.
    """

    def __init__(self, namespace: str) -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.is_file():
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(client_configuration=settings)
        except (config.ConfigException, OSError) as error:
            raise ClusterError(
                f"there is no access to a cluster: {error}",
                "set KUBECONFIG, or let kubectl's current context be the cluster with the run; it needs the rights to get, list and watch "
                f"workflows.argoproj.io and to get pods/log in the namespace {namespace}",
            ) from error
        # Repeats are up to whoever watches.
        settings.retries = False
        api = client.ApiClient(settings)
        self.namespace = namespace
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)

    def list(self, selector: str) -> tuple[Iterator[dict[str, Any]], list[str]]:
        """All workflows with these labels.

        Args:
            selector: Selector of labels.

        Returns:
            The workflows, page by page; and a list that holds, when they have been read, the version that a watch goes on from.

        Raises:
            ClusterError: It is refused, or nothing answers.
        """
        version: list[str] = []

        def pages() -> Iterator[dict[str, Any]]:
            token = None
            while True:
                answer = self._ask(
                    "list the workflows",
                    lambda token=token: self._objects.list_namespaced_custom_object(
                        *(GROUP, VERSION, self.namespace, PLURAL),
                        label_selector=selector,
                        limit=PAGE,
                        _continue=token,
                        _request_timeout=TIMEOUT_S,
                    ),
                )
                yield from answer.get("items") or []
                token = answer["metadata"].get("continue")
                if not token:
                    version[:] = [str(answer["metadata"].get("resourceVersion", ""))]
                    return

        return pages(), version

    def watch(self, selector: str, version: str, seconds: float) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens to workflows with these labels, from a version on.

        Args:
            selector: Selector of labels.
            version: Resource version to go on from.
            seconds: The watch ends by itself after so long.

        Returns:
            ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object.

        Raises:
            AwayError: The connection is lost, or nothing answers.
            ClusterError: It is refused.
            ExpiredError: The version is too old.
        """
        answer = self._ask(
            "watch the workflows",
            lambda: self._objects.list_namespaced_custom_object(
                *(GROUP, VERSION, self.namespace, PLURAL),
                label_selector=selector,
                resource_version=version,
                watch=True,
                allow_watch_bookmarks=True,
                timeout_seconds=max(int(seconds), 1),
                _preload_content=False,
                _request_timeout=(TIMEOUT_S[0], seconds + SPARE_S),
            ),
        )
        try:
            for line in _lines(answer):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise self._error("watch the workflows", int(event["object"].get("code", 0)), str(event["object"].get("message", "")))
                yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise AwayError(f"the watch of workflows broke off: {error}") from error
        finally:
            answer.close()
            answer.release_conn()

    def log(self, pod: str) -> str:
        """The end of the log of a pod's main container; empty where it is gone or may not be read."""
        from kubernetes.client.exceptions import ApiException

        try:
            answer = self._core.read_namespaced_pod_log(
                pod, self.namespace, container="main", tail_lines=LOG_LINES, _request_timeout=TIMEOUT_S, _preload_content=False
            )
            return bytes(answer.data).decode(errors="replace")
        except (ApiException, urllib3.exceptions.HTTPError, OSError):
            return ""

    def _ask(self, what: str, call: Any) -> Any:
        from kubernetes.client.exceptions import ApiException

        try:
            return call()
        except ApiException as error:
            raise self._error(what, int(error.status or 0), str(_message(error))) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AwayError(f"the Kubernetes API does not answer: {error}", "see whether kubectl reaches the cluster") from error

    def _error(self, what: str, code: int, message: str) -> ClusterError:
        if code == GONE:
            return ExpiredError(f"cannot {what} from there: {message}")
        text = f"the Kubernetes API does not {what} in {self.namespace} ({code}): {message}"
        if code in REFUSED:
            verbs = "get, list and watch workflows.argoproj.io and get pods/log"
            return ClusterError(text, f"log in to the cluster; the account needs the rights to {verbs} in the namespace {self.namespace}")
        if 400 <= code < 500 and code != 429:
            return ClusterError(text, "see whether Kubeflow Pipelines with Argo Workflows is installed in this cluster")
        return AwayError(text, "look at the state of the cluster")


def _lines(answer: Any) -> Iterator[bytes]:
    left = b""
    for chunk in answer.stream(amt=None, decode_content=False):
        *whole, left = (left + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def _message(error: Any) -> Any:
    try:
        return json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        return error.reason
