"""Supervised fine-tuning: the weights move, the loss falls, a killed run continues bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EmptyOutputError, ModelError, ParameterError
from components.core.options import parse_options
from components.core.records import write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.sft.options import SFTOptions
from components.sft.stage import run
from components.student.models.load import read_info
from components.student.training.checkpoints import Checkpoints
from tests.support.kills import Killed
from tests.support.student_material import demonstrations, make_model, same_weights, weights

ROOT = Path(__file__).parents[3]
BASICS: dict[str, Any] = {"learning_rate": 3e-3, "batch_size": 4, "epochs": 2, "checkpoint_seconds": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    write_records(folder / "train.jsonl", demonstrations(30))
    return make_model(folder / "M0")


@pytest.fixture(scope="module")
def trained(base: Path) -> tuple[Path, StageRun]:
    return tune(base, "M1", **BASICS)


def tune(base: Path, name: str, checkpoints: str = "", seed: int = 1, **options: Any) -> tuple[Path, StageRun]:
    stage = StageRun("sft")
    output = base.parent / name
    run(
        str(base),
        str(base.parent / "train.jsonl"),
        parse_options(SFTOptions, options, "sft"),
        stage,
        checkpoints=checkpoints or str(base.parent / f"checkpoints of {name}"),
        seed=seed,
        output=str(output),
    )
    return output, stage


def test_weights_move_and_the_loss_falls(base: Path, trained: tuple[Path, StageRun]) -> None:
    output, stage = trained
    before, after = weights(base), weights(output)
    assert all(bool((before[name] != after[name]).any()) for name in before)
    assert stage.curves[-1]["loss"] < stage.curves[0]["loss"] - 0.3
    assert {"step", "loss", "learning_rate", "tokens_per_second"} <= stage.curves[-1].keys()
    assert stage.latest == {name: stage.curves[-1][name] for name in ("loss", "learning_rate", "tokens_per_second")}
    assert (stage.rows_in, stage.rows_kept, stage.counts["steps"]) == (30, 30, 15)
    info = read_info(output)
    assert (info.name, info.parent, info.parent_digest, info.training["steps"]) == ("M1", "M0", read_info(base).digest, 15)
    assert not list(open_store(str(base.parent / "checkpoints of M1")).list())


def test_training_repeats_bit_for_bit_and_follows_the_seed(base: Path, trained: tuple[Path, StageRun]) -> None:
    again, _ = tune(base, "again", **BASICS)
    other, _ = tune(base, "other", seed=2, **BASICS)
    assert same_weights(trained[0], again)
    assert not same_weights(trained[0], other)


def test_checkpoints_go_only_when_the_model_is_handed_on(
    base: Path, trained: tuple[Path, StageRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = str(base.parent / "kept checkpoints")

    def dying(folder: Path) -> bool:
        assert (folder / "model.safetensors").is_file()
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("components.sft.stage.hand_on", dying)
        tune(base, "M1 kept", checkpoints, **{**BASICS, "checkpoint_seconds": 1e-9})
    output, stage = tune(base, "M1 kept", checkpoints, **{**BASICS, "checkpoint_seconds": 1e-9})
    assert stage.counts["resumed_at_step"] == 14 and same_weights(output, trained[0])
    assert not list(open_store(checkpoints).list())


def test_killed_between_saving_and_marking_it_goes_on_from_the_checkpoint_before(
    base: Path, trained: tuple[Path, StageRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer removes older checkpoints when it has written a new one, which does not count yet."""
    checkpoints, options = str(base.parent / "unmarked"), {**BASICS, "checkpoint_seconds": 1e-9}
    mark = Checkpoints.mark

    def dying(self: Checkpoints, step: int) -> None:
        if step == 6:
            raise Killed
        mark(self, step)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "mark", dying)
        tune(base, "M1 unmarked", checkpoints, **options)
    output, stage = tune(base, "M1 unmarked", checkpoints, **options)
    assert stage.counts["resumed_at_step"] == 5 and same_weights(output, trained[0])


KILLED = """
import json, sys
from components.core.options import parse_options
from components.sft.options import SFTOptions
from components.sft.stage import run
from tests.support.student_material import KilledStage

base, train, checkpoints, output, options = sys.argv[1:]
run(base, train, parse_options(SFTOptions, json.loads(options), "sft"), KilledStage("sft"), checkpoints=checkpoints, seed=1, output=output)
"""


def test_a_run_killed_by_sigkill_continues_to_the_same_weights(base: Path, trained: tuple[Path, StageRun], tmp_path: Path) -> None:
    checkpoints = str(tmp_path / "checkpoints")
    options = {**BASICS, "checkpoint_seconds": 1e-6}
    arguments = [str(base), str(base.parent / "train.jsonl"), checkpoints, str(tmp_path / "M1"), json.dumps(options)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "M1").exists()
    output, stage = tune(base, "continued", checkpoints=checkpoints, **options)
    assert stage.counts["resumed_at_step"] == 6
    assert same_weights(trained[0], output)
    assert [point["step"] for point in stage.curves] == [point["step"] for point in trained[1].curves]
    assert not list(open_store(checkpoints).list())


MACHINE = """
import json, sys
from pathlib import Path
from components.core.options import parse_options
from components.core.stage import StageRun
from components.core.store import fetch
from components.sft.options import SFTOptions
from components.sft.stage import run
from components.student.models.load import read_info
from tests.support.student_material import KilledStage

address, options = sys.argv[1], parse_options(SFTOptions, json.loads(sys.argv[2]), "sft")
inputs, stage = fetch(f"{address}/inputs", Path()), (KilledStage if sys.argv[3] == "killed" else StageRun)("sft")
rows = str(inputs / "train.jsonl")
run(str(inputs / "M0"), rows, options, stage, checkpoints=f"{address}/checkpoints", seed=1, output="M1")
print(json.dumps([stage.counts["resumed_at_step"], read_info("M1").digest]))
"""


def train_there(folder: Path, address: str, options: dict[str, Any], end: str) -> subprocess.CompletedProcess[str]:
    """Train where nothing lies on disk, until it is ``killed`` or ``done``."""
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder), "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MACHINE, address, json.dumps(options), end]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_trainer_killed_in_the_middle_resumes_on_another_machine(
    base: Path, trained: tuple[Path, StageRun], s3_bucket: str, tmp_path: Path
) -> None:
    """The two machines share nothing but the store on S3: neither folders nor temporary files."""
    store = open_store(s3_bucket)
    store.upload(base, "inputs/M0")
    store.upload(base.parent / "train.jsonl", "inputs/train.jsonl")
    options = {**BASICS, "checkpoint_seconds": 1e-6}
    killed = train_there(tmp_path / "one", s3_bucket, options, "killed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    shutil.rmtree(tmp_path / "one")
    again = train_there(tmp_path / "another", s3_bucket, options, "done")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == [6, read_info(trained[0]).digest]
    assert not list(store.list("checkpoints/"))


def test_adapters_are_merged_before_saving(base: Path) -> None:
    output, _ = tune(base, "lora", lora_rank=2, **BASICS)
    before, after = weights(base), weights(output)
    assert before.keys() == after.keys()
    assert bool((before["model.layers.0.mlp.up_proj.weight"] != after["model.layers.0.mlp.up_proj.weight"]).any())
    assert bool((before["model.embed_tokens.weight"] == after["model.embed_tokens.weight"]).all())
    assert not (output / "adapter_config.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"packing": True, "max_length": 160},
        {"bf16": "on", "gradient_accumulation": 2},
        {"activation_checkpointing": "on", "scheduler": "cosine", "warmup": 0.1},
    ],
)
def test_other_ways_to_train(base: Path, options: dict[str, Any]) -> None:
    output, stage = tune(base, "variant", **{**BASICS, **options})
    assert not same_weights(base, output)
    assert stage.curves[-1]["loss"] < stage.curves[0]["loss"]
    if "packing" in options:
        assert stage.counts["steps"] < 15


def test_memory_that_runs_out_names_what_to_change(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl import SFTConfig

    from components.student.training import trl_trainers as trainers

    class Cramped(trainers.EncodedSFTTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setitem(trainers.TRAINERS, "sft", (Cramped, SFTConfig))
    with pytest.raises(ModelError, match=r"batch_size 4 .*max_length 1024[\s\S]*lower batch_size"):
        tune(base, "cramped", **BASICS)


def test_nothing_to_train_on(base: Path, tmp_path: Path) -> None:
    write_records(tmp_path / "train.jsonl", [])
    with pytest.raises(EmptyOutputError):
        run(
            str(base),
            str(tmp_path / "train.jsonl"),
            SFTOptions(),
            StageRun("sft"),
            checkpoints=str(tmp_path),
            seed=0,
            output=str(tmp_path / "M1"),
        )
    with pytest.raises(EmptyOutputError, match="prompt_too_long"):
        tune(base, "short", **{**BASICS, "max_length": 2})


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0), ("epochs", 0), ("learning_rates", 1e-3), ("scheduler", "stairs")])
def test_wrong_options_are_named(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"sft.{name}"):
        parse_options(SFTOptions, {name: value}, "sft")


def test_adapters_for_layers_that_the_model_does_not_have_are_refused(base: Path) -> None:
    with pytest.raises(ParameterError, match=r"sft\.lora_targets = 'nope' (.|\n)*all-linear(.|\n)*q_proj"):
        tune(base, "nope", lora_rank=2, lora_targets="nope", **BASICS)
