"""The response store on S3: few objects, few requests, and packs that appear while others read."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from components.core.errors import StoreError
from components.core.store import KeysRefusedError, open_store
from components.core.store.s3 import S3Store
from components.teacher.responses import object_writing, prune, reading, survey
from components.teacher.responses.index import SUFFIX
from components.teacher.responses.prune import Pruning, Rules
from components.teacher.responses.store import ResponseStore
from tests.support.stored_replies import COST, all_there, key, opened, put, read

TEXTS = [str(number) for number in range(48)]


class Watched(S3Store):
    """Counts what is asked of the server, and can forbid or interrupt it."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.asked: Counter[str] = Counter()
        self.before: Any = lambda what, key: None

    def _note(self, what: str, key: str) -> None:
        self.asked[what] += 1
        self.before(what, key)

    def write(self, key: str, data: bytes) -> None:
        self._note("write", key)
        super().write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._note("create", key)
        return super().create(key, data)

    def read(self, key: str) -> bytes:
        self._note("read", key)
        return super().read(key)

    def read_range(self, key: str, offset: int, length: int | None = None) -> bytes:
        self._note("read_range", key)
        return super().read_range(key, offset, length)

    def delete(self, key: str) -> None:
        self._note("delete", key)
        super().delete(key)


@pytest.fixture(autouse=True)
def small_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "OBJECT_SEGMENT_BYTES", 3000)


async def fill(store: ResponseStore, texts: list[str] = TEXTS) -> None:
    for text in texts:
        await put(store, text, "x" * 600)


def names(address: str) -> list[str]:
    return [name for name in open_store(address).list() if name.endswith(".jsonl")]


async def test_many_replies_at_once_need_few_puts(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one put is under way the replies that come in wait for the next: not one put each."""
    monkeypatch.setattr(object_writing, "OBJECT_SEGMENT_BYTES", 256 << 10)
    watched = Watched(s3_bucket)
    store = opened(watched)
    await asyncio.gather(*(put(store, number) for number in range(200)))
    store.close()
    assert watched.asked["write"] + watched.asked["create"] <= 4
    assert len(opened(s3_bucket)) == 200


async def test_small_objects_are_packed_and_the_pack_is_found(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "PACK_BYTES", 12_000)
    store = opened(s3_bucket)
    await fill(store)
    await all_there(store, TEXTS)
    store.close()
    assert len(names(s3_bucket)) == 3, "16 replies each"
    watched = Watched(s3_bucket)
    again = opened(watched)
    assert watched.asked == {"read": 3}, "three indexes"
    await all_there(again, TEXTS)
    assert watched.asked["read_range"] == 3, "one block of each pack"
    assert again.spent() == COST._replace(prompt_tokens=480, completion_tokens=240, usd=12)
    again.close()


async def test_blocks_of_a_large_object_come_once(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(s3_bucket)
    await fill(store)
    store.close()
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4096)
    watched = Watched(s3_bucket)
    again = opened(watched)
    assert await asyncio.gather(*(read(again, text) for text in TEXTS)) == [f"reply to {text}" for text in TEXTS]
    (name,) = names(s3_bucket)
    assert watched.asked["read_range"] == -(-len(open_store(s3_bucket).read(name)) // 4096)
    again.close()


@pytest.mark.parametrize("stop", [("create", SUFFIX), ("create", ".jsonl"), ("delete", "00000.jsonl"), ("delete", "00003.jsonl")])
async def test_a_pack_that_was_not_finished_loses_and_doubles_nothing(
    s3_bucket: str, stop: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    watched = Watched(s3_bucket)
    store = opened(watched)
    await fill(store)

    def interrupt(what: str, key: str) -> None:
        if what == stop[0] and key.endswith(stop[1]):
            raise StoreError("the server is gone")

    watched.before = interrupt
    store.close()
    assert "small objects are left" in capfd.readouterr().out
    assert len(names(s3_bucket)) > 1
    again = opened(s3_bucket)
    assert (len(again), again.corrupt) == (len(TEXTS), 0)
    assert again.spent().prompt_tokens == 480
    await all_there(again, TEXTS)
    again.close()


async def test_objects_that_vanish_while_they_are_read_are_found_in_their_pack(s3_bucket: str, capfd: pytest.CaptureFixture[str]) -> None:
    store = opened(s3_bucket)
    await fill(store)
    watched = Watched(s3_bucket)
    closed = False

    def pack_first(what: str, key: str) -> None:
        nonlocal closed
        if what == "read_range" and not closed:
            closed = True
            store.close()

    watched.before = pack_first
    loading = await asyncio.to_thread(opened, watched)
    assert (len(loading), loading.corrupt, loading.spent().prompt_tokens) == (len(TEXTS), 0, 480)
    await all_there(loading, TEXTS)
    assert capfd.readouterr().out == ""
    loading.close()


async def test_objects_that_vanish_between_load_and_get_are_found_in_their_pack(s3_bucket: str) -> None:
    store = opened(s3_bucket)
    await fill(store)
    reader = opened(s3_bucket)
    # Nothing of what the scan has read is at hand any more.
    reader._reader._copies.clear()  # type: ignore[attr-defined]
    store.close()
    assert await asyncio.gather(*(read(reader, text) for text in TEXTS)) == [f"reply to {text}" for text in TEXTS]
    assert (len(reader), reader.corrupt, reader.spent().prompt_tokens) == (len(TEXTS), 0, 480)
    reader.close()


async def test_an_object_that_has_grown_since_its_block_came_is_read_anew(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "OBJECT_SEGMENT_BYTES", 256 << 10)
    store = opened(s3_bucket, writer="a")
    await put(store, "1")
    reader = opened(s3_bucket)
    reader._reader._copies.clear()  # type: ignore[attr-defined]
    assert await read(reader, "1") == "reply to 1"
    await put(store, "2")
    await reader.refresh(["a"])
    assert [await read(reader, text) for text in "12"] == ["reply to 1", "reply to 2"]
    assert reader.corrupt == 0
    for item in (store, reader):
        item.close()


async def test_what_is_gone_for_good_is_not_there(s3_bucket: str) -> None:
    store = opened(s3_bucket)
    await fill(store)
    store.close()
    reader = opened(s3_bucket)
    open_store(s3_bucket).delete_folder("replies/run")
    assert await read(reader, "0") is None
    assert len(reader) == 0
    reader.close()


async def test_keys_that_may_not_delete_pack_all_the_same(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """So it is on a cluster: no task may delete what was paid for."""
    monkeypatch.setattr(object_writing, "PACK_BYTES", 12_000)
    watched = Watched(s3_bucket)

    def refuse(what: str, key: str) -> None:
        if what == "delete":
            raise KeysRefusedError("these keys may not delete")

    watched.before = refuse
    store = opened(watched)
    await fill(store)
    store.close()
    assert watched.asked["delete"] == 1
    assert len(names(s3_bucket)) > 10
    reading_it = Watched(s3_bucket)
    again = opened(reading_it)
    assert reading_it.asked == {"read": 3}, "what lies in packs is not read"
    assert again.spent().prompt_tokens == 480
    assert capfd.readouterr().out == ""
    again.close()


async def test_what_pruning_has_packed_is_not_packed_again_by_its_writer(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its small objects were idle for an hour, and it goes on."""
    monkeypatch.setattr(prune, "IDLE_S", -10.0)
    store = opened(s3_bucket, writer="w")
    await fill(store, TEXTS[:20])
    pruned = await asyncio.to_thread(Pruning(open_store(s3_bucket), Rules(), False, lambda text: None).run)
    assert pruned.into
    await fill(store, TEXTS[20:30])
    await all_there(store, TEXTS[:30])
    store.close()
    again = opened(s3_bucket)
    await all_there(again, TEXTS[:30])
    assert (len(again), again.spent().prompt_tokens) == (30, 300)
    found = survey.statistics(open_store(s3_bucket))
    assert (found.replies, found.duplicates) == (30, 0)
    again.close()


async def test_what_has_grown_since_it_was_pruned_is_not_packed_again(s3_bucket: str) -> None:
    other = opened(s3_bucket, writer="other")
    await put(other, "other")
    other.close()
    store = opened(s3_bucket, writer="w")
    await put(store, TEXTS[0])
    await asyncio.to_thread(Pruning(open_store(s3_bucket), Rules(all=True), False, lambda text: None).run)
    await fill(store, TEXTS[1:])
    store.close()
    again = opened(s3_bucket)
    await all_there(again, ["other", *TEXTS])
    assert again.spent().prompt_tokens == 490
    again.close()


async def test_pruning_goes_on_with_keys_that_may_not_delete(s3_bucket: str) -> None:
    for writer in "ab":
        store = opened(s3_bucket, writer=writer)
        await put(store, writer)
        store.close()
    watched = Watched(s3_bucket)

    def refuse(what: str, key: str) -> None:
        if what == "delete":
            raise KeysRefusedError("these keys may not delete")

    watched.before = refuse
    done = await asyncio.to_thread(Pruning(watched, Rules(all=True), False, lambda text: None).run)
    assert (len(done.packed), len(done.into), len(done.kept)) == (2, 1, 2)
    assert watched.asked["delete"] == 1
    again = opened(s3_bucket)
    await all_there(again, ["a", "b"])
    assert again.spent().prompt_tokens == 20
    again.close()
    done = await asyncio.to_thread(Pruning(open_store(s3_bucket), Rules(all=True), False, lambda text: None).run)
    assert (len(done.left_over), done.kept) == (2, [])


async def test_a_survey_reads_the_beginnings_only(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(s3_bucket, writer="a")
    await fill(store)
    loose = names(s3_bucket)
    monkeypatch.setattr(survey, "HEAD_BYTES", 100)
    watched = Watched(s3_bucket)
    assert survey.survey(watched).replaces == {}
    assert watched.asked["read_range"] == len(loose) > 1
    store.close()
    # The pack's first line is longer.
    (pack,) = names(s3_bucket)
    assert survey.survey(watched).replaces[pack].keys() == set(loose)


async def test_damage_that_several_meet_at_once_is_told_once(s3_bucket: str, capfd: pytest.CaptureFixture[str]) -> None:
    store = opened(s3_bucket, writer="a")
    await put(store, "1")
    reader = opened(s3_bucket)
    (name,) = names(s3_bucket)
    remote = open_store(s3_bucket)
    remote.write(name, remote.read(name).replace(b"reply to 1", b"reply to 9"))
    reader._reader._copies.clear()  # type: ignore[attr-defined]
    assert await asyncio.gather(*(reader.get(key("1")) for _ in range(5))) == [None] * 5
    assert reader.corrupt == 1
    assert capfd.readouterr().out.count("1 damaged replies") == 1
    for item in (store, reader):
        item.close()


async def test_a_line_that_goes_over_the_end_of_a_block_that_has_grown_is_whole(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "OBJECT_SEGMENT_BYTES", 256 << 10)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    store = opened(s3_bucket, writer="a")
    await put(store, "1")
    reader = opened(s3_bucket)
    await all_there(reader, ["1"])
    reader._reader._copies.clear()  # type: ignore[attr-defined]
    # Its block ends after the first line.
    await all_there(reader, ["1"])
    await put(store, "2", "x" * 700)
    await put(store, "3")
    await reader.refresh(["a"])
    reader._reader._copies["replies/run/a-00000.jsonl"].head = 0  # type: ignore[attr-defined]
    assert [await read(reader, text) for text in "321"] == [f"reply to {text}" for text in "321"]
    assert reader.corrupt == 0
    for item in (store, reader):
        item.close()


async def test_a_put_that_fails_is_told_and_goes_with_the_next(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(s3_bucket)
    store = opened(watched)
    await fill(store, TEXTS[:10])
    failing = True

    def interrupt(what: str, key: str) -> None:
        if failing and what in ("write", "create"):
            raise StoreError("the server is gone")

    watched.before = interrupt
    for text in TEXTS[10:20]:
        with pytest.raises(StoreError, match="the server is gone"):
            await put(store, text, "x" * 600)
    failing = False
    await fill(store, TEXTS[20:])
    again = opened(s3_bucket)
    await all_there(again, TEXTS)
    for item in (store, again):
        item.close()


async def test_a_cancelled_put_is_stored_at_close(s3_bucket: str) -> None:
    store = opened(s3_bucket)
    task = asyncio.create_task(put(store, "a"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.close()
    again = opened(s3_bucket)
    await all_there(again, ["a"])
    again.close()
