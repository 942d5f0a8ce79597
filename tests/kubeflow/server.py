"""The HTTP side of the double: paths, paging, filters, uploads and errors as Kubeflow's gateway has them, and accidents on demand."""

from __future__ import annotations

import base64
import contextlib
import datetime
import email
import email.policy
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.kubeflow.cluster import CODES, Cluster, Refusal

PREFIX = "/apis/v2beta1/"
DEFAULT_PAGE, LARGEST_PAGE = 20, 200
COLUMNS = {
    "experiments": {"name": "display_name", "display_name": "display_name", "created_at": "created_at", "experiment_id": "experiment_id"},
    "pipelines": {"name": "name", "display_name": "display_name", "created_at": "created_at", "pipeline_id": "pipeline_id"},
    "versions": {"name": "name", "display_name": "display_name", "created_at": "created_at", "description": "description"},
    "jobs": {"name": "display_name", "display_name": "display_name", "created_at": "created_at", "description": "description"},
    "runs": {"name": "display_name", "display_name": "display_name", "created_at": "created_at", "description": "description"},
}
KEYS = {
    "experiments": "experiment_id",
    "pipelines": "pipeline_id",
    "versions": "pipeline_version_id",
    "jobs": "recurring_run_id",
    "runs": "run_id",
}


@dataclass
class Double:
    """A running double.

    Attributes:
        url: Its address.
        cluster: What it keeps.
        calls: Method and path of every call since :meth:`forget`.
        namespaces: What calls said about the namespace, in query or body.
        accident: Called with the number of each call, 1-based, and ``before`` it is carried out, when it is ``done`` and when it is
            ``answered``; may raise :class:`Lost` to drop the connection, or :class:`Refusal`.
        token: Bearer token that calls need; none when empty.
    """

    url: str = ""
    cluster: Cluster = field(default_factory=Cluster)
    calls: list[tuple[str, str]] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    accident: Callable[[int, str], None] | None = None
    token: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def forget(self) -> None:
        """Empty the log of calls."""
        self.calls.clear()

    @property
    def changes(self) -> list[tuple[str, str]]:
        """Calls that were not mere reads."""
        return [call for call in self.calls if call[0] != "GET"]


class Lost(Exception):
    """The connection breaks, now."""


@contextlib.contextmanager
def serving(cluster: Cluster | None = None) -> Iterator[Double]:
    """Run a double on a port of the operating system's choice."""
    double = Double(cluster=cluster or Cluster())

    class Handler(_Handler):
        served = double

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: Double
    protocol_version = "HTTP/1.1"
    # Head and body in one packet, or the client's kernel waits for the second one.
    wbufsize = 65_536

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path, query = unquote(url.path), {name: values[0] for name, values in parse_qs(url.query).items()}
        double = self.served
        try:
            with double.lock:
                double.calls.append((self.command, path))
                number = len(double.calls)
                uploaded = path.startswith(f"{PREFIX}pipelines/upload")
                try:
                    self._accident(number, "before")
                    status, answer = 200, self._answer(path.removeprefix(PREFIX), query, body)
                except Refusal as refusal:
                    status, answer = refusal.status, _error(refusal, uploaded)
                self._accident(number, "done")
                self._send(status, answer)
                self._accident(number, "answered")
        except (Lost, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _accident(self, number: int, moment: str) -> None:
        if self.served.accident:
            self.served.accident(number, moment)

    def _send(self, status: int, answer: Any) -> None:
        data = json.dumps(_api(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _answer(self, path: str, query: dict[str, str], body: bytes) -> Any:
        cluster, method = self.served.cluster, self.command
        if self.served.token and self.headers.get("Authorization") != f"Bearer {self.served.token}":
            raise Refusal(401, "Request header error: there is no user identity header.")
        self.served.namespaces.append(query.get("namespace", ""))
        kind, _, rest = path.partition("/")
        key, _, verb = rest.partition(":")
        given = json.loads(body) if body and self.headers.get("Content-Type") == "application/json" else {}
        if "namespace" in given:
            self.served.namespaces[-1] = given["namespace"]
        match method, kind, key, verb:
            case "GET", "healthz", _, _:
                return {"multi_user": False}
            case "GET", "experiments", "", _:
                return self._list("experiments", list(cluster.experiments.values()), query, "experiments")
            case "POST", "experiments", "", _:
                return cluster.create_experiment(given)
            case "GET", "experiments", _, _:
                return cluster.get(cluster.experiments, key, "Experiment")
            case "POST", "experiments", _, ("archive" | "unarchive"):
                return cluster.archive_experiment(key, "ARCHIVED" if verb == "archive" else "AVAILABLE")
            case "GET", "pipelines", "", _:
                return self._list("pipelines", list(cluster.pipelines.values()), query, "pipelines")
            case "POST", "pipelines", "", _:
                return cluster.create_pipeline(given)
            case "POST", "pipelines", "upload", _:
                made = cluster.create_pipeline({"name": query["name"], "description": query.get("description", "")})
                cluster.create_version(made["pipeline_id"], made["name"], "", self._uploaded(body))
                return made
            case "POST", "pipelines", "upload_version", _:
                return cluster.create_version(query["pipelineid"], query["name"], query.get("description", ""), self._uploaded(body))
            case "GET", "pipelines", _, _ if key.startswith("names/"):
                name = key.removeprefix("names/")
                found = next((item for item in cluster.pipelines.values() if item["name"] == name), None)
                if found is None:
                    raise Refusal(404, f"Namespace/Pipeline /{name} not found")
                return found
            case "GET", "pipelines", _, _ if key.endswith("/versions"):
                own = [item for item in cluster.versions.values() if item["pipeline_id"] == key.removesuffix("/versions")]
                return self._list("versions", own, query, "pipeline_versions")
            case "GET", "pipelines", _, _:
                return cluster.get(cluster.pipelines, key, "Pipeline")
            case "GET", "recurringruns", "", _:
                return self._list("jobs", list(cluster.jobs.values()), query, "recurringRuns")
            case "POST", "recurringruns", "", _:
                return cluster.create_job(given)
            case "GET", "recurringruns", _, _:
                return cluster.get(cluster.jobs, key, "Job")
            case "POST", "recurringruns", _, ("enable" | "disable"):
                return cluster.set_mode(key, verb == "enable")
            case "DELETE", "recurringruns", _, _:
                return cluster.delete_job(key, query.get("propagation_policy", ""))
            case "GET", "runs", "", _:
                rows = [{"run_id": item.id, "recurring_run_id": item.recurring_run, "created_at": 0} for item in cluster.workflows]
                return self._list("runs", [*rows, *cluster.runs.values()], query, "runs")
            case "POST", "runs", "", _:
                return cluster.create_run(given)
        raise Refusal(404, "Not Found")

    def _uploaded(self, body: bytes) -> str:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
        for part in message.iter_parts():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                if not str(part.get_filename()).endswith((".yaml", ".yml")):
                    raise Refusal(400, "Failed to read a pipeline spec file")
                content = part.get_payload(decode=True)
                assert isinstance(content, bytes)
                return content.decode()
        raise Refusal(400, "Failed to read pipeline from file")

    def _list(self, table: str, rows: list[dict[str, Any]], query: dict[str, str], name: str) -> dict[str, Any]:
        key = KEYS[table]
        column, descending, wanted = _options(table, query)
        rows = [row for row in rows if all(row.get(field) == value for field, value in wanted)]
        size = int(query.get("page_size") or 0)
        if size < 0:
            raise Refusal(400, f"The page size should be greater than 0. Got {size}")
        size = min(size or DEFAULT_PAGE, LARGEST_PAGE)
        ordered = sorted(rows, key=lambda row: (row[column], row[key]), reverse=descending)
        token = query.get("page_token")
        if token:
            start = json.loads(base64.b64decode(token))
            if start["options"] != [column, descending, [list(pair) for pair in wanted]] and ("sort_by" in query or "filter" in query):
                raise Refusal(400, "page token does not match the supplied sort by and/or filtering criteria")
            at = (start["value"], start["key"])
            ordered = [row for row in ordered if ((row[column], row[key]) <= at if descending else (row[column], row[key]) >= at)]
        answer: dict[str, Any] = {name: ordered[:size], "total_size": len(rows)}
        if len(ordered) > size:
            following = {"value": ordered[size][column], "key": ordered[size][key], "options": [column, descending, wanted]}
            answer["next_page_token"] = base64.b64encode(json.dumps(following).encode()).decode()
        return answer


def _options(table: str, query: dict[str, str]) -> tuple[str, bool, list[tuple[str, str]]]:
    words = (query.get("sort_by") or "created_at").lower().split()
    if words[0] not in COLUMNS[table] or (len(words) > 1 and words[1] not in ("asc", "desc")):
        raise Refusal(400, f'Invalid sorting field: "{words[0]}"')
    wanted = []
    for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
        if predicate["operation"] not in ("EQUALS", 1) or predicate["key"] not in COLUMNS[table]:
            raise Refusal(400, f"no support for filtering on unrecognized field {predicate['key']}")
        value = predicate.get("stringValue") or predicate.get("string_value")
        wanted.append((COLUMNS[table][predicate["key"]], value))
    return COLUMNS[table][words[0]], words[-1] == "desc", wanted


def _error(refusal: Refusal, uploaded: bool) -> dict[str, Any]:
    """Uploads do not go through the gateway, and have errors of another form."""
    if uploaded:
        return {"error_message": refusal.message, "error_details": refusal.message}
    code = CODES.get(refusal.status, 13)
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": refusal.message}
    return {"code": code, "message": refusal.message, "details": [detail]}


def _api(value: Any) -> Any:
    """The gateway leaves out what is empty, and writes times as text; what a user gave stays as it is."""
    if isinstance(value, list):
        return [_api(item) for item in value]
    if not isinstance(value, dict):
        return value
    written = {}
    for name, item in value.items():
        if name.endswith("_at"):
            written[name] = datetime.datetime.fromtimestamp(item, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        elif item not in ("", 0, False, None, [], {}):
            written[name] = item if name in ("parameters", "pipeline_spec") else _api(item)
    return written
