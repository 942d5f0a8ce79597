"""The model store: whole versions or none, and a champion pointer that survives kills and rivals."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.errors import InputError, StoreError
from components.core.records import StageRecord, write_records
from components.core.stage import StageRun
from components.core.store import FolderStore, Store, open_store
from components.core.store.model_files import hand_on
from components.promotion.options import PromotionOptions
from components.promotion.records import Decision, Manifest, Pointer
from components.promotion.registry import current_champion, promote, publish_version, read_pointer, version_folder
from components.promotion.stage import Material, publish
from tests.support.sample_ledger import results, sample_ledger, write_ledger

LEDGER = sample_ledger(n=30)
RESULTS = results("M3", "a", split="dev", n=20)


def material(
    folder: Path, weights: bytes = b"weights", *, promoted: bool = True, champion: str = "", ledger: Sequence[StageRecord] = LEDGER
) -> Material:
    """A run's outputs."""
    model = folder / "model"
    (model / "parts").mkdir(parents=True)
    (model / "model.safetensors").write_bytes(weights)
    (model / "parts" / "tokenizer.json").write_text("{}")
    info = {"name": "M3", "parent": "M2", "base_model": "tiny", "digest": "d1", "parent_digest": "d0"}
    (model / "tutorloop.json").write_text(json.dumps(info))
    for name, text in (("train.jsonl", "{}\n"), ("report.html", "<p>report</p>"), ("summary.json", "{}")):
        (folder / name).write_text(text)
    write_ledger(folder / "ledger.jsonl", ledger)
    write_records(folder / "results.jsonl", RESULTS)
    decision = Decision(promoted=promoted, reason="for a test", candidate="M3", champion=champion, comparisons=[], alpha=0.05, min_gain=0.0)
    (folder / "decision.json").write_bytes(msgspec.json.encode(decision))
    names = ("train.jsonl", "results.jsonl", "report.html", "summary.json", "ledger.jsonl", "decision.json")
    return Material(model, *[folder / name for name in names])


def run_publish(made: Material, models: str, card: Path, options: PromotionOptions | None = None) -> tuple[str, StageRun]:
    stage = StageRun("promotion")
    version = publish(made, options or PromotionOptions(), models, "sha256:pipe", card, stage)
    return version, stage


def verify(store: Store, version: str) -> Manifest:
    """Check every digest of a version's manifest."""
    root = version_folder(version)
    manifest = msgspec.json.decode(store.read(f"{root}/manifest.json"), type=Manifest)
    listed = {f"{root}/{file.path}" for file in manifest.files} | {f"{root}/manifest.json"}
    assert set(store.list(f"{root}/")) == listed
    for file in manifest.files:
        data = store.read(f"{root}/{file.path}")
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.bytes)
    return manifest


@pytest.fixture(params=["folder", "s3"])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URI of an empty model store, of both kinds."""
    if request.param == "folder":
        return str(tmp_path / "models")
    return f"{request.getfixturevalue('s3_bucket')}/models"


def test_a_model_that_came_by_reference_is_published_whole(s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = f"{s3_bucket}/models"
    version, _ = run_publish(material(tmp_path / "a"), models, tmp_path / "card.json")
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE", f"{s3_bucket}/work")
    monkeypatch.setenv("TUTORLOOP_MODEL_STORE_FROM_MB", "0")
    monkeypatch.setenv("TUTORLOOP_MODEL_CACHE", str(tmp_path / "cache"))
    referred = material(tmp_path / "b")
    assert hand_on(referred.model) and not (referred.model / "model.safetensors").exists()
    again, stage = run_publish(referred, models, tmp_path / "card.json")
    assert (again, stage.counts["published"]) == (version, 0.0)


def test_publish_twice_then_a_better_one(models: str, tmp_path: Path) -> None:
    store = open_store(models)
    assert current_champion(store) == ""
    first, stage = run_publish(material(tmp_path / "a"), models, tmp_path / "card.json")
    assert stage.counts["published"] == stage.counts["champion_moved"] == 1.0
    assert current_champion(store) == first
    paths = {file.path for file in verify(store, first).files}
    assert paths == {
        "model/model.safetensors", "model/parts/tokenizer.json", "model/tutorloop.json", "train.jsonl", "results.jsonl",
        "report.html", "summary.json", "ledger.jsonl", "decision.json", "card.json", "card.md",
    }  # fmt: skip
    before = {key: store.read(key) for key in store.list()}
    again, stage = run_publish(material(tmp_path / "b"), models, tmp_path / "card.json")
    assert again == first
    assert stage.counts["published"] == stage.counts["champion_moved"] == 0.0
    assert {key: store.read(key) for key in store.list()} == before
    second, _ = run_publish(material(tmp_path / "c", b"better", champion=first), models, tmp_path / "card.json")
    pointer = read_pointer(store)
    assert pointer is not None
    assert (pointer.version, pointer.previous, pointer.generation) == (second, first, 2)
    assert msgspec.json.decode(store.read("champion.json"), type=Pointer) == pointer


def test_rejected_model_leaves_no_trace_unless_asked(tmp_path: Path) -> None:
    models = tmp_path / "models"
    version, stage = run_publish(material(tmp_path / "a", promoted=False), str(models), tmp_path / "card.json")
    assert version == ""
    assert not models.exists()
    assert json.loads((tmp_path / "card.json").read_text())["decision"]["promoted"] is False
    version, stage = run_publish(
        material(tmp_path / "b", promoted=False), str(models), tmp_path / "card.json", PromotionOptions(publish_rejected=True)
    )
    store = open_store(str(models))
    verify(store, version)
    assert current_champion(store) == ""
    assert stage.lineage["champion"] == "not promoted"


def test_stale_comparison_does_not_move_the_champion(models: str, tmp_path: Path) -> None:
    first, _ = run_publish(material(tmp_path / "a"), models, tmp_path / "card.json")
    second, stage = run_publish(material(tmp_path / "b", b"other", champion=""), models, tmp_path / "card.json")
    assert stage.lineage["champion"] == "superseded"
    assert current_champion(open_store(models)) == first
    verify(open_store(models), second)


def test_two_publishers_at_once(models: str, tmp_path: Path) -> None:
    """Both were compared with no champion: exactly one may take the place."""
    made = [material(tmp_path / name, name.encode()) for name in ("a", "b", "c", "d")]
    barrier = threading.Barrier(len(made))
    outcomes: dict[str, str] = {}

    def work(index: int) -> None:
        barrier.wait()
        version, stage = run_publish(made[index], models, tmp_path / f"card{index}.json")
        outcomes[version] = stage.lineage["champion"]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes.values()) == ["moved", "superseded", "superseded", "superseded"]
    store = open_store(models)
    assert outcomes[current_champion(store)] == "moved"
    assert msgspec.json.decode(store.read("champion.json"), type=Pointer).version == current_champion(store)
    for version in outcomes:
        verify(store, version)


def in_child_killed_before(operation: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child process that kills itself before its nth change of the store; True when it got through."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done = 0

    def killing(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == operation:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **kwargs)

        return call

    for name in ("write", "create", "_upload_file"):
        setattr(FolderStore, name, killing(getattr(FolderStore, name)))
    try:
        work()
    finally:
        os._exit(0)


def test_killed_anywhere_leaves_a_whole_champion(tmp_path: Path) -> None:
    old_files = material(tmp_path / "old")
    for operation in range(1, 40):
        models = tmp_path / f"models{operation}"
        old, _ = run_publish(old_files, str(models), tmp_path / "card.json")
        made = material(tmp_path / f"new{operation}", b"new", champion=old)
        finished = in_child_killed_before(operation, partial(run_publish, made, str(models), tmp_path / "c.json"))
        store = open_store(str(models))
        held = current_champion(store)
        verify(store, held)
        assert finished is False or held != old
        new, _ = run_publish(made, str(models), tmp_path / "card.json")
        assert current_champion(store) == new != old
        assert msgspec.json.decode(store.read("champion.json"), type=Pointer).version == new
        verify(store, new)
        if finished:
            break
    # Eleven files, the manifest, the claim and the pointer: the child was killed before each of the fourteen.
    assert operation == 15


def test_dead_publishers_claim_is_finished_by_the_next_one(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "models")
    versions = [publish_version(store, {"a.txt": _file(tmp_path, text)})[0].version for text in ("one", "two", "three")]
    assert promote(store, versions[0], "") == "moved"
    claim = Pointer(version=versions[1], generation=2, previous=versions[0], promoted_at="2026-11-22T00:00:00+00:00")
    store.create("champions/00000002.json", msgspec.json.encode(claim))
    assert current_champion(store) == versions[1]
    assert promote(store, versions[2], versions[0]) == "superseded"
    assert msgspec.json.decode(store.read("champion.json"), type=Pointer) == claim
    assert promote(store, versions[2], versions[1]) == "moved"
    assert promote(store, versions[2], versions[1]) == "unchanged"


def test_damage_is_named(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "models")
    with pytest.raises(StoreError, match="not published"):
        promote(store, "0123", "")
    version, _ = run_publish(material(tmp_path / "a"), str(tmp_path / "models"), tmp_path / "card.json")
    (tmp_path / "models" / "versions" / version / "manifest.json").unlink()
    with pytest.raises(StoreError, match="does not exist"):
        current_champion(store)
    store.write("champion.json", b"{")
    with pytest.raises(StoreError, match=r"champion\.json is damaged"):
        current_champion(store)


@pytest.mark.parametrize("missing", ["train", "ledger", "model"])
def test_missing_input_is_named(tmp_path: Path, missing: str) -> None:
    made = material(tmp_path / "a")
    path: Path = getattr(made, missing)
    if path.is_dir():
        path.rename(tmp_path / "elsewhere")
    else:
        path.unlink()
    with pytest.raises(InputError, match=path.name):
        run_publish(made, str(tmp_path / "models"), tmp_path / "card.json")
    assert not (tmp_path / "models" / "champion.json").exists()


def test_card_tells_the_lineage_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", "sk-environment-secret")
    first, *others = sample_ledger(n=30)
    options = {
        "teacher": {"model": "big", "base_url": "https://user:hunter2@host/v1", "max_tokens": 512, "api_key": "sk-typed-in"},
        "note": "uses sk-environment-secret here",
    }
    version, _ = run_publish(
        material(tmp_path / "a", ledger=[msgspec.structs.replace(first, options=options), *others]),
        str(tmp_path / "models"),
        tmp_path / "card.json",
    )
    store = open_store(str(tmp_path / "models"))
    texts = [store.read(f"{version_folder(version)}/{name}").decode() for name in ("card.json", "card.md")]
    for text in texts:
        for secret in ("sk-environment-secret", "hunter2", "sk-typed-in"):
            assert secret not in text
        for fact in ("M3", "M2", "tiny", "sha256:pipe", "builtin", "Apache-2.0", "ask_me_anything@1a2b3c4d", "9f2c", "for a test"):
            assert fact in text, fact
    card = json.loads(texts[0])
    assert card["options"][first.task]["teacher"]["max_tokens"] == 512
    assert card["usage"]["requests"] == sum(record.usage.requests for record in LEDGER if record.usage)
    assert card["rows"]["synthesis"] == {
        "rows_in": 400,
        "rows_kept": 2281,
        "dropped": {"duplicate": 162, "answer_too_long": 6, "several_questions": 34, "not_solvable": 18},
    }
    assert {score["model"] for score in card["scores"]} >= {"M0", "M3", "M3-control"}


def _file(folder: Path, text: str) -> Path:
    path = folder / f"{text}.txt"
    path.write_text(text)
    return path
