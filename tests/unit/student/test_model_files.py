"""Large models move once: the artifact is a reference, the files lie in the store and in a node's cache."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.core.errors import ModelError, ParameterError
from components.core.records import digest_of, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.core.store.model_files import FRESH_S, REFERENCE, hand_on, receive, refer, reference_in, share, whole
from components.sft.options import SFTOptions
from components.sft.stage import run as fine_tune
from components.student.models.load import load_chat, localise, read_info
from tests.support.kills import Killed, at_every_change
from tests.support.student_material import demonstrations, make_model, same_weights


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("large") / "M0")


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "M0"))


@pytest.fixture
def shared(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store for models of any size, and a cache."""
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE", s3_bucket)
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE_FROM_MB", "0")
    monkeypatch.setenv("TUTORLOOP_MODEL_CACHE", str(tmp_path / "cache"))
    return s3_bucket


def test_a_large_model_becomes_a_reference_that_everybody_understands(model: Path, made: Path, shared: str, tmp_path: Path) -> None:
    assert hand_on(model)
    assert sorted(path.name for path in model.iterdir()) == [REFERENCE, "tutorloop.json"]
    assert sum(path.stat().st_size for path in model.iterdir()) < 2000
    assert read_info(model) == read_info(made)
    assert load_chat(model).encode_prompts(["How many?"]) == load_chat(made).encode_prompts(["How many?"])
    copy = localise(str(model))
    assert copy.parent == tmp_path / "cache" and digest_of(copy) == digest_of(made)
    # A second consumer on the node fetches nothing: it works though the store is empty.
    store = open_store(shared)
    for key in list(store.list()):
        store.delete(key)
    assert whole(model) == copy
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()) == [copy.name]


def test_a_stage_takes_a_reference_and_hands_one_on(model: Path, made: Path, shared: str, tmp_path: Path) -> None:
    write_records(tmp_path / "train.jsonl", demonstrations(8))
    options = SFTOptions(batch_size=4, learning_rate=1e-3)

    def train(base: Path, name: str) -> None:
        rows, store = str(tmp_path / "train.jsonl"), str(tmp_path / "checkpoints")
        fine_tune(str(base), rows, options, StageRun("sft"), checkpoints=store, seed=1, output=str(tmp_path / name))

    train(made, "by reference")
    assert reference_in(tmp_path / "by reference") is not None
    hand_on(model)
    train(model, "again")
    first, second = (whole(tmp_path / name) for name in ("by reference", "again"))
    assert same_weights(first, second) and not same_weights(first, made)


def test_models_stay_whole_unless_asked_for(model: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not hand_on(model) and whole(model) == model
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE", str(tmp_path))
    assert not hand_on(model)
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE", s3_bucket)
    assert not hand_on(model)
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE_FROM_MB", "many")
    with pytest.raises(ParameterError, match="TUTORLOOP_MODEL_STORE_FROM_MB"):
        hand_on(model)


def test_a_model_is_brought_up_once_and_only_whole_ones_count(model: Path, s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    reference = share(model, s3_bucket)
    marker = f"models/{reference.digest}.complete"
    store.delete(marker)
    (half,) = [key for key in store.list() if key.endswith("model.safetensors")]
    store.write(half, b"half")
    assert share(model, s3_bucket) == reference
    assert store.exists(marker) and len(store.read(half)) > 1000
    store.write(half, b"would be written again")
    assert share(model, s3_bucket) == reference
    assert store.read(half) == b"would be written again"


def test_a_model_is_brought_again_before_a_lifecycle_rule_may_take_it(model: Path, s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    reference = share(model, s3_bucket)
    marker = f"models/{reference.digest}.complete"
    (weights,) = [key for key in store.list() if key.endswith("model.safetensors")]
    for age, again in ((FRESH_S - 60, False), (FRESH_S + 60, True)):
        store.write(weights, b"of an earlier day")
        store.write(marker, str(time.time() - age).encode())
        assert share(model, s3_bucket) == reference
        assert (store.read(weights) != b"of an earlier day") is again
    assert time.time() - float(store.read(marker)) < 60
    store.write(marker, b"no time")
    store.write(weights, b"of an earlier day")
    share(model, s3_bucket)
    assert store.read(weights) != b"of an earlier day"


def test_a_model_whose_bringing_up_was_killed_is_not_there(model: Path, tmp_path: Path) -> None:
    def prepare(number: int) -> Callable[[], object]:
        return lambda: share(model, str(tmp_path / f"store {number}"))

    killed = 0
    for number in at_every_change(prepare):
        store = open_store(str(tmp_path / f"store {number}"))
        assert not [key for key in store.list() if key.endswith(".complete")]
        killed = number
    assert killed == 1 + sum(path.is_file() for path in model.rglob("*"))


def test_killed_while_it_becomes_a_reference_a_model_is_whole_or_gone(
    made: Path, shared: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone is as before the stage, which still has its checkpoints; half a model would be taken for one."""

    def dying(*arguments: object, **given: object) -> None:
        raise Killed

    digest = digest_of(made)
    for place in ("shutil.copyfile", "pathlib.Path.write_bytes", "pathlib.Path.replace"):
        folder = Path(shutil.copytree(made, tmp_path / place / "M1"))
        reference = share(folder, shared)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(place, dying)
            refer(reference, folder / "tutorloop.json", folder)
        assert not folder.exists() or digest_of(folder) == digest, place
        if folder.exists():
            refer(reference, folder / "tutorloop.json", folder)
            assert reference_in(folder) == reference


def test_tasks_that_want_a_model_at_once_fetch_it_once(model: Path, shared: str, tmp_path: Path) -> None:
    hand_on(model)
    with ThreadPoolExecutor(4) as pool:
        copies = set(pool.map(lambda _: whole(model), range(8)))
    assert len(copies) == 1
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.endswith(".part")] == []


def test_a_damaged_or_missing_model_is_refused(model: Path, shared: str, tmp_path: Path) -> None:
    hand_on(model)
    store = open_store(shared)
    (config,) = [key for key in store.list() if key.endswith("/config.json")]
    store.write(config, b"{}")
    with pytest.raises(ModelError, match="is damaged"):
        whole(model)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    for key in list(store.list("models/")):
        store.delete(key)
    with pytest.raises(ModelError, match=r"no longer in the store[\s\S]*TUTORLOOP_CACHE_DAYS"):
        whole(model)


def test_a_model_in_the_store_is_handed_on_whole_or_as_a_reference(
    model: Path, made: Path, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = share(model, s3_bucket)
    receive(reference, tmp_path / "whole")
    assert digest_of(tmp_path / "whole") == digest_of(made)
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE", s3_bucket)
    receive(reference, tmp_path / "referred")
    assert reference_in(tmp_path / "referred") == reference
    refer(reference, model / "tutorloop.json", tmp_path / "whole")
    assert share(tmp_path / "whole", s3_bucket) == reference
