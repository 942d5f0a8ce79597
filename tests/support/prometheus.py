"""Real Prometheus, Pushgateway and Alertmanager for tests, on free ports of the loopback interface."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_ports
from tests.support.processes import answering

SERVERS = {
    "pushgateway": ("prometheus-pushgateway", "pushgateway"),
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
"""Server to the names that Debian and the projects themselves give to its program."""


def program(*names: str) -> str:
    """Path of the first program that is installed; skips where there is none."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed (on Debian: apt-get install prometheus prometheus-alertmanager prometheus-pushgateway)")
    return found


@contextlib.contextmanager
def running(server: str, folder: Path, *arguments: str) -> Iterator[str]:
    """Run one of :data:`SERVERS` and yield its address once it is ready.

    Args:
        server: Which.
        folder: Its data and log go here.
        arguments: Besides the address to listen on.
    """
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = [program(*SERVERS[server]), f"--web.listen-address=127.0.0.1:{port}", *arguments]
    with answering(command, folder, f"{address}/-/ready"):
        yield address


def get(address: str, path: str, **parameters: str) -> Any:
    """The JSON that a server answers.

    Raises:
        AssertionError: It answers with an error; holds what it says.
    """
    url = f"{address}{path}" + (f"?{urllib.parse.urlencode(parameters)}" if parameters else "")
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.code} {error.read().decode()}") from error


def pushed(gateway: str) -> list[dict[str, Any]]:
    """All groups of a Pushgateway: their ``labels`` and their metrics by name."""
    groups: list[dict[str, Any]] = get(gateway, "/api/v1/metrics")["data"]
    return groups


@pytest.fixture
def pushgateway(tmp_path: Path) -> Iterator[str]:
    """Address of an empty Pushgateway."""
    with running("pushgateway", tmp_path / "pushgateway", f"--persistence.file={tmp_path / 'pushgateway.data'}") as address:
        yield address
