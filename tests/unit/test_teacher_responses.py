"""The response store: nothing paid for is lost, nothing damaged is served, whoever writes and whenever it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.core.errors import StoreError
from components.core.store import FolderStore, Store, open_store
from components.teacher import responses
from components.teacher.responses import ResponseStore, request_key

WRITER = """
import asyncio, sys
from components.core.store import open_store
from components.teacher.responses import ResponseStore, request_key

async def main(address, name, count):
    store = ResponseStore(open_store(address), "run")
    store.load()
    for number in range(count):
        key = request_key("m", [{"role": "user", "content": f"{name} {number}"}], {}, 0)
        await store.put(key, b'{"text": "%s %d", "padding": "%s"}' % (name.encode(), number, b"x" * 500))
        print(number, flush=True)
    store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def key_of(text: object) -> str:
    return request_key("m", [{"role": "user", "content": str(text)}], {}, 0)


def opened(store: Store, run: str = "run") -> ResponseStore:
    replies = ResponseStore(store, run)
    replies.load()
    return replies


def read(store: ResponseStore, text: object) -> object:
    raw = store.get(key_of(text))
    return None if raw is None else msgspec.json.decode(raw)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl"))


def start_writer(address: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, address, name, str(count)], stdout=subprocess.PIPE, text=True)


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/responses"


async def test_replies_come_back_at_once_and_in_the_next_process(address: str) -> None:
    store = opened(open_store(address))
    await asyncio.gather(*(store.put(key_of(number), msgspec.json.encode({"n": number, "text": "ä\n\u2028"})) for number in range(50)))
    assert [read(store, number) for number in range(50)] == [{"n": number, "text": "ä\n\u2028"} for number in range(50)]
    store.close()
    again = opened(open_store(address), "another run")
    assert len(again) == 50
    assert read(again, 7) == {"n": 7, "text": "ä\n\u2028"}
    assert again.get(key_of("unknown")) is None
    assert list(again.replies_of_run()) == []
    same = opened(open_store(address))
    assert len(list(same.replies_of_run())) == 50
    for item in (again, same):
        item.close()


async def test_what_put_has_returned_is_in_the_store_before_close(address: str) -> None:
    store = opened(open_store(address))
    await store.put(key_of("a"), b'{"n": 1}')
    assert read(opened(open_store(address)), "a") == {"n": 1}
    store.close()


async def test_a_pretty_printed_reply_stays_one_line(tmp_path: Path) -> None:
    store = opened(FolderStore(tmp_path))
    await store.put(key_of("a"), b'{\n  "n": [\n 1 ]\n}')
    store.close()
    (segment,) = segments(tmp_path)
    assert msgspec.json.decode(segment.read_bytes())["reply"] == {"n": [1]}
    assert read(opened(FolderStore(tmp_path)), "a") == {"n": [1]}


async def test_many_replies_at_once_need_few_puts(s3_bucket: str) -> None:
    """While one put is under way the replies that come in wait for the next: not one put each."""
    written: list[str] = []

    class Counting(type(open_store(s3_bucket))):  # type: ignore[misc]
        def write(self, key: str, data: bytes) -> None:
            written.append(key)
            super().write(key, data)

    store = opened(Counting(s3_bucket))
    await asyncio.gather(*(store.put(key_of(number), b'{"n": 1}') for number in range(200)))
    store.close()
    assert len(written) <= 10
    assert len(set(written)) == 1
    assert len(opened(open_store(s3_bucket))) == 200


async def test_segments_on_s3_stay_small(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "OBJECT_SEGMENT_BYTES", 2000)
    store = opened(open_store(s3_bucket))
    for number in range(12):
        await store.put(key_of(number), msgspec.json.encode({"n": number, "padding": "x" * 700}))
        assert read(store, number // 2) is not None
    store.close()
    assert len(list(open_store(s3_bucket).list("segments/"))) == 4
    again = opened(open_store(s3_bucket))
    assert [read(again, number)["n"] for number in range(12)] == list(range(12))  # type: ignore[index]
    again.close()


async def test_a_segment_of_a_folder_is_replaced_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "FOLDER_SEGMENT_BYTES", 2000)
    store = opened(FolderStore(tmp_path))
    for number in range(12):
        await store.put(key_of(number), msgspec.json.encode({"n": number, "padding": "x" * 700}))
    assert [read(store, number)["n"] for number in range(12)] == list(range(12))  # type: ignore[index]
    store.close()
    assert len(segments(tmp_path)) == 4
    assert len(opened(FolderStore(tmp_path))) == 12


def test_several_processes_write_at_once(address: str) -> None:
    writers = [start_writer(address, name, 40) for name in "abcd"]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    store = opened(open_store(address))
    assert len(store) == 160
    assert store.corrupt == 0
    assert read(store, "c 39")["text"] == "c 39"  # type: ignore[index]


def test_a_kill_loses_nothing_that_was_acknowledged(address: str) -> None:
    writer = start_writer(address, "a", 1_000_000)
    assert writer.stdout is not None
    acknowledged = []
    for line in writer.stdout:
        acknowledged.append(int(line))
        if len(acknowledged) == 30:
            os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    store = opened(open_store(address))
    assert store.corrupt == 0
    assert all(read(store, f"a {number}") for number in acknowledged)
    assert len(store) in (len(acknowledged), len(acknowledged) + 1)


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Path]:
    async def fill() -> None:
        store = opened(FolderStore(tmp_path))
        for number in range(3):
            await store.put(key_of(number), b'{"n": %d}' % number)
        store.close()

    asyncio.run(fill())
    (path,) = segments(tmp_path)
    yield path


def test_damage_anywhere_is_skipped_and_told(segment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = segment.read_bytes()
    line = len(whole) // 3
    for position in range(line, 2 * line - 1):
        segment.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        store = opened(FolderStore(tmp_path))
        assert [read(store, number) for number in range(3)] == [{"n": 0}, None, {"n": 2}]
        assert store.corrupt in (1, 2)
    assert "1 damaged replies are skipped" in capsys.readouterr().out


def test_a_cut_off_end_is_skipped_silently(segment: Path, tmp_path: Path) -> None:
    whole = segment.read_bytes()
    for length in range(2 * len(whole) // 3, len(whole)):
        segment.write_bytes(whole[:length])
        store = opened(FolderStore(tmp_path))
        assert [read(store, number) for number in range(3)] == [{"n": 0}, {"n": 1}, None]
        assert store.corrupt == 0


def test_foreign_files_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "segments" / "run"
    folder.mkdir(parents=True)
    (folder / "x.jsonl").write_bytes(os.urandom(5000) + b"\n\n{}\n[]\n")
    (folder / "empty.jsonl").touch()
    store = opened(FolderStore(tmp_path))
    assert len(store) == 0
    assert store.corrupt > 0


async def test_a_full_disk_is_told_and_earlier_replies_stay(small_disk: Path) -> None:
    store = opened(FolderStore(small_disk))
    await store.put(key_of("a"), b'{"n": 1}')
    with pytest.raises(StoreError, match=r"cannot be stored(.|\n)*free space"):
        await store.put(key_of("b"), msgspec.json.encode("x" * 100_000))
    await store.put(key_of("c"), b'{"n": 3}')
    store.close()
    again = opened(FolderStore(small_disk))
    assert [read(again, name) for name in "abc"] == [{"n": 1}, None, {"n": 3}]
    assert again.corrupt == 0


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_in_a_segment_break_the_load(tmp_path: Path, noise: bytes) -> None:
    folder = tmp_path / "segments" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.jsonl").write_bytes(noise)
    assert len(opened(FolderStore(tmp_path))) == 0


@pytest.mark.parametrize("run", ["a/b", "../up", "", "..", "nightly 3"])
async def test_any_name_of_a_run_stays_inside(tmp_path: Path, run: str) -> None:
    store = opened(FolderStore(tmp_path / "store"), run)
    await store.put(key_of("a"), b"1")
    store.close()
    assert len(list((tmp_path / "store" / "segments").glob("*/*.jsonl"))) == 1
    assert len(list(opened(FolderStore(tmp_path / "store"), run).replies_of_run())) == 1


def test_the_key_does_not_depend_on_the_order_of_fields() -> None:
    one = request_key("m", [{"role": "user", "content": "a"}], {"temperature": 0.0, "top_p": 1.0}, 0)
    two = request_key("m", [{"content": "a", "role": "user"}], {"top_p": 1.0, "temperature": 0.0}, 0)
    assert one == two


def test_the_key_is_stable_over_releases() -> None:
    """A change here makes every user pay again for everything."""
    key = request_key("m", [{"role": "user", "content": "a"}], {"temperature": 0.0, "top_p": 1.0, "max_tokens": 2048}, 0)
    assert key == "3311edec4995256f70de03f32b4e50719575a95c74288e1c4fc3de8655d394a5"
