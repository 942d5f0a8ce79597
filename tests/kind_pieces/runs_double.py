"""The double of Kubeflow's API server with runs: they are started, watched and ended as at tag 2.17.0 (server/run_server.go)."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from tests.kubeflow.cluster import Refusal
from tests.kubeflow.server import Double, Lost, _Handler


@dataclass
class Runs:
    """What the double knows of runs.

    Attributes:
        rows: Runs by id, as the API shows them.
        coming: States that a run goes through, one at each look; the last one stays.
        lose: So many calls are not answered.
        asked: Bodies of the calls that start a run.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    coming: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    lose: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)

    def start(self, made: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        self.rows[made["run_id"]] = {**made, "recurring_run_id": "", "left": list(self.coming)}
        return self.look(made["run_id"])

    def look(self, key: str) -> dict[str, Any]:
        if key not in self.rows:
            raise Refusal(404, f"Run {key} not found")
        row = self.rows[key]
        row["state"] = row["left"].pop(0) if len(row["left"]) > 1 else row["left"][0]
        return {name: value for name, value in row.items() if name != "left"}

    def terminate(self, key: str) -> dict[str, Any]:
        self.look(key)
        self.rows[key]["left"] = ["CANCELED"]
        return {}


@contextlib.contextmanager
def serving_runs() -> Iterator[tuple[Double, Runs]]:
    """Run it on a port of the operating system's choice."""
    double, runs = Double(), Runs()

    class Handler(_Handler):
        served = double

        def _answer(self, path: str, query: dict[str, str], body: bytes) -> Any:
            if runs.lose:
                runs.lose -= 1
                raise Lost
            kind, _, rest = path.partition("/")
            key, _, verb = rest.partition(":")
            if kind == "runs" and self.command == "POST" and not key:
                given = json.loads(body)
                return runs.start(double.cluster.create_run(given), given)
            if kind == "runs" and self.command == "POST" and verb == "terminate":
                return runs.terminate(key)
            if kind == "runs" and key:
                return runs.look(key)
            if kind == "pipelines" and "/versions/" in key and self.command == "GET":
                return double.cluster.get(double.cluster.versions, key.rpartition("/")[2], "PipelineVersion")
            return super()._answer(path, query, body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield double, runs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
