"""A double of the Kubernetes API with Kubeflow Trainer behind it: its TrainJobs really run, as processes of this machine.

It knows the calls that a launcher of TrainJobs makes and answers them as an API server does: status objects for errors, 409 for a
name that is taken, 403 for what a Role does not allow. The pods of a TrainJob get the environment that the torch plugin of
Kubeflow Trainer sets; a pod that fails is replaced, as a Job does, until its retries are used up.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "kubeflow"
TRAINJOBS = f"/apis/trainer.kubeflow.org/v1alpha1/namespaces/{NAMESPACE}/trainjobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
SPEC_FIELDS = {"runtimeRef", "trainer", "runtimePatches", "suspend", "activeDeadlineSeconds", "managedBy", "initializer"}
TRAINER_FIELDS = {"image", "command", "args", "env", "numNodes", "resourcesPerNode", "numProcPerNode"}


class Node:
    """A pod of a TrainJob and the processes that took its place."""

    def __init__(self, job: str, index: int, command: list[str], environment: dict[str, str], folder: Path, retries: int) -> None:
        self.name = f"{job}-node-0-{index}-x7k2p"
        self.job = job
        self.starts = 0
        self.log = folder / f"{self.name}.log"
        self.stopped = False
        self._command = [sys.executable if part == "python3" else part for part in command]
        self._folder = folder / self.name
        self._folder.mkdir()
        self._environment = {**environment, "TMPDIR": str(self._folder), "HOME": str(self._folder)}
        self._retries = retries
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, cwd=self._folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def phase(self) -> str:
        """The pod's phase; a pod that failed is replaced in passing."""
        status = self.process.poll()
        if status is None:
            return "Running"
        if status and self.starts <= self._retries and not self.stopped:
            self.process = self._start()
            return "Running"
        return "Failed" if status else "Succeeded"

    def preempt(self) -> None:
        """Take the machine away."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it for good."""
        self.stopped = True
        if self.process.poll() is None:
            self.preempt()
        self.process.wait()


class KubernetesDouble:
    """An API server for one namespace.

    Args:
        folder: Where pods have their disks and logs.
        environment: What the Secrets and ConfigMaps that the task's pod refers to hold, by variable.
        retries: Pods that a Job starts in the place of failed ones.
        command: Run in place of a TrainJob's command; None for the real one.

    Attributes:
        requests: Method and path of all requests.
        jobs: TrainJobs by name.
        forbidden: Pairs of verb and resource that the Role does not allow.
        installed: Whether there is a Kubeflow Trainer.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *, retries: int = 0, command: list[str] | None = None) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.nodes: dict[str, list[Node]] = {}
        self.forbidden: set[tuple[str, str]] = set()
        self.installed = True
        self.task_pod = task_pod(environment)
        self._environment = environment
        self._retries = retries
        self._command = command
        self._lock = threading.RLock()
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double._answer(self, "GET")

            def do_POST(self) -> None:
                double._answer(self, "POST")

            def do_DELETE(self) -> None:
                double._answer(self, "DELETE")

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._controller = threading.Thread(target=self._control, daemon=True)
        self._closed = threading.Event()
        self._controller.start()

    def kubeconfig(self) -> Path:
        """A configuration file for clients."""
        path = self.folder / "kubeconfig"
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": address}}],
            "users": [{"name": "task", "user": {"token": "token-of-the-task"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "task", "namespace": NAMESPACE}}],
        }
        path.write_text(json.dumps(config))
        return path

    def close(self) -> None:
        """End the server and all pods."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._controller.join()
        for nodes in self.nodes.values():
            for node in nodes:
                node.stop()

    def _control(self) -> None:
        """What Trainer's controllers do: bring the state of the pods into the status of their TrainJob."""
        while not self._closed.wait(0.2):
            with self._lock:
                for name, job in self.jobs.items():
                    phases = [node.phase() for node in self.nodes[name]]
                    done = {"Complete": all(phase == "Succeeded" for phase in phases), "Failed": "Failed" in phases}
                    ready = int("Running" in phases)
                    job["status"]["jobsStatus"] = [
                        {"name": "node", "ready": ready, "succeeded": 0, "failed": 0, "active": 1, "suspended": 0}
                    ]
                    for kind, holds in done.items():
                        if holds and not job["status"]["conditions"]:
                            text = "jobset failed due to one or more job failures" if kind == "Failed" else "jobset completed successfully"
                            reason = "FailedJobs" if kind == "Failed" else "AllJobsCompleted"
                            job["status"]["conditions"] = [{"type": kind, "status": "True", "reason": reason, "message": text}]
                            for node in self.nodes[name] if kind == "Failed" else []:
                                node.stop()

    def _answer(self, handler: BaseHTTPRequestHandler, method: str) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else {}
        with self._lock:
            self.requests.append((method, parts.path))
            status, answer = self._route(method, parts.path, parse_qs(parts.query), body, handler.headers.get("Authorization", ""))
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _route(self, method: str, path: str, query: dict[str, list[str]], body: Any, token: str) -> tuple[int, Any]:
        if token != "Bearer token-of-the-task":
            return _status(401, "Unauthorized", "Unauthorized")
        named = re.fullmatch(r"(.*/(?:pods|trainjobs))/([^/]+)(/log)?", path)
        base, name, log = (named[1], named[2], named[3]) if named else (path, "", None)
        resource = "trainjobs" if base == TRAINJOBS else "pods/log" if log else "pods"
        verb = {"POST": "create", "DELETE": "delete"}.get(method, "get" if name else "list")
        if (verb, resource) in self.forbidden:
            who = f"system:serviceaccount:{NAMESPACE}:tutorloop-run"
            text = f'{resource} is forbidden: User "{who}" cannot {verb} resource "{resource}" in the namespace "{NAMESPACE}"'
            return _status(403, "Forbidden", text)
        if base == TRAINJOBS:
            return self._trainjobs(verb, name, body) if self.installed else (404, "404 page not found\n")
        if base != PODS:
            return 404, "404 page not found\n"
        return self._pods(name, log, query)

    def _trainjobs(self, verb: str, name: str, body: Any) -> tuple[int, Any]:
        if verb == "create":
            return self._create(body)
        if name not in self.jobs:
            return _status(404, "NotFound", f'trainjobs.trainer.kubeflow.org "{name}" not found')
        if verb == "delete":
            for node in self.nodes[name]:
                node.stop()
            del self.jobs[name]
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return 200, self.jobs[name]

    def _create(self, job: dict[str, Any]) -> tuple[int, Any]:
        name, spec = job["metadata"]["name"], job["spec"]
        if name in self.jobs:
            return _status(409, "AlreadyExists", f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        trainer = spec["trainer"]
        reserved = RESERVED & {item["name"] for item in trainer["env"]}
        unknown = (spec.keys() - SPEC_FIELDS) | (trainer.keys() - TRAINER_FIELDS)
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63 or reserved or unknown:
            return _status(422, "Invalid", f'TrainJob "{name}" is invalid: {sorted(reserved | unknown)}')
        self.created.append(json.loads(json.dumps(job)))
        job["metadata"]["uid"] = f"uid-{len(self.created)}"
        job["status"] = {"conditions": [], "jobsStatus": []}
        (port,) = free_ports(1)
        shared = {item["name"]: item.get("value", self._environment.get(item["name"], "")) for item in trainer["env"]}
        shared |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PET_NNODES": str(trainer["numNodes"])}
        shared |= {"PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]), "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}
        disks = self.folder / f"pods-{len(self.created)}"
        disks.mkdir()
        command = self._command or trainer["command"]
        self.jobs[name] = job
        self.nodes[name] = [
            Node(name, index, command, {**shared, "PET_NODE_RANK": str(index)}, disks, self._retries)
            for index in range(trainer["numNodes"])
        ]
        return 201, job

    def _pods(self, name: str, log: str | None, query: dict[str, list[str]]) -> tuple[int, Any]:
        if name == self.task_pod["metadata"]["name"]:
            return 200, self.task_pod
        nodes = [node for group in self.nodes.values() for node in group]
        if not name:
            job = query["labelSelector"][0].removeprefix("jobset.sigs.k8s.io/jobset-name=")
            items = [{"metadata": {"name": node.name}, "status": {"phase": node.phase()}} for node in nodes if node.job == job]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        for node in nodes:
            if node.name == name and log:
                lines = node.log.read_text(errors="replace").splitlines()
                return 200, "\n".join(lines[-int(query["tailLines"][0]) :]) + "\n"
        return _status(404, "NotFound", f'pods "{name}" not found')


def _status(code: int, reason: str, message: str) -> tuple[int, Any]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code}


def task_pod(environment: dict[str, str]) -> dict[str, Any]:
    """The pod of a Kubeflow task whose environment comes from a Secret."""
    secret = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "tutorloop-store", "key": name}}} for name in environment]
    kubeflow = [
        {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "TUTORLOOP_RUN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['pipeline/runid']"}}},
        {"name": "ARGO_TEMPLATE", "value": "{}"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "orca-math-abc-system-container-impl-1",
            "namespace": NAMESPACE,
            "labels": {
                "tutorloop.dev/stage": "sft",
                "app.kubernetes.io/part-of": "tutorloop",
                "pipeline/runid": "1",
                "workflows.argoproj.io/workflow": "orca-math-abc",
            },
            "ownerReferences": [
                {
                    "apiVersion": "argoproj.io/v1alpha1",
                    "kind": "Workflow",
                    "name": "orca-math-abc",
                    "uid": "workflow-uid",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [
                {"name": "wait", "image": "argoexec:v4"},
                {"name": "main", "image": "registry.example/tutorloop/trainer-python@sha256:0abc", "env": [*secret, *kubeflow]},
            ],
        },
    }
