"""Collects what helps to understand a failure on the cluster: it goes on whatever fails, and never raises."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from pipelines.kubeflow.explain import failures
from pipelines.kubeflow.workflow import name_of
from tests.kind.cluster import Kubectl
from tests.kind.deploy import NAMESPACES
from tests.kind.kubeflow import NAMESPACE, WORKFLOWS

OBJECTS = (
    "pods,jobs,cronjobs,deployments,statefulsets,services,endpointslices,configmaps,persistentvolumeclaims,networkpolicies,resourcequotas"
)
"""Secrets are not among them."""
CUSTOM = (WORKFLOWS, "scheduledworkflows.kubeflow.org")
SECONDS = 60.0
LOG_LINES = 3_000
MOST_PODS = 150
"""Logs of the newest so many pods of a namespace."""
LAST_LINES = 200
"""Of a pod that failed: its last words are among them."""
EXPLAINED = "failed-runs.txt"
MOST_RUNS = 5
"""The newest so many of the runs that failed are explained."""


class Collector:
    """Writes files into a folder.

    Args:
        kubectl: The cluster.
        folder: Where; made anew.
        kind_name: Name of the kind cluster, whose nodes' logs are collected too; empty for none.
    """

    def __init__(self, kubectl: Kubectl, folder: Path, kind_name: str = "") -> None:
        self._kubectl = kubectl
        self._folder = folder
        self._kind_name = kind_name
        self.failures: list[str] = []

    def collect(self) -> str:
        """Collect everything that can be had; returns why the newest runs failed, where everything is, and what could not be had."""
        self._do("the folder", lambda: self._folder.mkdir(parents=True, exist_ok=True))
        self._write("nodes.txt", "describe", "nodes")
        self._write("nodes-wide.txt", "get", "nodes,pods,persistentvolumes", "--all-namespaces", "--output", "wide")
        for namespace in NAMESPACES:
            self._namespace(namespace)
        explained: list[str] = []
        self._do("why runs failed", lambda: explained.extend(self._explain()))
        if self._kind_name:
            self._nodes()
        lost = f"; {len(self.failures)} things could not be had (see failures.txt)" if self.failures else ""
        self._do("the list of failures", lambda: self._note_failures())
        return "\n".join([*explained, f"logs, events and descriptions are in {self._folder}{lost}"])

    def _explain(self) -> list[str]:
        """What failed in the newest runs, drivers too, each with its last words."""
        listed = self._ask("get", WORKFLOWS, "--namespace", NAMESPACE, "--sort-by", ".metadata.creationTimestamp", "--output", "json")
        said = []
        for workflow in reversed(json.loads(listed or '{"items": []}')["items"]):
            found = failures(workflow, self._last_lines)
            said += [f"{name_of(workflow)}:\n" + "\n".join(map(str, found))] if found else []
            if len(said) == MOST_RUNS:
                break
        if said:
            (self._folder / EXPLAINED).write_text("\n\n".join(said) + "\n")
        return said

    def _last_lines(self, pod: str) -> str:
        options = ("--namespace", NAMESPACE, "--container", "main", "--tail", str(LAST_LINES))
        return self._ask("logs", pod, *options, needed=False) or ""

    def _namespace(self, namespace: str) -> None:
        where = ("--namespace", namespace)
        self._write(f"{namespace}/events.txt", "get", "events", *where, "--sort-by", ".lastTimestamp", "--output", "wide")
        self._write(f"{namespace}/objects.txt", "describe", OBJECTS, *where)
        for kind in CUSTOM:
            self._write(f"{namespace}/{kind}.yaml", "get", kind, *where, "--output", "yaml")
        listed = self._ask("get", "pods", *where, "--sort-by", ".metadata.creationTimestamp", "--output", "name")
        for pod in [name for name in (listed or "").split() if name.startswith("pod/")][-MOST_PODS:]:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", pod.removeprefix("pod/"))
            options = (pod, *where, "--all-containers", "--prefix", "--timestamps", "--tail", str(LOG_LINES))
            self._write(f"{namespace}/logs/{name}.txt", "logs", *options)
            self._write(f"{namespace}/logs/{name}.previous.txt", "logs", "--previous", *options, needed=False)

    def _nodes(self) -> None:
        command = ["kind", "export", "logs", str(self._folder / "nodes"), "--name", self._kind_name]
        self._do("the logs of the nodes", lambda: subprocess.run(command, capture_output=True, timeout=300, check=True))

    def _write(self, file: str, *arguments: str, needed: bool = True) -> None:
        text = self._ask(*arguments, needed=needed)
        if text:
            path = self._folder / file

            def write() -> None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

            self._do(file, write)

    def _ask(self, *arguments: str, needed: bool = True) -> str | None:
        """Output of kubectl: what it could tell, even when it failed in the end."""
        command = self._kubectl.command(*arguments)
        try:
            ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS)
        except Exception as error:
            self.failures.append(f"kubectl {' '.join(arguments)}: {error}")
            return None
        if ended.returncode and needed:
            self.failures.append(f"kubectl {' '.join(arguments)}: {ended.stderr.strip()}")
        return ended.stdout

    def _do(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            self.failures.append(f"{what}: {error}")

    def _note_failures(self) -> None:
        if self.failures:
            (self._folder / "failures.txt").write_text("\n".join(self.failures) + "\n")
