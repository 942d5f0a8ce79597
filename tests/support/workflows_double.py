"""A double of the Kubernetes API with Argo's workflows: pages of lists, watches over chunked HTTP, versions that expire, logs of pods."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.kubernetes_double import _status

NAMESPACE = "kubeflow"
WORKFLOWS = f"/apis/argoproj.io/v1alpha1/namespaces/{NAMESPACE}/workflows"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods/"
TOKEN = "token-of-the-keeper"


@dataclass
class Workflows:
    """What there is.

    Attributes:
        logs: Logs by pod.
        expired: Versions up to this one are too old to watch from.
        away: Whether every request is answered with 503.
        forbidden: Verbs that the Role does not allow.
        cut: Watches break in the middle of an event so many times.
        lists: Times that everything was listed from the beginning.
        watches: Versions that watches began from.
    """

    url: str = ""
    logs: dict[str, str] = field(default_factory=dict)
    expired: int = 0
    away: bool = False
    forbidden: set[str] = field(default_factory=set)
    cut: int = 0
    lists: int = 0
    watches: list[str] = field(default_factory=list)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    version: int = 100
    changed: threading.Condition = field(default_factory=threading.Condition)
    broken: int = 0

    def put(self, workflow: dict[str, Any]) -> None:
        """Make or change a workflow."""
        with self.changed:
            name = workflow["metadata"]["name"]
            self._happened("MODIFIED" if name in self.objects else "ADDED", workflow)
            self.objects[name] = workflow

    def delete(self, name: str) -> None:
        """Delete a workflow."""
        with self.changed:
            self._happened("DELETED", self.objects.pop(name))

    def _happened(self, kind: str, workflow: dict[str, Any]) -> None:
        self.version += 1
        workflow["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, kind, workflow))
        self.changed.notify_all()

    def break_watches(self) -> None:
        """Drop the connections of all watches, now."""
        with self.changed:
            self.broken += 1
            self.changed.notify_all()

    def kubeconfig(self, folder: Path) -> Path:
        """A configuration file for clients."""
        path = folder / "kubeconfig"
        user = {"name": "keeper", "user": {"token": TOKEN}}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "clusters": [{"name": "test", "cluster": {"server": self.url}}],
                    "users": [user],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "keeper"}}],
                }
            )
        )
        return path


@contextlib.contextmanager
def serving(workflows: Workflows | None = None, port: int = 0) -> Iterator[Workflows]:
    """Run it."""
    double = workflows or Workflows()

    class Handler(_Handler):
        served = double

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield double
    finally:
        double.break_watches()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Workflows
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        verb = "log" if url.path.startswith(PODS) else "watch" if query.get("watch") in ("true", "True") else "list"
        double = self.served
        if double.away:
            self._send(*_status(503, "ServiceUnavailable", "apiserver is shutting down"))
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(*_status(401, "Unauthorized", "Unauthorized"))
        elif verb in double.forbidden:
            self._send(*_status(403, "Forbidden", f'User "keeper" cannot {verb} resource "workflows" in API group "argoproj.io"'))
        elif verb == "log":
            pod = url.path.removeprefix(PODS).removesuffix("/log")
            found = double.logs.get(pod)
            self._send(200, found) if found is not None else self._send(*_status(404, "NotFound", f'pods "{pod}" not found'))
        elif url.path != WORKFLOWS:
            self._send(404, "404 page not found\n")
        elif verb == "watch":
            self._watch(query)
        else:
            self._list(query)

    def _send(self, code: int, answer: Any) -> None:
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _list(self, query: dict[str, str]) -> None:
        double = self.served
        with double.changed:
            version, start = query.get("continue", f"{double.version}:").split(":")
            double.lists += not start
            items = sorted((item for item in double.objects.values() if _fits(item, query)), key=lambda item: item["metadata"]["name"])
            items = [item for item in items if item["metadata"]["name"] > start]
            size = int(query.get("limit") or 500)
            metadata = {"resourceVersion": version}
            if len(items) > size:
                metadata["continue"] = f"{version}:{items[size - 1]['metadata']['name']}"
            self._send(200, {"apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowList", "metadata": metadata, "items": items[:size]})

    def _watch(self, query: dict[str, str]) -> None:
        double, version = self.served, int(query["resourceVersion"])
        until = time.monotonic() + int(query["timeoutSeconds"])
        double.watches.append(str(version))
        broken = double.broken
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            if version < double.expired:
                self._chunk({"type": "ERROR", "object": _status(410, "Expired", f"too old resource version: {version}")[1]})
            while time.monotonic() < until and version >= double.expired:
                with double.changed:
                    news = [event for event in double.log if event[0] > version and _fits(event[2], query)]
                    if not news:
                        double.changed.wait(min(0.2, max(until - time.monotonic(), 0)))
                if double.broken != broken:
                    self.close_connection = True
                    return
                for number, kind, item in news:
                    if double.cut:
                        double.cut -= 1
                        self.wfile.write(b"40\r\n" + json.dumps({"type": kind, "object": item}).encode()[:0x20])
                        self.wfile.flush()
                        self.close_connection = True
                        return
                    version = number
                    self._chunk({"type": kind, "object": item})
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _chunk(self, event: Any) -> None:
        data = json.dumps(event).encode() + b"\n"
        # In two pieces: a line may come in any number of them.
        for part in (data[:50], data[50:]):
            if part:
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                self.wfile.flush()


def _fits(item: dict[str, Any], query: dict[str, str]) -> bool:
    key, separator, value = query.get("labelSelector", "").partition("=")
    labels = item["metadata"].get("labels", {})
    return not key or (labels.get(key) == value if separator else key in labels)
