"""Several processes train one model: the same losses and steps as one process, one that dies is named, the next try continues."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from components.core.errors import ModelError, ParameterError
from components.core.options import parse_options
from components.core.records import write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.preference_tuning.options import TuningOptions
from components.preference_tuning.stage import run as tune
from components.sft.options import SFTOptions
from components.sft.stage import run as fine_tune
from components.student.models.load import read_info
from components.student.options import TrainingOptions
from components.student.training.distributed import launcher as launch
from components.student.training.distributed.sharding import Spread, fill_up, spread_of
from components.student.training.fitting import Outcome
from components.student.training.job import Job, read_result
from tests.support.student_material import demonstrations, labelled, make_model, pairs, weights
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
TRAINING: dict[str, Any] = {"batch_size": 4, "epochs": 2, "checkpoint_seconds": 0, "log_points": 1000}
SFT: dict[str, Any] = {**TRAINING, "learning_rate": 3e-3}
TUNING: dict[str, Any] = {**TRAINING, "learning_rates": [1e-3], "beta": 0.1, "reference_batch_size": 4}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {**SFT, "scheduler": "cosine", "warmup": 0.2}),
    "sft with accumulation": ("sft", {**SFT, "gradient_accumulation": 4, "activation_checkpointing": "on"}),
    "sft in bfloat16": ("sft", {**SFT, "bf16": "on"}),
    "sft with adapters": ("sft", {**SFT, "lora_rank": 2}),
    "sft packed": ("sft", {**SFT, "packing": True, "max_length": 160}),
    "dpo": ("tuning", {**TUNING, "method": "dpo"}),
    "dpo with an sft term": ("tuning", {**TUNING, "method": "dpo", "losses": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]}),
    "dpo with adapters": ("tuning", {**TUNING, "method": "dpo", "lora_rank": 2, "precompute_reference": False}),
    "kto": ("tuning", {**TUNING, "method": "kto", "sft_weight": 0.5}),
    "kto without an estimate": ("tuning", {**TUNING, "method": "kto", "unpaired_loss": "apo_zero_unpaired"}),
}
LOOSE = {"sft in bfloat16", "dpo with an sft term"}
"""A sharded model keeps its weights in bfloat16 where autocast casts them; DPO's SFT term is a mean over the tokens of each process."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    # Two batches of four and two rows more: the last step is a short one.
    write_records(folder / "train.jsonl", demonstrations(9))
    write_records(folder / "pairs.jsonl", pairs(10))
    write_records(folder / "labelled.jsonl", labelled(6, 4))
    make_model(folder / "M0")
    return folder


def go(material: Path, kind: str, options: dict[str, Any], output: Path, checkpoints: Path | str) -> StageRun:
    stage = StageRun(kind)
    shared: dict[str, Any] = {"checkpoints": str(checkpoints), "seed": 1, "output": str(output)}
    if kind == "sft":
        fine_tune(str(material / "M0"), str(material / "train.jsonl"), parse_options(SFTOptions, options, kind), stage, **shared)
    else:
        model, *rows = [str(material / name) for name in ("M0", "pairs.jsonl", "labelled.jsonl")]
        tune(model, model, rows[0], rows[1], parse_options(TuningOptions, options, kind), stage, round_number=1, arm="preference", **shared)
    return stage


@pytest.fixture(scope="module")
def together(material: Path) -> dict[str, Outcome]:
    """Every case with two processes, in the same two."""
    monkeypatch = pytest.MonkeyPatch()
    jobs = material / "jobs"
    jobs.mkdir()
    folders: list[Path] = []

    def keep(folder: Path, job: Job, tell: object) -> None:
        shutil.copytree(folder, folders[-1])
        raise Kept

    monkeypatch.setattr(launch, "run", keep)
    try:
        for index, (name, (kind, options)) in enumerate(CASES.items()):
            folders.append(jobs / f"{index}")
            with pytest.raises(Kept):
                go(material, kind, {**options, "processes": 2}, material / f"{name} by two", material / "checkpoints")
    finally:
        monkeypatch.undo()
    first = msgspec.json.decode((folders[0] / "job.json").read_bytes(), type=Job)
    command = _replaced(launch.command(jobs, first, launch.Place()), "tests.support.several_trainings")
    reading, writing = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=reading, capture_output=True, text=True, timeout=500)
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return {name: read_result(folder) for name, folder in zip(CASES, folders, strict=True)}


def _replaced(command: list[str], module: str) -> list[str]:
    return [module if part == "components.student.training.distributed.worker" else part for part in command]


class Kept(Exception):
    """The job is written."""


@pytest.mark.parametrize("name", CASES)
def test_two_processes_do_what_one_does(material: Path, together: dict[str, Outcome], name: str) -> None:
    kind, options = CASES[name]
    alone = go(material, kind, options, material / name, material / "checkpoints")
    both = together[name]
    assert both.steps == alone.counts["steps"]
    pairs_of_points = list(zip(both.curve, alone.curves, strict=True))
    # The last step of DPO and KTO is short; its rows count as often as the processes can share them.
    exact = pairs_of_points if kind == "sft" else pairs_of_points[:-1]
    assert [mine["loss"] for mine, _ in exact] == pytest.approx([one["loss"] for _, one in exact], abs=0.03 if name in LOOSE else 2e-5)
    assert [mine["learning_rate"] for mine, _ in pairs_of_points] == [one["learning_rate"] for _, one in pairs_of_points]
    left, right = weights(material / name), weights(material / f"{name} by two")
    assert left.keys() == right.keys()
    if kind == "sft" and name not in LOOSE:
        assert max(float((left[key] - right[key]).abs().max()) for key in left) < 1e-3
    mine, one = read_info(material / f"{name} by two"), read_info(material / name)
    assert (mine.name, mine.parent_digest, mine.parameters) == (one.name, one.parent_digest, one.parameters)
    assert sorted(path.name for path in (material / name).iterdir()) == sorted(
        path.name for path in (material / f"{name} by two").iterdir()
    )


def started(material: Path, output: Path, store: str, **options: Any) -> subprocess.Popen[str]:
    """The SFT stage in a process of its own, with processes that never end by themselves."""
    arguments = [str(material / "M0"), str(material / "train.jsonl"), json.dumps({**SFT, **options}), store, str(output)]
    return subprocess.Popen(
        [sys.executable, "-c", STAGE, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


STAGE = """
import json, sys
from components.core.options import parse_options
from components.core.stage import StageRun, readable_errors
from components.sft.options import SFTOptions
from components.sft.stage import run
from components.student.training.distributed import launcher as launch

command = launch.command
launch.command = lambda *given: [
    "tests.support.endless_rank" if part == "components.student.training.distributed.worker" else part for part in command(*given)
]
base, rows, options, store, output = sys.argv[1:]
stage = StageRun("sft")
with readable_errors("sft"):
    run(base, rows, parse_options(SFTOptions, json.loads(options), "sft"), stage, checkpoints=store, seed=1, output=output)
"""


def processes_below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The training processes, not their launcher."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        # Helpers that the libraries start come and go.
        with contextlib.suppress(psutil.NoSuchProcess):
            words = child.cmdline()
            if "tests.support.endless_rank" in words and "accelerate.commands.launch" not in words:
                found.append(child)
    return found


def test_a_killed_process_is_named_and_the_next_try_continues_with_any_number(
    material: Path, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(s3_bucket)
    options = {**SFT, "batch_size": 6, "epochs": 20}
    command = launch.command
    with monkeypatch.context() as patch:
        patch.setattr(launch, "command", lambda *given: _replaced(command(*given), "tests.support.killed_rank"))
        with pytest.raises(ModelError, match=r"training M1: process 1 of 2 was killed by SIGKILL[\s\S]*run again"):
            go(material, "sft", {**options, "processes": 2, "checkpoint_seconds": 1e-6}, tmp_path / "M1", s3_bucket)
    assert not (tmp_path / "M1").exists()
    again = go(material, "sft", {**options, "processes": 3}, tmp_path / "M1", s3_bucket)
    assert again.counts["resumed_at_step"] == 4
    assert again.counts["steps"] == len(again.curves) == 30
    assert read_info(tmp_path / "M1").training["steps"] == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["M1"]
    assert not list(store.list())


def test_processes_end_with_the_task_that_started_them(material: Path, tmp_path: Path) -> None:
    process = started(material, tmp_path / "M1", str(tmp_path / "checkpoints"), processes=2)
    found: list[psutil.Process] = []

    def both_are_there() -> bool:
        assert process.poll() is None, process.communicate()[0]
        found[:] = processes_below(process)
        return len(found) == 2

    try:
        wait_until(both_are_there, 300)
    finally:
        process.kill()
        process.wait()
    gone, alive = psutil.wait_procs(found, timeout=120)
    for survivor in alive:
        survivor.kill()
    assert not alive and len(gone) == 2
    assert not (tmp_path / "M1").exists()


def test_memory_that_runs_out_in_one_process_names_what_to_change(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = launch.command
    monkeypatch.setattr(launch, "command", lambda *given: _replaced(command(*given), "tests.support.cramped_rank"))
    with pytest.raises(ModelError, match=r"no memory to train M1 .*\(process 1 of 2\)[\s\S]*lower batch_size"):
        go(material, "sft", {**SFT, "processes": 2}, tmp_path / "M1", tmp_path / "store")
    assert not (tmp_path / "M1").exists()
    capfd.readouterr()


@pytest.mark.parametrize(
    ("batch", "accumulation", "processes", "kind", "expected"),
    [
        (3, 20, 4, "sft", (3, 5)),
        (4, 1, 2, "sft", (2, 1)),
        (4, 2, 8, "dpo", (1, 1)),
        (6, 4, 6, "sft", (2, 2)),
        (4, 1, 2, "kto", (2, 1)),
        (4, 8, 8, "kto", (4, 1)),
    ],
)
def test_an_update_keeps_its_rows(batch: int, accumulation: int, processes: int, kind: str, expected: tuple[int, int]) -> None:
    spread = spread_of(TrainingOptions(batch_size=batch, gradient_accumulation=accumulation), kind, processes)
    assert (spread.batch, spread.accumulation) == expected
    assert spread.batch * spread.accumulation * processes == batch * accumulation


@pytest.mark.parametrize(("batch", "accumulation", "processes", "kind"), [(3, 1, 2, "sft"), (4, 2, 16, "sft"), (4, 1, 4, "kto")])
def test_rows_that_cannot_be_divided_are_refused(batch: int, accumulation: int, processes: int, kind: str) -> None:
    with pytest.raises(ParameterError, match=f"batch_size = {batch} .*gradient_accumulation = {accumulation}.*{processes} processes"):
        spread_of(TrainingOptions(batch_size=batch, gradient_accumulation=accumulation), kind, processes)


def test_rows_that_fill_a_step_carry_no_loss() -> None:
    spread = Spread(local=2, nodes=1, batch=2, accumulation=1)
    columns = {"input_ids": [[5, 6, 7]] * 6, "labels": [[-100, 6, 7]] * 6}
    assert fill_up(columns, "sft", spread)["labels"][6:] == [[-100, -100]] * 2
    assert fill_up({"prompt_ids": [1, 2, 3, 4, 5]}, "dpo", spread) == {"prompt_ids": [1, 2, 3, 4, 5, 5, 5, 5]}
    assert fill_up({"prompt_ids": [1, 2, 3, 4]}, "dpo", spread) == {"prompt_ids": [1, 2, 3, 4]}
