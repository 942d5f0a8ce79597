"""The compiled pipeline, every task in its container, everything that outlives a task in S3, metrics in a gateway."""

from __future__ import annotations

import contextlib
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from pipelines.runs import record as run_record
from tests.images.conftest import LATENCY_S, TABLE, Lab
from tests.local import command
from tests.local.command import digests, ledger, scores, until

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

SETTINGS = ("sft.epochs=20", "sft.checkpoint_seconds=0.3", "sampling.batch_size=2", "promotion.publish_rejected=true")
"""Long enough to be killed after a checkpoint and between two batches; published however so small a model does."""

SHARDS, CONCURRENCY = 2, 16
"""Of the smoke profile: tasks that ask at once, and what each has in flight."""
PAID_AT_THE_KILL = 100
"""About half of what synthesis asks."""


def settings(*more: str) -> list[str]:
    return [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]


def in_containers(lab: Lab, bucket: str, *more: str) -> list[str]:
    """Arguments of a run in the lab."""
    arguments = ["--runner", "docker", "--images", TABLE, "--network", lab.network, *lab.stores(bucket)]
    return [*arguments, *settings(f"teacher.base_url={lab.teacher_url}", *more)]


@pytest.fixture(scope="module")
def as_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the same run with tasks as processes."""
    home = tmp_path_factory.mktemp("processes")
    status, output = command.run(home, *settings())
    assert status == 0, output + command.log_of(home)[-5000:]
    return home / "latest"


@pytest.fixture(scope="module")
def bucket(lab: Lab) -> str:
    return lab.new_bucket()


@pytest.fixture(scope="module")
def home(lab: Lab, bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a finished run in containers."""
    home = tmp_path_factory.mktemp("containers")
    status, output = command.run(home, *in_containers(lab, bucket), environment=lab.environment())
    assert status == 0, output + command.log_of(home)[-5000:]
    return home


def test_containers_and_processes_come_to_the_same(home: Path, as_processes: Path) -> None:
    assert digests(home / "latest") == digests(as_processes)
    assert len(digests(as_processes)) == 6
    assert scores(command.latest(home)) == scores(run_record.read(as_processes))
    rows = {row.task + row.shard: (row.rows_in, row.rows_kept, row.dropped) for row in ledger(home / "latest")}
    assert rows == {row.task + row.shard: (row.rows_in, row.rows_kept, row.dropped) for row in ledger(as_processes)}


def test_answers_models_and_pointer_are_in_the_store(home: Path, lab: Lab, bucket: str) -> None:
    keys = lab.keys(bucket)
    assert any(key.startswith("responses/") for key in keys)
    versions = {key.split("/")[2] for key in keys if key.startswith("models/versions/")}
    assert len(versions) == 1 and any(key.endswith("model.safetensors") for key in keys)
    assert not [key for key in keys if key.startswith("checkpoints/") and "checkpoint-" in key], "finished trainings leave none"
    assert not (home / "shared" / "responses").exists(), "nothing of it is on this machine"


def test_metrics_are_in_the_gateway_and_in_the_runs_folder(home: Path, lab: Lab) -> None:
    with urllib.request.urlopen(f"{lab.gateway_url}/metrics", timeout=120) as response:
        text = response.read().decode()
    run = (home / "latest").resolve().name
    pushed = set(re.findall(rf'stage="(\w+)"[^\n]*run="{run}"|run="{run}"[^\n]*stage="(\w+)"', text))
    stages = {name for pair in pushed for name in pair if name}
    assert {"seeds", "synthesis", "solving", "contamination", "sft", "sampling", "judging", "preference_tuning", "evaluation"} <= stages
    files = [path.name for path in (home / "latest" / "metrics").glob("*.prom")]
    assert len(files) >= len({row.task + row.shard for row in ledger(home / "latest")})


def test_a_second_run_runs_nothing(home: Path, lab: Lab, bucket: str) -> None:
    paid = lab.teacher_counts()["paid"]
    status, output = command.run(home, *in_containers(lab, bucket), environment=lab.environment())
    assert status == 0, output
    again = command.latest(home)
    assert [stage.task for stage in again.stages if not stage.cached] == []
    # One short request asks whether the teacher is there.
    assert lab.teacher_counts()["paid"] == paid + 1


def test_nothing_is_left_of_the_containers(home: Path, lab: Lab) -> None:
    assert lab.client.containers.list(all=True, filters={"label": f"tutorloop.home={home.resolve()}"}) == []


def test_kills_and_outages_cost_time_and_nothing_else(lab: Lab, as_processes: Path, tmp_path: Path) -> None:
    """SIGKILL to the containers of synthesis, SFT and sampling; teacher and store away for a minute: one run bears it all."""
    bucket = lab.new_bucket()
    before = lab.teacher_counts()
    # Neither synthesis nor solving must be over before something is done to it.
    lab.set_latency(5)
    process = command.start(tmp_path, *in_containers(lab, bucket, "rounds=1"), environment=lab.environment())

    def kill(function: str, ready: Callable[[], Any]) -> None:
        until(ready, process, f"{function} was at work")
        for container in until(lambda: lab.tasks(tmp_path, function), process, f"{function} had a container"):
            # One of two shards may end by itself meanwhile.
            with contextlib.suppress(docker.errors.APIError):
                container.kill("SIGKILL")

    try:
        kill("synthesize", lambda: lab.teacher_counts()["paid"] > before["paid"] + PAID_AT_THE_KILL)
        until(lambda: lab.tasks(tmp_path, "solve") and not lab.tasks(tmp_path, "synthesize"), process, "only solving was at work")
        asked = lab.teacher_counts()["received"]
        until(lambda: lab.teacher_counts()["received"] > asked, process, "solving asked")
        services = (lab.teacher, lab.store)
        try:
            for service in services:
                service.leave()
            time.sleep(60)
        finally:
            for service in services:
                service.come_back()
        lab.set_latency(LATENCY_S)
        kill("sft", lambda: any(key.endswith("/complete") for key in lab.keys(bucket)))
        kill("sample", lambda: re.search(r'progress .*"sampling M1"', command.log_of(tmp_path)))
        output, _ = process.communicate(timeout=2400)
    finally:
        process.kill()
        lab.set_latency(LATENCY_S)
    assert process.returncode == 0, output + command.log_of(tmp_path)[-5000:]

    folder = tmp_path / "latest"
    log = command.log_of(tmp_path)
    for function in ("synthesize", "sft", "sample"):
        assert f"error in {function}: the container was killed" in log
    (sft,) = [row for row in ledger(folder) if row.stage == "sft"]
    assert sft.counts["resumed_at_step"] > 0
    expected = {task: digest for task, digest in digests(as_processes).items() if "M3" not in task}
    assert digests(folder) == expected
    _no_answer_was_paid_twice(lab, before, folder)


def _no_answer_was_paid_twice(lab: Lab, before: dict[str, Any], folder: Path) -> None:
    """As many answers as the run holds, but for what killed synthesis and cut off solving had in flight.

    What is killed may also have as many more replies that had arrived and were not stored yet.
    """
    in_flight = SHARDS * CONCURRENCY
    stored = sum(row.usage.requests for row in ledger(folder) if row.usage)
    paid = lab.teacher_counts()["paid"] - before["paid"]
    # What the killed attempts of synthesis had stored counts as answered from the store in the ledger; nothing else was paid.
    hits = sum(row.usage.cache_hits for row in ledger(folder) if row.usage and row.stage == "synthesis")
    assert hits >= PAID_AT_THE_KILL - 2 * in_flight
    assert stored < paid <= stored + hits + 3 * in_flight + 1, "one short request asks whether the teacher is there"


def test_too_little_memory_is_told_with_the_setting(lab: Lab, tmp_path: Path) -> None:
    arguments = ["--runner", "docker", "--images", TABLE, "--network", lab.network, "--memory", "220m", *settings()]
    status, output = command.run(tmp_path, *arguments)
    assert status == 1, output
    assert "Traceback" not in output
    error = command.latest(tmp_path).error
    assert "base_model" in error and "out of memory" in error and "220m" in error and "--memory" in error
    assert "student.base_model" in error
