"""A run is killed again and again, and ends as if nothing had been."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from components.core.store import open_store
from pipelines.runs import record as run_record
from tests.local import command
from tests.local.command import SHORT, digests, scores, until
from tests.support.missing import small_file_system

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

STAGES = (
    "base-model",
    "synthesize",
    "solve",
    "decontaminate",
    "sft",
    "evaluate",
    "sample",
    "judge",
    "build-preferences",
    "tune",
    "compare",
    "report",
    "publish",
)
"""KFP task names; the run is killed once in each."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing happened to."""
    home = tmp_path_factory.mktemp("undisturbed")
    status, output = command.run(home, *SHORT)
    assert status == 0, output + command.log_of(home)[-5000:]
    return home / "latest"


def test_killed_in_every_stage_it_continues_and_ends_with_the_same_models(undisturbed: Path, tmp_path: Path) -> None:
    """Killed when a stage is first seen at work, whatever order the stages come in; what was finished before is never seen again."""
    killed: set[str] = set()
    missed: set[str] = set()
    for _ in range(2 * len(STAGES)):
        before = command.run_folders(tmp_path)
        process = command.start(tmp_path, *SHORT)
        stage = command.kill_in_new_stage(process, tmp_path, killed, before, missed)
        if stage is None:
            break
        killed.add(stage)
    assert killed | missed >= set(STAGES)
    assert len(killed) > len(STAGES) / 2
    assert command.latest(tmp_path).status == "succeeded"
    assert digests(tmp_path / "latest") == digests(undisturbed)
    assert scores(command.latest(tmp_path)) == scores(run_record.read(undisturbed))


def test_another_machine_continues_a_run_whose_home_is_in_s3(undisturbed: Path, s3_bucket: str, tmp_path: Path) -> None:
    """Nothing is shared but the store: between the two the local folder is removed."""
    home = f"{s3_bucket}/runs"
    store = open_store(home)
    environment = {"TUTORLOOP_WORK": str(tmp_path / "machine")}
    # At work until another has heard of it for a while.
    slowly = ("--set", "offline_teacher.faults.latency_s=3")
    process = command.start(home, *SHORT, *slowly, environment=environment)

    def base_model_is_kept() -> bool:
        entries = list(store.list("shared/artifacts/.kfp_cache/"))
        return len(entries) >= 2 and any(b"/base-model/" in store.read(entry) for entry in entries)

    until(base_model_is_kept, process, "the base model was in the store")
    status, output = command.run(home, *SHORT, environment=environment)
    assert status == 1 and "another run is at work" in output and "--home" in output
    process.kill()
    process.wait()
    command.wait_for_the_end_in(tmp_path)
    finished_there = len(list(store.list("shared/artifacts/.kfp_cache/")))
    shutil.rmtree(tmp_path / "machine")

    status, output = command.run(home, *SHORT, environment=environment)
    assert status == 0, output
    assert "waiting 60 s" in output
    (folder,) = (tmp_path / "machine").glob("*/2*")
    executed = {stage.stage for stage in run_record.read(folder).stages if not stage.cached}
    assert finished_there >= 2 and not executed & {"base_model"}
    assert digests(folder) == digests(undisturbed)
    assert f"{home}/{folder.name}" in output
    kept = set(store.list())
    assert {f"{folder.name}/{name}" for name in ("report.html", "run.json", "log.txt", "ledger.jsonl")} <= kept
    assert not (folder.parent / "shared" / "responses").exists()
    assert any(key.startswith("shared/responses/") for key in kept)


def test_a_full_disk_ends_the_run_with_the_cause_and_a_larger_one_continues(undisturbed: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_file_system(disk, "1m"):
        status, output = command.run(disk / "home", *SHORT)
        assert status == 1 and "the disk is full" in output and "free space" in output, output
        assert "Traceback" not in output
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        status, output = command.run(disk / "home", *SHORT)
        assert status == 0, output
        assert digests(disk / "home" / "latest") == digests(undisturbed)
