"""A home in an object store: what is there is whole, wherever the run that sent it up was killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from components.core.records import StageRecord
from components.core.store import open_store
from pipelines.local.remote_home import CACHE, RemoteHome
from tests.support.kills import at_every_change


def finished_tasks(home: RemoteHome, *names: str) -> None:
    """What KFP and the tasks leave in the folder of this machine: a file, a folder and a record each, and an entry of the cache."""
    home.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        outputs = home.folder / "shared" / "artifacts" / name
        (outputs / "model" / "parts").mkdir(parents=True)
        for file in ("rows.jsonl", "model/weights", "model/parts/tokenizer"):
            (outputs / file).write_text(f"{file} of {name}")
        record = home.folder / "shared" / "tasks" / f"{name}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_bytes(msgspec.json.encode(StageRecord(stage=name, task=name, started_at="2026-01-01T00:00:00+00:00", seconds=1)))
        entry = home.folder / CACHE / f"{name}.json"
        entry.parent.mkdir(parents=True, exist_ok=True)
        values = {"rows": {"uri": str(outputs / "rows.jsonl")}, "model": [str(outputs / "model")], "record": str(record), "n": 3}
        entry.write_text(json.dumps(values))


FILES = ("artifacts/{}/rows.jsonl", "artifacts/{}/model/weights", "artifacts/{}/model/parts/tokenizer", "tasks/{}.json")


def test_every_entry_of_the_cache_in_the_store_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that takes an entry over asks for its outputs: one without them would fail every later run."""

    def home(number: int, machine: str) -> RemoteHome:
        monkeypatch.setenv("TUTORLOOP_WORK", str(tmp_path / machine))
        return RemoteHome(str(tmp_path / f"store {number}"))

    def prepare(number: int) -> Callable[[], object]:
        here = home(number, "here")
        finished_tasks(here, "sft", "tune")
        return here._send_up_artifacts

    killed = 0
    for number in at_every_change(prepare):
        store, killed = open_store(str(tmp_path / f"store {number}")), number
        entries = [Path(key).stem for key in store.list(f"{CACHE}/")]
        for name in entries:
            assert all(store.exists(f"shared/{file.format(name)}") for file in FILES), f"killed before change {number}"
        there = home(number, "there")
        with there.open():
            assert sorted(path.stem for path in (there.folder / CACHE).glob("*.json")) == sorted(entries)
            for name in entries:
                assert all((there.folder / "shared" / file.format(name)).is_file() for file in FILES)
        # The same run goes on: everything arrives.
        home(number, "here")._send_up_artifacts()
        assert len(list(store.list(f"{CACHE}/"))) == 2
    assert killed == 2 * (len(FILES) + 1)


def test_a_bringing_down_that_was_killed_is_made_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_WORK", str(tmp_path / "here"))
    here = RemoteHome(str(tmp_path / "store"))
    finished_tasks(here, "sft", "tune")
    here._send_up_artifacts()
    monkeypatch.setenv("TUTORLOOP_WORK", str(tmp_path / "there"))
    there = RemoteHome(str(tmp_path / "store"))
    download, calls = there._store.download, 0

    def dying(key: str, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return download(key, target)

    monkeypatch.setattr(there._store, "download", dying)
    with pytest.raises(KeyboardInterrupt), there.open():
        pytest.fail("it is not down")
    monkeypatch.undo()
    monkeypatch.setenv("TUTORLOOP_WORK", str(tmp_path / "there"))
    again = RemoteHome(str(tmp_path / "store"))
    with again.open():
        for file in FILES:
            assert (again.folder / "shared" / file.format("tune")).is_file()


def test_the_folder_of_another_home_is_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that was deleted and made anew at the same address."""
    monkeypatch.setenv("TUTORLOOP_WORK", str(tmp_path / "here"))
    home = RemoteHome(str(tmp_path / "store"))
    with home.open():
        finished_tasks(home, "sft")
    store = open_store(str(tmp_path / "store"))
    assert store.exists(f"{CACHE}/sft.json")
    store.delete_folder("shared")
    store.write("home.json", msgspec.json.encode({"id": "another"}))
    with RemoteHome(str(tmp_path / "store")).open():
        assert not (home.folder / CACHE / "sft.json").exists()
