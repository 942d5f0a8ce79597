"""The response store: what is stored comes back, in this process and the next, whoever writes and however it is packed."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from components.core.errors import StoreError
from components.core.store import FolderStore, open_store
from components.teacher.responses import catalog, object_writing, writing
from components.teacher.responses.keys import canonical_request, key_of, request_key
from components.teacher.responses.store import ResponseStore
from components.teacher.sharing.spending import Spending
from tests.support.stored_replies import COST, all_there, key, opened, put, read, request_of, start_writer


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/responses"


async def test_replies_come_back_at_once_and_in_the_next_process(address: str) -> None:
    store = opened(address)
    texts = [f"ä\n\u2028 {number}" for number in range(50)]
    await asyncio.gather(*(put(store, text) for text in texts))
    await all_there(store, texts)
    assert len(store) == 50
    store.close()
    again = opened(address, "another run")
    assert len(again) == 50
    await all_there(again, texts)
    assert await read(again, "unknown") is None
    again.close()


async def test_what_put_has_returned_is_in_the_store_before_close(address: str) -> None:
    store = opened(address)
    await put(store, "a")
    other = opened(address)
    assert await read(other, "a") == "reply to a"
    for item in (store, other):
        item.close()


async def test_a_line_tells_everything_and_stays_one_line(address: str) -> None:
    store = opened(address)
    await store.put(key("a"), request_of("a"), b'{\n  "n": [\n 1 ]\n}', Spending(3, 4, 0.5))
    store.close()
    ((name, raw),) = [(name, open_store(address).read(name)) for name in open_store(address).list() if name.endswith(".jsonl")]
    assert name.startswith("replies/run/")
    (line,) = raw.splitlines()
    found = msgspec.json.decode(line)
    assert abs(found.pop("at") - time.time()) < 600
    assert len(found.pop("crc")) == 8
    assert found == {
        "key": key("a"),
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "usd": 0.5,
        "request": msgspec.json.decode(request_of("a")),
        "reply": {"n": [1]},
    }


async def test_a_reply_that_is_no_json_is_refused(address: str) -> None:
    store = opened(address)
    for reply in (b"", b'{"n": 1', b"1\n2"):
        with pytest.raises(msgspec.DecodeError):
            await store.put(key("a"), request_of("a"), reply, COST)
    await put(store, "b")
    store.close()
    again = opened(address)
    assert (len(again), again.corrupt) == (1, 0)
    again.close()


async def test_spending_is_summed_by_run_day_and_writer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noon = 1795348800
    monkeypatch.setattr("components.teacher.responses.store.time", SimpleNamespace(time=lambda: noon + 0.5))
    for run, writer, count in (("one", "a", 2), ("one", "b", 3), ("two", "c", 4)):
        store = opened(address, run, writer)
        for number in range(count):
            await put(store, f"{writer} {number}")
        await store.put_spending(Spending(1, 0, 0.125))
        store.close()
    store = opened(address, "two", "d")
    assert len(store) == 9
    assert store.spent(run="one") == Spending(52, 25, 1.5)
    assert store.spent(run="one", without=["b"]) == Spending(21, 10, 0.625)
    assert store.spent(day="2026-11-22") == store.spent() == Spending(93, 45, 2.625)
    assert store.spent(day="1999-01-01") == store.spent(run="none") == Spending()
    await put(store, "own")
    assert store.spent() == Spending(93, 45, 2.625), "what this process has put is its own to count"
    store.close()


async def test_refresh_takes_in_what_others_have_stored_since(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "OBJECT_SEGMENT_BYTES", 2000)
    monkeypatch.setattr(writing, "FOLDER_SEGMENT_BYTES", 2000)
    writer, stranger, reader = opened(address, writer="a"), opened(address, "other run", writer="c"), opened(address, writer="b")
    for number in range(12):
        await put(writer, number, "x" * 700)
        await put(stranger, f"c {number}")
        assert not reader.known(key(number))
        await reader.refresh(["a", "b", "nobody"])
        assert await read(reader, number) == f"reply to {number}"
        assert reader.spent() == Spending(10 * (number + 1), 5 * (number + 1), 0.25 * (number + 1))
    writer.close()
    await reader.refresh(["a"])
    assert reader.spent() == Spending(120, 60, 3), "what was packed counts once"
    assert (len(reader), reader.corrupt) == (12, 0)
    await all_there(reader, [str(number) for number in range(12)])
    await reader.refresh(["c"])
    assert len(reader) == 24
    for item in (stranger, reader):
        item.close()


async def test_a_line_that_is_half_written_is_taken_in_later(tmp_path: Path) -> None:
    store = opened(str(tmp_path), writer="a")
    for text in "xyz":
        await put(store, text)
    folder = open_store(str(tmp_path))
    whole = folder.read("replies/run/a-00000.jsonl")
    store.close()
    folder.delete("replies/run/a-00000.jsonl.idx")
    cuts = [len(whole) // 2, len(whole) // 2 + 9, len(whole) - 1, len(whole)]
    folder.write("replies/run/a-00000.jsonl", whole[: cuts[0]])
    reader = opened(str(tmp_path), writer="b")
    found = []
    for cut in cuts:
        folder.write("replies/run/a-00000.jsonl", whole[:cut])
        await reader.refresh(["a"])
        found.append((len(reader), reader.spent().prompt_tokens, reader.corrupt))
    assert found == [(1, 10, 0), (1, 10, 0), (2, 20, 0), (3, 30, 0)]
    await all_there(reader, list("xyz"))
    reader.close()


async def test_a_segment_is_replaced_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "FOLDER_SEGMENT_BYTES", 2000)
    store = opened(str(tmp_path))
    texts = [str(number) for number in range(12)]
    for text in texts:
        await put(store, text, "x" * 600)
    await all_there(store, texts)
    store.close()
    names = list(open_store(str(tmp_path)).list())
    assert [sum(name.endswith(end) for name in names) for end in (".jsonl", ".idx")] == [4, 4]
    again = opened(str(tmp_path))
    assert len(again) == 12
    await all_there(again, texts)


async def test_complete_segments_load_from_their_indexes_alone(address: str) -> None:
    store = opened(address)
    for number in range(20):
        await put(store, number)
    store.close()

    class NoData(type(open_store(address))):  # type: ignore[misc]
        def read_range(self, key: str, offset: int, length: int | None = None) -> bytes:
            raise AssertionError(f"{key} was read")

    if isinstance(open_store(address), FolderStore):
        assert len(opened(NoData(Path(address)))) == 20
    else:
        assert [name for name in open_store(address).list() if name.endswith(".jsonl")], "one small object needs no index"


async def test_an_index_of_the_future_is_passed_over(tmp_path: Path) -> None:
    store = opened(str(tmp_path))
    await put(store, "a")
    store.close()
    folder = open_store(str(tmp_path))
    (index,) = [name for name in folder.list() if name.endswith(".idx")]
    raw = bytearray(folder.read(index)[:-4])
    raw[4] = 200
    folder.write(index, bytes(raw) + zlib.crc32(raw).to_bytes(4, "little"))
    again = opened(str(tmp_path))
    await all_there(again, ["a"])
    assert again.corrupt == 0


def test_eight_processes_write_at_once(address: str) -> None:
    writers = [start_writer(address, name, 25) for name in "abcdefgh"]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    store = opened(address)
    assert (len(store), store.corrupt) == (200, 0)
    asyncio.run(all_there(store, [f"{name} {number}" for name in "abcdefgh" for number in range(25)]))
    assert store.spent(run="run") == Spending(2000, 1000, 50)


async def test_two_writers_of_one_name_lose_nothing(address: str) -> None:
    """It must not happen, and if it does nothing is overwritten."""
    one, two = opened(address, writer="same"), opened(address, writer="same")
    for number in range(5):
        await put(one, f"one {number}")
        await put(two, f"two {number}")
    await all_there(one, [f"one {number}" for number in range(5)])
    for item in (one, two):
        item.close()
    again = opened(address)
    await all_there(again, [f"{name} {number}" for name in ("one", "two") for number in range(5)])
    again.close()


async def test_foreign_files_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "replies" / "run"
    folder.mkdir(parents=True)
    for name in ("x.jsonl", "a-1.jsonl.idx", "a-1.json", "notes.txt", "-1.jsonl", ".a-1.jsonl.part"):
        (folder / name).write_bytes(b"\x00\xff\n\n{}\n[]\n")
    (tmp_path / "replies" / "a-1.jsonl").write_bytes(b"{}\n")
    (folder / "a-7.jsonl").mkdir()
    (folder / "empty-1.jsonl").touch()
    store = opened(str(tmp_path))
    assert (len(store), store.corrupt) == (0, 0)
    (folder / "b-1.jsonl").write_bytes(b"\x00\xff\n\n{}\n[]\n")
    assert opened(str(tmp_path)).corrupt == 4


async def test_a_full_disk_is_told_and_earlier_replies_stay(small_disk: Path) -> None:
    store = opened(str(small_disk))
    await put(store, "a")
    with pytest.raises(StoreError, match=r"cannot be stored(.|\n)*free space"):
        await put(store, "b", "x" * 100_000)
    assert not store.known(key("b"))
    await put(store, "c")
    store.close()
    again = opened(str(small_disk))
    assert [await read(again, name) for name in "abc"] == ["reply to a", None, "reply to c"]
    assert again.corrupt == 0


async def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "replies").write_text("a file")
    store = ResponseStore(open_store(str(tmp_path)), "run", "a")
    with pytest.raises(StoreError, match=r"replies cannot be stored(.|\n)*writable"):
        await put(store, "a")
    store.close()


@pytest.mark.parametrize("run", ["a/b", "../up", "", "..", "nightly 3"])
async def test_any_name_of_a_run_stays_inside(tmp_path: Path, run: str) -> None:
    store = opened(str(tmp_path / "store"), run)
    await put(store, "a")
    store.close()
    assert len(list((tmp_path / "store" / "replies").glob("*/*.jsonl"))) == 1
    assert opened(str(tmp_path / "store"), run).spent(run=run) == COST


def test_the_key_does_not_depend_on_the_order_of_fields() -> None:
    one = request_key("m", [{"role": "user", "content": "a"}], {"temperature": 0.0, "top_p": 1.0}, 0)
    two = request_key("m", [{"content": "a", "role": "user"}], {"top_p": 1.0, "temperature": 0.0}, 0)
    assert one == two == key_of(canonical_request("m", [{"content": "a", "role": "user"}], {"top_p": 1.0, "temperature": 0.0}, 0))


def test_the_key_is_stable_over_releases() -> None:
    """A change here makes every user pay again for everything."""
    key = request_key("m", [{"role": "user", "content": "a"}], {"temperature": 0.0, "top_p": 1.0, "max_tokens": 2048}, 0)
    assert key == "3311edec4995256f70de03f32b4e50719575a95c74288e1c4fc3de8655d394a5"


async def test_a_reply_that_is_stored_twice_counts_once_and_costs_twice(address: str) -> None:
    for writer in "ab":
        store = ResponseStore(open_store(address), "run", writer)
        await put(store, "a")
        store.close()
    again = opened(address)
    assert len(again) == 1
    assert again.spent() == COST.plus(COST)
    again.close()


def test_replies_whose_keys_begin_alike_are_told_apart() -> None:
    """Keys are compared by 16 bytes in the index and whole in the line."""
    from components.teacher.responses.index import entries_of
    from components.teacher.responses.lines import Entry
    from components.teacher.responses.segments import Segment

    keys = [bytes(7) + bytes([high]) + bytes(7) + bytes([low]) for high in (1, 2) for low in (1, 2, 255)]
    known = catalog.Catalog()
    number = known.add_segment(Segment("s", "r", "w", 0))
    known.build([(number, entries_of(Entry(one, place, 5, 0, 0, 0, 0) for place, one in enumerate(keys)))])
    assert len(known) == len(keys)
    assert [list(known.places(one)) for one in keys] == [[(0, place, 5)] for place in range(len(keys))]
    assert not known.knows(bytes(7) + bytes([1]) + bytes(7) + bytes([3]))
    assert not known.knows(b"\xff" * 16)


@pytest.mark.parametrize(
    ("number", "told"), [(errno.EIO, None), (errno.ESTALE, None), (errno.EACCES, "Permission denied(.|\\n)*make it readable")]
)
async def test_only_a_disk_that_cannot_read_makes_a_reply_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    store = opened(str(tmp_path))
    await put(store, "1")
    assert await read(store, "1") == "reply to 1"
    failing = True

    def fail_once(descriptor: int, length: int, offset: int) -> bytes:
        nonlocal failing
        if failing:
            failing = False
            raise OSError(number, os.strerror(number))
        return pread(descriptor, length, offset)

    pread = os.pread
    monkeypatch.setattr(os, "pread", fail_once)
    if told:
        with pytest.raises(StoreError, match=told):
            await read(store, "1")
    assert await read(store, "1") == (None if number == errno.EIO else "reply to 1")
    assert ("damaged" in capfd.readouterr().out) == (number == errno.EIO)
    store.close()


async def test_too_many_open_files_are_told(tmp_path: Path) -> None:
    writer = opened(str(tmp_path))
    await put(writer, "1")
    store = opened(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StoreError, match=r"Too many open files(.|\n)*ulimit"):
            await store.get(key("1"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert await read(store, "1") == "reply to 1"
    for item in (writer, store):
        item.close()
