"""``tutorloop store``: counts what there is, finds what is damaged, and makes the store smaller without losing a reply."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from components.core.errors import StoreError
from components.core.store import FolderStore, KeysRefusedError, Store, open_store
from components.core.store.s3 import S3Store
from components.teacher.responses import prune, survey
from components.teacher.responses.index import SUFFIX
from components.teacher.responses.prune import Pruning, Rules
from components.teacher.responses.store import ResponseStore
from components.teacher.sharing.spending import Spending
from pipelines.cli.main import cli
from tests.support.stored_replies import ROOT, all_there, key, opened, put, read, start_writer

OLD = time.time() - 40 * 86_400


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> str:
    """The day on which the clock stands still, at noon: a test that goes on over midnight must not see two days."""
    monkeypatch.setattr(time, "time", lambda: 1_749_988_800.0)
    return "2025-06-15"


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/responses"


def fill(address: str, writer: str, texts: list[str], run: str = "run", model: str = "m", padding: str = "") -> None:
    async def work() -> None:
        store = opened(address, run, writer)
        for text in texts:
            await put(store, text, padding, model)
        store.close()

    asyncio.run(work())


def command(*arguments: str, status: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(cli, ["store", *arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result.stdout, result.stderr


def names(address: str | Store) -> list[str]:
    store = open_store(address) if isinstance(address, str) else address
    return [name for name in store.list() if name.endswith(".jsonl")]


def check(address: str, texts: list[str]) -> ResponseStore:
    """Fail unless each of these, and nothing else, is stored and whole."""
    store = opened(address, writer="checker")
    asyncio.run(all_there(store, texts))
    assert (len(store), store.corrupt) == (len(texts), 0)
    store.close()
    return store


def change(address: str, name: str, old: bytes, new: bytes) -> None:
    store = open_store(address)
    store.write(name, store.read(name).replace(old, new))


def stats(address: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(command("stats", "--json", address)[0])
    return found


def test_statistics(address: str, noon: str) -> None:
    fill(address, "a", ["1", "2"], run="one")
    fill(address, "b", ["1", "3"], run="two", model="other")
    fill(address, "c", ["1"], run="two")
    store = opened(address, "two", "d")
    asyncio.run(store.put_spending(Spending(1, 2, 0.5)))
    store.close()
    found = stats(address)
    counted = {name: value for name, value in found.items() if isinstance(value, int) and name not in ("bytes", "without_index")}
    assert counted == {"replies": 5, "distinct": 4, "duplicates": 1, "unusable": 1, "damaged": 0, "segments": 4, "loose": 4}
    assert found["bytes"] == sum(item.size for item in open_store(address).items())
    assert found["total"] == {"replies": 6, "tokens": 78, "usd": 1.75}
    assert found["by_run"] == {"one": {"replies": 2, "tokens": 30, "usd": 0.5}, "two": {"replies": 4, "tokens": 48, "usd": 1.25}}
    assert found["by_model"] == {
        "m": {"replies": 3, "tokens": 45, "usd": 0.75},
        "other": {"replies": 2, "tokens": 30, "usd": 0.5},
        "": {"replies": 1, "tokens": 3, "usd": 0.5},
    }
    assert found["by_day"] == {noon: found["total"]}
    text = command("stats", address)[0]
    assert "5 replies to 4 requests (1 paid for more than once), 78 tokens, 1.7500 dollars" in text
    assert "1 replies were charged and hold no usable text" in text


def test_the_store_of_a_home_is_the_default(tmp_path: Path) -> None:
    fill(str(tmp_path / "home" / "shared" / "responses"), "a", ["1"])
    assert "1 replies to 1 requests" in command("stats", "--home", str(tmp_path / "home"))[0]


@pytest.mark.parametrize("name", ["stats", "verify", "export", "prune"])
def test_a_wrong_address_is_told_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(cli, ["store", name, str(tmp_path / "typo")])
    assert isinstance(result.exception, StoreError) and "there is no such folder" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_verify_finds_nothing_wrong_in_a_whole_store(address: str) -> None:
    fill(address, "a", ["1", "2"])
    fill(address, "b", ["3"])
    assert command("verify", address) == ("3 intact replies in 2 segments\n", "")


def test_verify_names_every_damage(tmp_path: Path) -> None:
    for writer in "abcdef":
        fill(str(tmp_path), writer, [f"{writer} {number}" for number in range(3)])
    folder = tmp_path / "replies" / "run"
    segment = {writer: folder / f"{writer}-00000.jsonl" for writer in "abcdef"}
    flipped = segment["a"].read_bytes().replace(b"reply to a 1", b"reply to a 7")
    segment["a"].write_bytes(flipped)
    store = ResponseStore(FolderStore(tmp_path), "run", "stolen")
    asyncio.run(store.put(key("other"), b'{"model":"m"}', b"1", Spending()))
    store.close()
    segment["c"].write_bytes(segment["c"].read_bytes()[:-5])
    (folder / f"c-00000.jsonl{SUFFIX}").unlink()
    segment["d"].write_bytes(segment["d"].read_bytes()[:-5])
    index = folder / f"e-00000.jsonl{SUFFIX}"
    index.write_bytes(index.read_bytes()[:-9])
    said, advice = command("verify", str(tmp_path), status=1)
    offset = len(flipped.splitlines(keepends=True)[0])
    missing = len(segment["d"].read_bytes()) and 5
    assert said.splitlines() == [
        f"replies/run/a-00000.jsonl: 1 damaged replies, at byte {offset}",
        "replies/run/stolen-00000.jsonl: 1 replies under keys that are not their requests', at byte 0",
        f"replies/run/d-00000.jsonl: its last {missing} bytes are missing",
        f"replies/run/e-00000.jsonl{SUFFIX}: the index is damaged or tells something else than its segment holds",
        "replies/run/c-00000.jsonl: the last line has no end, since its writer was killed or is writing: no damage",
        "replies/run/d-00000.jsonl: the last line has no end, since its writer was killed or is writing: no damage",
        "15 intact replies in 7 segments",
    ]
    assert "prune --damaged" in advice


def test_an_index_with_wrong_entries_is_found(tmp_path: Path) -> None:
    fill(str(tmp_path), "a", ["1", "2"])
    (segment,) = (tmp_path / "replies" / "run").glob("*.jsonl")
    segment.write_bytes(b"".join(reversed(segment.read_bytes().splitlines(keepends=True))))
    assert "tells something else" in command("verify", str(tmp_path), status=1)[0]


def test_export_filters_and_tells_what_it_skips(address: str, tmp_path: Path, noon: str) -> None:
    fill(address, "a", ["1", "2"], run="one")
    fill(address, "b", ["1", "3"], run="two", model="other")
    fill(address, "c", ["1"], run="two")
    change(address, "replies/one/a-00000.jsonl", b"reply to 2", b"reply to 9")
    out, err = command("export", address)
    rows = [msgspec.json.decode(line) for line in out.splitlines()]
    assert [(row["run"], row["model"], row["reply"]) for row in rows] == [
        ("one", "m", "reply to 1"),
        ("two", "other", "reply to 1"),
        ("two", "other", "reply to 3"),
    ]
    assert "replies/one/a-00000.jsonl: skipped" in err and "3 replies exported, 1 skipped" in err
    assert rows[0].pop("time").startswith(noon)
    assert rows[0] == {
        "key": key("1"),
        "run": "one",
        "model": "m",
        "messages": [{"role": "user", "content": "1"}],
        "parameters": {"temperature": 0.0},
        "sample": 0,
        "reply": "reply to 1",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "usd": 0.25,
    }
    for filters, count in (
        (["--run", "two"], 3),
        (["--run", "two", "--model", "m"], 1),
        (["--since", "2999-01-01"], 0),
        (["--since", "2020-01-01"], 3),
    ):
        assert len(command("export", address, *filters)[0].splitlines()) == count, filters
    target = tmp_path / "out.jsonl"
    command("export", address, "--to", str(target))
    assert target.read_text() == out


def test_an_export_that_fails_leaves_the_file_as_it_was(tmp_path: Path, small_disk: Path) -> None:
    fill(str(tmp_path / "store"), "a", [str(number) for number in range(20)], padding="x")
    for number in range(20):
        fill(str(tmp_path / "store"), f"b{number}", ["long " * 2000 + str(number)])
    target = small_disk / "out.jsonl"
    target.write_text("before")
    result = CliRunner().invoke(cli, ["store", "export", str(tmp_path / "store"), "--to", str(target)])
    assert isinstance(result.exception, StoreError) and "the disk is full" in str(result.exception)
    assert [(path.name, path.read_text()) for path in small_disk.iterdir()] == [("out.jsonl", "before")]


def test_prune_packs_what_is_loose_and_loses_nothing(address: str) -> None:
    texts = []
    for run in ("one", "two"):
        for writer in "abcd":
            fill(address, f"{run}{writer}", [f"{run} {writer} {number}" for number in range(3)], run=run)
            texts += [f"{run} {writer} {number}" for number in range(3)]
    before = open_store(address)
    held = {item.key: item.size for item in before.items()}
    assert "nothing to do" in command("prune", address)[0], "it is younger than an hour"
    assert "8 segments would be written anew, as 2" in command("prune", "--all", "--dry-run", address)[0]
    assert {item.key: item.size for item in before.items()} == held
    assert "8 segments written anew, as 2" in command("prune", "--all", address)[0]
    assert len(names(address)) == 2 and len(list(before.list())) == 4
    store = check(address, texts)
    assert store.spent(run="one") == Spending(120, 60, 3)
    command("verify", address)
    assert "nothing to do" in command("prune", "--all", address)[0]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--run", "one"], ["two m new", "two other old"]),
        (["--model", "other"], ["one m old", "two m new"]),
        (["--older-than", "30"], ["two m new"]),
        (["--older-than", "30", "--run", "two"], ["one m old", "two m new"]),
        (["--older-than", "50"], ["one m old", "two m new", "two other old"]),
    ],
)
def test_prune_drops_what_all_filters_name(address: str, arguments: list[str], left: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("one m old", "two other old", "two m new"):
        run, model, age = text.split()
        with monkeypatch.context() as patch:
            if age == "old":
                patch.setattr(time, "time", lambda: OLD)
            store = ResponseStore(open_store(address), run, text.replace(" ", "-"))
            asyncio.run(put(store, text, model=model))
            store.close()
    dry = command("prune", "--all", "--dry-run", *arguments, address)[0]
    assert stats(address)["replies"] == 3
    said = command("prune", "--all", *arguments, address)[0]
    assert (f"{3 - len(left)} replies dropped" in said) == (f"{3 - len(left)} replies would be dropped" in dry) == (len(left) < 3)
    rows = command("export", address)[0].splitlines()
    assert sorted(msgspec.json.decode(row)["messages"][0]["content"] for row in rows) == left


def test_what_is_dropped_stays_paid(address: str, noon: str) -> None:
    fill(address, "a", ["1", "2", "3"])

    def spent() -> list[Spending]:
        store = ResponseStore(open_store(address), "looking", "looking")
        store.load()
        store.close()
        return [store.spent(run="run"), store.spent(day=noon)]

    before = spent()
    assert before[0].tokens and before[0] == before[1]
    for _ in range(2):
        command("prune", "--all", "--run", "run", address)
        assert stats(address)["replies"] == 0
        assert spent() == before
    assert "nothing to do" in command("prune", "--all", "--run", "run", address)[0]


def test_prune_drops_damaged_lines_only_when_asked(address: str) -> None:
    fill(address, "a", ["1", "2", "3"])
    fill(address, "b", ["4"])
    change(address, "replies/run/a-00000.jsonl", b"reply to 2", b"reply to 9")
    command("prune", "--all", address)
    assert stats(address)["damaged"] == 1, "it is kept for whoever wants to see it"
    assert "1 damaged replies dropped" in command("prune", "--all", "--damaged", address)[0]
    command("verify", address)
    check(address, ["1", "3", "4"])


def test_prune_indexes_what_a_killed_writer_left(tmp_path: Path) -> None:
    fill(str(tmp_path), "a", ["1", "2"])
    store = open_store(str(tmp_path))
    store.delete(f"replies/run/a-00000.jsonl{SUFFIX}")
    with (tmp_path / "replies/run/a-00000.jsonl").open("ab") as handle:
        handle.write(b'{"key":"torn')
    assert "1 segments indexed" in command("prune", "--all", str(tmp_path))[0]
    assert stats(str(tmp_path))["without_index"] == 0
    check(str(tmp_path), ["1", "2"])


def test_prune_leaves_the_segments_of_a_living_writer_alone(tmp_path: Path) -> None:
    """Though they were last written to long ago."""
    writer = start_writer(str(tmp_path), "w", 1_000_000)
    assert writer.stdout is not None and writer.stdout.readline()
    os.kill(writer.pid, signal.SIGSTOP)
    (segment,) = (tmp_path / "replies" / "run").glob("*.jsonl")
    os.utime(segment, (OLD, OLD))
    fill(str(tmp_path), "a", ["1"])
    assert "1 segments are left alone" in command("prune", "--all", str(tmp_path))[0]
    assert segment.exists()
    writer.kill()
    writer.communicate()
    assert "left alone" not in command("prune", "--all", str(tmp_path))[0]
    assert not segment.exists()
    assert opened(str(tmp_path)).known(key("w 0"))


PRUNE = "import sys; from pipelines.cli.main import main; sys.argv = ['tutorloop', 'store', 'prune', '--all', sys.argv[1]]; main()"


class Interrupted(Exception):
    """The process ends here."""


@pytest.mark.parametrize("call", range(14))
def test_a_pruning_that_is_killed_loses_and_doubles_nothing(address: str, call: int) -> None:
    """Before every change that it makes in turn; the next one finishes the work."""
    texts = [f"{writer} {number}" for writer in "abc" for number in range(2)]
    for writer in "abc":
        fill(address, writer, [text for text in texts if text.startswith(writer)])
    store = open_store(address)
    calls = 0

    def counted(change: Any) -> Any:
        def wrapped(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > call:
                raise Interrupted
            return change(*arguments)

        return wrapped

    for name in ("create", "write", "delete"):
        setattr(store, name, counted(getattr(store, name)))
    try:
        Pruning(store, Rules(all=True), False, lambda text: None).run()
    except Interrupted:
        pass
    else:
        assert call >= 8, "two files are made and three segments with their indexes removed"
    assert check(address, texts).spent() == Spending(60, 30, 1.5)
    command("prune", "--all", address)
    assert len(names(address)) == 1
    assert check(address, texts).spent() == Spending(60, 30, 1.5)


async def test_a_reader_goes_on_while_its_segments_are_packed(address: str) -> None:
    texts = [f"{writer} {number}" for writer in "abc" for number in range(2)]
    for writer in "abc":
        store = opened(address, writer=writer)
        for text in texts:
            if text.startswith(writer):
                await put(store, text)
        store.close()
    reader = opened(address, writer="reader")
    await read(reader, "a 0")
    await asyncio.to_thread(lambda: subprocess.run([sys.executable, "-c", PRUNE, address], cwd=ROOT, check=True))
    if "s3:" in address:
        reader._reader._copies.clear()  # type: ignore[attr-defined]
    await all_there(reader, texts)
    assert (len(reader), reader.corrupt, reader.spent().prompt_tokens) == (6, 0, 60)
    await reader.refresh(["a", "b"])
    assert reader.spent().prompt_tokens == 60
    reader.close()


def test_what_grows_while_it_is_packed_is_kept(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer on S3 that was silent for an hour and goes on just then."""
    fill(s3_bucket, "a", ["1"])

    async def work() -> None:
        store = opened(s3_bucket, writer="b")
        await put(store, "2")
        pruning = open_store(s3_bucket)
        create = pruning.create
        loop = asyncio.get_running_loop()

        def late(name: str, data: bytes) -> bool:
            if name.endswith(SUFFIX):
                asyncio.run_coroutine_threadsafe(put(store, "3"), loop).result()
            return create(name, data)

        monkeypatch.setattr(pruning, "create", late)
        await asyncio.to_thread(Pruning(pruning, Rules(all=True), False, lambda text: None).run)
        store.close()

    asyncio.run(work())
    assert check(s3_bucket, ["1", "2", "3"]).spent().prompt_tokens == 30


def test_prune_tells_that_keys_may_not_delete(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for writer in "ab":
        fill(s3_bucket, writer, [writer])

    def refuse(store: S3Store, key: str) -> None:
        raise KeysRefusedError("these keys may not delete")

    monkeypatch.setattr(S3Store, "delete", refuse)
    said, _ = command("prune", "--all", s3_bucket)
    assert "2 objects that were packed stay: these keys may not delete; run it with the store's root keys" in said
    assert "2 segments written anew, as 1" in said
    check(s3_bucket, ["a", "b"])


def test_large_segments_are_not_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (survey, prune):
        monkeypatch.setattr(module, "LOOSE_BYTES", 2000)
    fill(str(tmp_path), "large", ["1", "2"], padding="x" * 1500)
    fill(str(tmp_path), "small", ["3"])
    fill(str(tmp_path), "tiny", ["4"])
    command("prune", "--all", str(tmp_path))
    assert [name for name in names(str(tmp_path)) if "packed" not in name] == ["replies/run/large-00000.jsonl"]
    check(str(tmp_path), ["1", "2", "3", "4"])
