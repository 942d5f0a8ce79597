"""The built images: small, without rights, without a compiler, and closed in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.images import build as image_build
from pipelines.images import table as images
from pipelines.local import containers
from pipelines.local.containers import DockerOptions
from tests.conftest import ROOT
from tests.images.conftest import Lab
from tests.support.ports import free_ports
from tests.support.processes import answering, answers
from tests.support.waiting import wait_until

BUILT = ("agents", "trainer", "offline-teacher", "sync")
LIMITS_MB = {"agents": 440, "trainer": 1050, "offline-teacher": 200, "sync": 250}
LIMIT_OF_THE_SET_MB = 1500
"""Of these four together on a node, with the base image once."""


def reference(lab: Lab, name: str) -> str:
    return lab.table.newest[name].reference


@pytest.mark.parametrize("name", BUILT)
def test_the_image_is_small_and_described(lab: Lab, name: str) -> None:
    image = lab.client.images.get(reference(lab, name))
    assert image.attrs["Size"] / 1e6 < LIMITS_MB[name]
    labels = image.labels
    assert labels["org.opencontainers.image.version"] == reference(lab, name).rpartition(":")[2]
    assert labels["org.opencontainers.image.title"].startswith("TutorLoop")
    assert labels["org.opencontainers.image.base.name"] == images.arguments(name)["BASE_IMAGE"]
    assert image.attrs["Config"]["User"] == "65532:65532"


def test_the_set_is_small_on_a_node(lab: Lab) -> None:
    """A node keeps layers unpacked and each one once."""
    base = lab.client.images.get(images.arguments("agents")["BASE_IMAGE"])
    layers = base.attrs["RootFS"]["Layers"]
    total = base.attrs["Size"]
    for name in BUILT:
        image = lab.client.images.get(reference(lab, name))
        assert image.attrs["RootFS"]["Layers"][: len(layers)] == layers, f"{name} was built on another base image: build it again"
        total += image.attrs["Size"] - base.attrs["Size"]
    assert total / 1e6 < LIMIT_OF_THE_SET_MB


def shell(lab: Lab, name: str, script: str, options: DockerOptions) -> tuple[int, str]:
    """Run a script in an image as a task runs: exit status and what it printed."""
    given = containers.arguments(options, {})
    container = lab.client.containers.run(reference(lab, name), ["sh", "-c", script], entrypoint="", detach=True, **given)
    try:
        return container.wait()["StatusCode"], container.logs().decode()
    finally:
        container.remove(force=True, v=True)


@pytest.fixture
def options(lab: Lab, tmp_path: Path) -> DockerOptions:
    return DockerOptions(teacher_image="", home=str(tmp_path), artifacts=str(tmp_path), network=lab.network)


@pytest.mark.parametrize("name", BUILT)
def test_a_task_is_closed_in(lab: Lab, name: str, options: DockerOptions) -> None:
    script = """
        id -u
        for tool in gcc cc c++ make; do command -v $tool && echo "compiler: $tool"; done
        for place in / /opt/tutorloop /opt/venv /usr /home; do touch $place/x 2>/dev/null && echo "wrote $place"; done
        touch /tmp/x && echo temporary
        grep -h CapEff /proc/self/status
        grep -h NoNewPrivs /proc/self/status
        ls /opt/tutorloop/components/*/component.py 2>/dev/null
        ls /run/secrets 2>/dev/null
    """
    _, output = shell(lab, name, script, options)
    lines = output.split("\n")
    assert lines[0] != "0"
    assert "temporary" in lines
    assert "compiler" not in output and "wrote" not in output and "component.py" not in output
    assert "CapEff:\t0000000000000000" in lines and "NoNewPrivs:\t1" in lines


def test_a_task_reaches_its_services_and_nothing_else(lab: Lab, options: DockerOptions) -> None:
    base = images.arguments("agents")["BASE_IMAGE"]
    outside = lab.client.containers.run(base, ["python3", "-m", "http.server", "8000"], detach=True)
    try:
        outside.reload()
        elsewhere = outside.attrs["NetworkSettings"]["IPAddress"]
        wait_until(lambda: answers(f"http://{elsewhere}:8000"))
        _, output = shell(lab, "agents", _attempts(lab, elsewhere), options)
    finally:
        outside.remove(force=True)
    found = dict(line.split(maxsplit=1) for line in output.strip().splitlines())
    assert [found[name] for name in ("teacher", "store", "gateway")] == ["open"] * 3
    assert found["address"] != "open" and found["name"] != "open"


def _attempts(lab: Lab, elsewhere: str) -> str:
    """A script that says for each service whether it is reached: patient with those that are there."""
    return f"""python3 - <<'PYTHON'
import socket
def reach(host, port, timeout):
    try:
        socket.create_connection((host, port), timeout=timeout).close()
        return "open"
    except OSError as error:
        return type(error).__name__
print("teacher", reach("{lab.teacher.host}", 8000, 60))
print("store", reach("{lab.store.host}", 8333, 60))
print("gateway", reach("{lab.gateway.host}", 9091, 60))
print("address", reach("{elsewhere}", 8000, 3))
print("name", reach("example.org", 443, 3))
PYTHON"""


def test_agents_hold_no_torch_and_the_trainer_the_cpu_build(lab: Lab, options: DockerOptions) -> None:
    status, _ = shell(lab, "agents", "python3 -c 'import torch'", options)
    assert status == 1
    status, output = shell(lab, "trainer", "python3 -c 'import torch; print(torch.__version__, torch.cuda.is_available())'", options)
    assert (status, output.strip()) == (0, "2.13.0+cpu False")


NEEDED = """
import os, torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils.data import DataLoader

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 16
    def __getitem__(self, index):
        return torch.full((1000,), index)

def work(rank):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")
    dist.init_process_group("gloo", rank=rank, world_size=2)
    total = torch.ones(4) * (rank + 1)
    dist.all_reduce(total)
    assert total.tolist() == [3.0] * 4
    dist.destroy_process_group()

if __name__ == "__main__":
    for strategy in ("file_descriptor", "file_system"):
        mp.set_sharing_strategy(strategy)
        assert sum(int(batch.sum()) for batch in DataLoader(Rows(), 4, num_workers=2)) == 120000
    mp.spawn(work, nprocs=2)
    import datasets, pyarrow.dataset, pyarrow.fs
    rows = datasets.Dataset.from_list([{"text": "a", "number": 1}] * 8)
    for kind in ("parquet", "json", "csv"):
        getattr(rows, "to_" + kind)("/tmp/rows." + kind)
        assert len(datasets.load_dataset(kind, data_files="/tmp/rows." + kind, split="train")) == 8
    assert pyarrow.dataset.dataset("/tmp/rows.parquet").count_rows() == 8
    print("nothing is missed")
"""


def test_the_trainer_misses_nothing_of_what_was_left_out(lab: Lab, options: DockerOptions) -> None:
    """Processes that share tensors, training over several processes, and every format of data sets."""
    script = f"cat >/tmp/needed.py <<'PYTHON'\n{NEEDED}\nPYTHON\npython3 /tmp/needed.py"
    status, output = shell(lab, "trainer", script, options)
    assert status == 0 and "nothing is missed" in output, output


def test_building_again_does_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_build, "_docker", lambda *arguments, **more: pytest.fail("docker was asked to build"))
    table = {image.name: image for image in lab.table.images}
    built = image_build.build("agents", arguments=table["agents"].arguments)
    assert built == table["agents"]


def test_pushed_images_are_named_by_digest(lab: Lab, tmp_path: Path) -> None:
    """With a real registry on this machine, from which the image is then pulled."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("no registry server: apt-get install docker-registry")
    [port] = free_ports(1)
    config = f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    (tmp_path / "config.yml").write_text(config)
    with answering([program, "serve", str(tmp_path / "config.yml")], tmp_path / "server", f"http://127.0.0.1:{port}/v2/", seconds=120):
        prefix = f"127.0.0.1:{port}/acme"
        table = lab.table.newest["offline-teacher"]
        local = f"{prefix}/{images.REPOSITORIES['offline-teacher']}:{table.version}"
        subprocess.run(["docker", "tag", table.reference, local], check=True)
        command = [sys.executable, "-c", "from pipelines.cli.main import main; main()", "images", "build", "offline-teacher", "--push"]
        command += ["--registry", prefix, "--table", str(tmp_path / "table.json")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        (pushed,) = images.read_table(str(tmp_path / "table.json")).images
        assert pushed.reference.startswith(f"{prefix}/{images.REPOSITORIES['offline-teacher']}@sha256:")
        subprocess.run(["docker", "rmi", local, pushed.reference], capture_output=True)
        subprocess.run(["docker", "pull", "--quiet", pushed.reference], check=True, capture_output=True)
        subprocess.run(["docker", "rmi", pushed.reference], check=True, capture_output=True)
