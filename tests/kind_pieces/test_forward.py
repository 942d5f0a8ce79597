"""Forwarded ports, with a real process that forwards to a real server as kubectl does."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.kind import forward as forward_module
from tests.kind.cluster import Kubectl
from tests.kind.commands import CommandError
from tests.kind.forward import Forward, forwarded
from tests.kind_pieces.programs import script

KUBECTL = """
import pathlib, socket, sys, threading
folder = pathlib.Path({folder!r})
(folder / "arguments").write_text(" ".join(sys.argv[1:]))
with open(folder / "starts", "a") as starts:
    starts.write("x")
if (folder / "refuse").exists():
    sys.exit("error: unable to forward port because pod is not running. Current status=Pending")
server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
print("Forwarding from 127.0.0.1:%d -> 8888" % port, flush=True)
print("Forwarding from [::1]:%d -> 8888" % port, flush=True)
while True:
    here, _ = server.accept()
    there = socket.create_connection(("127.0.0.1", {port}))
    # kubectl says so for every connection: an unread pipe would stop it in the end.
    print("Handling connection for %d" % port + " " * 20_000, flush=True)
    def pump(source, sink):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.close()
    for pair in ((here, there), (there, here)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[int]:
    """Port of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield found.server_address[1]
        found.shutdown()


@pytest.fixture
def folder(tmp_path: Path, server: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a kubectl that forwards to the server."""
    script(tmp_path / "kubectl", KUBECTL.format(folder=str(tmp_path), port=server))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def hello(forward: Forward) -> str:
    with urllib.request.urlopen(forward.url(), timeout=120) as response:
        return str(response.read().decode())


def alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_the_service_is_reached_and_kubectl_ends_with_the_block(folder: Path) -> None:
    with forwarded(Kubectl("lab"), "kubeflow", "ml-pipeline", 8888) as forward:
        assert forward.process_id == 0, "nothing is started before it is needed"
        assert hello(forward) == "hello"
        process = forward.process_id
        assert alive(process)
        assert (folder / "arguments").read_text() == "--context lab port-forward --namespace kubeflow service/ml-pipeline :8888"
    assert not alive(process)


def test_many_connections_do_not_stop_it(folder: Path) -> None:
    with forwarded(Kubectl("lab"), "kubeflow", "ml-pipeline", 8888) as forward:
        assert [hello(forward) for _ in range(10)] == ["hello"] * 10
        assert (folder / "starts").read_text() == "x"


def test_a_kubectl_that_has_ended_is_started_again(folder: Path) -> None:
    with forwarded(Kubectl("lab"), "kubeflow", "ml-pipeline", 8888) as forward:
        hello(forward)
        os.kill(forward.process_id, 9)
        while forward.process_id:
            time.sleep(0.01)
        assert hello(forward) == "hello"
        forward.again()
        assert hello(forward) == "hello"
        assert (folder / "starts").read_text() == "xxx"


def test_it_waits_for_a_pod_that_does_not_run_yet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "refuse").touch()

    def begin_to_run(seconds: float) -> None:
        (folder / "refuse").unlink(missing_ok=True)

    monkeypatch.setattr(forward_module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=begin_to_run))
    with forwarded(Kubectl("lab"), "kubeflow", "ml-pipeline", 8888) as forward:
        assert hello(forward) == "hello"
    assert (folder / "starts").read_text().startswith("xx"), "kubectl has refused once"


def test_what_kubectl_says_is_told_when_it_never_works(folder: Path) -> None:
    (folder / "refuse").touch()
    forward = Forward(Kubectl("lab"), "kubeflow", "ml-pipeline", 8888, patience_s=0.5)
    with pytest.raises(CommandError, match=r"ml-pipeline\.kubeflow:8888 .*Current status=Pending"):
        forward.url()
    assert forward.process_id == 0
