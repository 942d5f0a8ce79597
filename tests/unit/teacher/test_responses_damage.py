"""Kills, cuts and flipped bits: nothing wrong is ever served, everything intact is, and nothing is read past in silence."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.core.store import open_store
from components.teacher.responses.index import SUFFIX
from components.teacher.responses.lines import decode_pack_head, encode_pack_head
from tests.support.stored_replies import all_there, opened, put, read, start_writer

TEXTS = [str(number) for number in range(6)]


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/responses"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one complete segment and its index."""
    folder = tmp_path_factory.mktemp("filled")

    async def fill() -> None:
        store = opened(str(folder))
        for text in TEXTS:
            await put(store, text)
        store.close()

    asyncio.run(fill())
    return folder


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> Iterator[Callable[[], tuple[Path, Path]]]:
    """Makes a fresh copy, and gives its segment and its index."""
    target = tmp_path / "copy"

    def make() -> tuple[Path, Path]:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(filled, target)
        (segment,) = target.rglob("*.jsonl")
        return segment, segment.with_name(segment.name + SUFFIX)

    yield make


def served(folder: Path) -> tuple[list[str | None], int]:
    """What each request gets from a store that has just been loaded, and how much damage was found."""

    async def ask() -> tuple[list[str | None], int]:
        store = opened(str(folder), writer="reader")
        replies = [await read(store, text) for text in TEXTS]
        assert len(store) == len(TEXTS) - replies.count(None)
        store.close()
        return replies, store.corrupt

    return asyncio.run(ask())


WHOLE = [f"reply to {text}" for text in TEXTS]
HARMLESS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), indexed=st.booleans())
@HARMLESS
def test_a_flipped_bit_costs_its_own_reply_at_most(
    copy: Callable[[], tuple[Path, Path]], place: float, bit: int, indexed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    segment, index = copy()
    if not indexed:
        index.unlink()
    data = bytearray(segment.read_bytes())
    at = int(place * len(data))
    lines = data.splitlines(keepends=True)
    hit = next(number for number in range(len(lines)) if at < sum(map(len, lines[: number + 1])))
    end_of_line = data[at] == 0x0A
    data[at] ^= 1 << bit
    segment.write_bytes(data)
    capfd.readouterr()
    replies, corrupt = served(segment.parents[2])
    others = [text for number, text in enumerate(WHOLE) if number != hit]
    assert [reply for number, reply in enumerate(replies) if number != hit] == others
    if end_of_line:
        # With its index the reply is still found, and is whole; without it the last line looks torn.
        assert replies[hit] == (WHOLE[hit] if indexed else None)
    else:
        assert replies[hit] is None and corrupt == (2 if bytes([data[at]]) == b"\n" else 1)
        said = capfd.readouterr().out
        assert segment.name in said and f"at byte {sum(map(len, lines[:hit]))}" in said


@given(length=st.floats(0, 1, exclude_max=True), indexed=st.booleans())
@HARMLESS
def test_a_cut_segment_keeps_all_that_is_before_the_cut(copy: Callable[[], tuple[Path, Path]], length: float, indexed: bool) -> None:
    segment, index = copy()
    if not indexed:
        index.unlink()
    data = segment.read_bytes()[: int(length * segment.stat().st_size)]
    segment.write_bytes(data)
    whole = data.count(b"\n")
    assert served(segment.parents[2]) == (WHOLE[:whole] + [None] * (len(WHOLE) - whole), 0)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
@HARMLESS
def test_a_damaged_index_is_not_believed(copy: Callable[[], tuple[Path, Path]], place: float, bit: int, cut: bool) -> None:
    segment, index = copy()
    raw = bytearray(index.read_bytes())
    at = int(place * len(raw))
    if cut:
        del raw[at:]
    else:
        raw[at] ^= 1 << bit
    index.write_bytes(raw)
    assert served(segment.parents[2]) == (WHOLE, 0)


@given(noise=st.binary(max_size=300), before=st.booleans())
@HARMLESS
def test_noise_around_the_lines_hides_none(copy: Callable[[], tuple[Path, Path]], noise: bytes, before: bool) -> None:
    """Half a line that was left by an accident may stand before a whole one."""
    segment, _ = copy()
    data = segment.read_bytes()
    segment.write_bytes(noise + data if before else data + noise)
    assert served(segment.parents[2])[0] == WHOLE


def test_every_cut_line_leaves_the_next_ones(copy: Callable[[], tuple[Path, Path]]) -> None:
    segment, _ = copy()
    lines = segment.read_bytes().splitlines(keepends=True)
    for length in range(len(lines[2])):
        segment.write_bytes(b"".join([*lines[:2], lines[2][:length], *lines[3:]]))
        replies, corrupt = served(segment.parents[2])
        assert replies == [text if number != 2 else None for number, text in enumerate(WHOLE)]
        assert corrupt == (1 if length else 0)


def test_an_index_that_does_not_match_is_not_believed(copy: Callable[[], tuple[Path, Path]], capfd: pytest.CaptureFixture[str]) -> None:
    segment, _ = copy()
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(reversed(lines)))
    assert served(segment.parents[2]) == (WHOLE, 0), "same length, other order"
    assert "is wrong and is not used" in capfd.readouterr().out


async def test_an_index_of_another_segment_is_not_believed(tmp_path: Path) -> None:
    """Though the two are of the same length: what it does not name would be asked again."""
    for writer, text in (("a", "1"), ("b", "2")):
        store = opened(str(tmp_path), writer=writer)
        await put(store, text)
        store.close()
    folder = open_store(str(tmp_path))
    one, two = (f"replies/run/{writer}-00000.jsonl" for writer in "ab")
    assert len(folder.read(one)) == len(folder.read(two))
    folder.write(one + SUFFIX, folder.read(two + SUFFIX))
    again = opened(str(tmp_path))
    await all_there(again, ["1", "2"])
    again.close()


def test_a_damaged_reply_that_is_stored_elsewhere_is_served_from_there(copy: Callable[[], tuple[Path, Path]]) -> None:
    segment, _ = copy()
    shutil.copy(segment, segment.with_name("other-00000.jsonl"))
    for path in (segment, segment.with_name("other-00000.jsonl")):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"reply to 4", b"reply to 9"))
        replies, corrupt = served(segment.parents[2])
        assert (replies[4], corrupt) == ((WHOLE[4], 1) if path == segment else (None, 2))


async def test_damage_that_comes_while_a_store_is_open_is_told_once(
    copy: Callable[[], tuple[Path, Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    segment, _ = copy()
    store = opened(str(segment.parents[2]), writer="reader")
    await all_there(store, TEXTS)
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"reply to 2", b"reply to 9"))
    replies = await asyncio.gather(*(read(store, "2") for _ in range(5)))
    assert replies == [None] * 5
    segment.write_bytes(data.replace(b"reply to 2", b"reply to 9").replace(b"reply to 5", b"reply to 9"))
    assert [await read(store, text) for text in TEXTS] == [None if number in (2, 5) else text for number, text in enumerate(WHOLE)]
    assert store.corrupt == 2
    assert store.spent().prompt_tokens == 10 * len(TEXTS), "what was paid stays paid"
    assert capfd.readouterr().out.count("1 damaged replies") == 2
    await put(store, "2")
    assert await read(store, "2") == "reply to 2"
    store.close()


async def test_a_damaged_object_is_told_and_not_served(s3_bucket: str, capfd: pytest.CaptureFixture[str]) -> None:
    store = opened(s3_bucket)
    for text in TEXTS:
        await put(store, text)
    store.close()
    remote = open_store(s3_bucket)
    (name,) = [name for name in remote.list() if name.endswith(".jsonl")]
    remote.write(name, remote.read(name).replace(b"reply to 3", b"reply to 9"))
    again = opened(s3_bucket)
    assert [await read(again, text) for text in TEXTS] == [None if number == 3 else text for number, text in enumerate(WHOLE)]
    assert again.corrupt == 1
    assert f"{name}: 1 damaged replies" in capfd.readouterr().out
    again.close()


@pytest.mark.parametrize("place", range(1, 60))
def test_a_damaged_head_of_a_pack_replaces_nothing(place: int) -> None:
    """Else segments that the pack does not hold would not be read any more."""
    names = {"replies/run/a-00000.jsonl": 120, "replies/run/b-00001.jsonl": 7}
    head = encode_pack_head(names)
    assert decode_pack_head(head + b"{}\n") == (names, len(head))
    flipped = bytearray(head)
    flipped[place] ^= 1
    assert decode_pack_head(bytes(flipped) + b"{}\n") == ({}, 0)


@pytest.mark.parametrize("turn", range(3))
def test_a_kill_loses_nothing_that_was_acknowledged(address: str, turn: int) -> None:
    """At random moments of writing; at most the reply that was just being told of comes on top."""
    kills = 12 if "s3:" not in address else 2
    rng = random.Random(turn)
    acknowledged = []
    for number in range(kills):
        name = f"w{number}"
        writer = start_writer(address, name, 1_000_000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"
        time.sleep(rng.uniform(0, 0.1))
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += [f"{name} 0"] + [f"{name} {line.strip()}" for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
    store = opened(address)
    assert store.corrupt == 0
    asyncio.run(all_there(store, acknowledged))
    assert len(acknowledged) <= len(store) <= len(acknowledged) + kills
    store.close()
