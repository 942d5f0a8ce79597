"""The folder and the S3 backend behave alike; failures name what to change."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from minio.versioningconfig import ENABLED, VersioningConfig

from components.core.errors import StoreError
from components.core.store import FolderStore, MissingKeyError, Store, fetch, open_store
from tests.support.ports import NOBODY
from tests.support.s3 import S3Server


@pytest.fixture(params=["folder", "s3", "s3 with versioning"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    address = request.getfixturevalue("s3_bucket")
    if request.param == "s3 with versioning":
        server: S3Server = request.getfixturevalue("s3_server")
        server.client.set_bucket_versioning(bucket_name=address.removeprefix("s3://"), config=VersioningConfig(ENABLED))
    return open_store(f"{address}/some/prefix")


def test_a_value_is_read_back_replaced_and_deleted(store: Store) -> None:
    store.write("a/b.json", b"one")
    store.write("a/b.json", b"two")
    assert store.read("a/b.json") == b"two"
    assert store.exists("a/b.json")
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert not store.exists("a/b.json")
    assert list(store.list()) == []
    with pytest.raises(MissingKeyError, match=r"a/b\.json"):
        store.read("a/b.json")


def test_an_empty_value_is_a_value(store: Store) -> None:
    store.write("empty", b"")
    assert store.exists("empty")
    assert store.read("empty") == b""


def test_list_is_sorted_and_filters_by_prefix(store: Store) -> None:
    for key in ("runs/b", "runs/a/1", "run", "other/x"):
        store.write(key, b"x")
    assert list(store.list()) == ["other/x", "run", "runs/a/1", "runs/b"]
    assert list(store.list("runs/")) == ["runs/a/1", "runs/b"]
    assert list(store.list("ru")) == ["run", "runs/a/1", "runs/b"]
    assert list(store.list("absent/")) == []


def test_items_tell_size_and_time(store: Store) -> None:
    before = time.time() - 60
    store.write("runs/a", b"12345")
    store.write("runs/b", b"")
    first, second = store.items("runs/")
    assert [(item.key, item.size) for item in (first, second)] == [("runs/a", 5), ("runs/b", 0)]
    assert before < first.modified < before + 120
    assert list(store.items("absent/")) == []


@pytest.mark.parametrize(
    ("offset", "length", "part"),
    [
        (0, None, b"0123456789"),
        (0, 4, b"0123"),
        (3, 4, b"3456"),
        (7, None, b"789"),
        (8, 100, b"89"),
        (3, 0, b""),
        (10, 5, b""),
        (99, None, b""),
    ],
)
def test_a_part_of_a_value_is_read(store: Store, offset: int, length: int | None, part: bytes) -> None:
    store.write("value", b"0123456789")
    assert store.read_range("value", offset, length) == part


def test_a_part_of_nothing_is_told(store: Store) -> None:
    store.write("empty", b"")
    assert store.read_range("empty", 0) == store.read_range("empty", 5, 5) == b""
    store.write("folder/value", b"x")
    for key in ("absent", "folder"):
        with pytest.raises(MissingKeyError):
            store.read_range(key, 2, 2)


def test_a_folder_of_keys_is_not_a_value(store: Store) -> None:
    store.write("runs/a", b"x")
    assert not store.exists("runs")


def test_create_writes_once(store: Store) -> None:
    assert store.create("lock", b"first")
    assert not store.create("lock", b"second")
    assert store.read("lock") == b"first"
    store.delete("lock")
    assert store.create("lock", b"third")
    assert store.read("lock") == b"third"


def test_of_many_creators_exactly_one_wins(store: Store) -> None:
    barrier = threading.Barrier(8)

    def attempt(number: int) -> bool:
        barrier.wait()
        return store.create("claim", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(attempt, range(8)))
    assert sum(won) == 1
    assert store.read("claim") == str(won.index(True)).encode()


def test_delete_folder_leaves_the_rest(store: Store) -> None:
    for key in ("runs/a/1", "runs/a/2", "runs/ab"):
        store.write(key, b"x")
    store.delete_folder("runs/a")
    store.delete_folder("runs/none")
    assert list(store.list()) == ["runs/ab"]


def test_files_and_folders_travel(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "nested").mkdir(parents=True)
    # Twenty megabytes go to S3 in several parts.
    weights = os.urandom(20 << 20)
    (source / "weights.bin").write_bytes(weights)
    (source / "nested" / "config.json").write_text("{}")
    store.upload(source, "models/v1")
    store.upload(source / "nested" / "config.json", "single.json")
    assert list(store.list()) == ["models/v1/nested/config.json", "models/v1/weights.bin", "single.json"]
    into = store.download("models/v1", tmp_path / "copy")
    assert (into / "weights.bin").read_bytes() == weights
    assert (into / "nested" / "config.json").read_text() == "{}"
    assert store.download("single.json", tmp_path / "deep" / "one.json").read_text() == "{}"
    fetched = fetch(f"{store.uri}/models/v1", tmp_path / "fetched")
    assert (fetched / "nested" / "config.json").read_text() == "{}"
    with pytest.raises(MissingKeyError, match="models/v2"):
        store.download("models/v2", tmp_path / "none")
    with pytest.raises(StoreError, match="no such file"):
        store.upload(tmp_path / "absent", "x")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../outside", "a/../../b"])
def test_keys_stay_inside_the_store(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="not a key"):
        store.write(key, b"x")


def test_readers_never_see_half_a_value(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    values = [bytes([letter]) * 300_000 for letter in b"ab"]
    store.write("value", values[0])
    writer = (
        "import itertools, sys, threading; from components.core.store import open_store\n"
        "store, asked_to_end = open_store(sys.argv[1]), threading.Thread(target=sys.stdin.read)\n"
        "asked_to_end.start()\n"
        "for letter in itertools.cycle(b'ab'):\n"
        "    store.write('value', bytes([letter]) * 300_000)\n"
        "    if not asked_to_end.is_alive(): break\n"
    )
    with subprocess.Popen([sys.executable, "-c", writer, str(tmp_path)], stdin=subprocess.PIPE) as process:
        seen: list[bytes] = []
        while len(seen) < 200 or len(set(seen)) < 2:
            assert process.poll() is None
            seen.append(store.read("value"))
            assert seen[-1] in values
            assert list(store.list()) == ["value"]
        process.communicate()
    assert process.returncode == 0


def test_what_is_uploaded_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, synced = FolderStore(tmp_path / "store"), set[int]()
    fsync, replace = os.fsync, Path.replace

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def only_when_synced(self: Path, target: Path) -> Path:
        assert self.stat().st_ino in synced
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", only_when_synced)
    (tmp_path / "file").write_text("x")
    store.upload(tmp_path / "file", "a/file")
    store.write("a/manifest", b"y")
    assert (store.read("a/file"), store.read("a/manifest")) == (b"x", b"y")


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".value.0123.part").write_bytes(b"half")
    assert list(open_store(str(tmp_path)).list()) == []


def test_a_full_disk_is_told_and_the_old_value_stays(small_disk: Path) -> None:
    store = open_store(str(small_disk))
    store.write("value", b"old")
    with pytest.raises(StoreError, match=r"the disk is full(.|\n)*free space"):
        store.write("value", b"x" * 200_000)
    assert store.read("value") == b"old"
    assert [path.name for path in small_disk.iterdir()] == ["value"]


def test_a_download_that_fills_the_disk_is_told_and_leaves_nothing(store: Store, small_disk: Path) -> None:
    store.write("model/weights", b"x" * 200_000)
    with pytest.raises(StoreError, match=r"the disk is full(.|\n)*free space"):
        store.download("model", small_disk)
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret-1234"}, r"refuses these keys(.|\n)*AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "refuses these keys"),
        ({"AWS_ACCESS_KEY_ID": ""}, "AWS_ACCESS_KEY_ID is not set"),
        ({"AWS_ENDPOINT_URL": f"http://{NOBODY}"}, r"127\.0\.0\.1:\d+ cannot be reached(.|\n)*AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://a b"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_a_wrong_s3_setting_is_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=message) as caught:
        open_store(s3_bucket).write("key", b"x")
    assert "wrong-secret-1234" not in str(caught.value)


def test_a_missing_bucket_is_named_before_anything_is_written(s3_bucket: str) -> None:
    with pytest.raises(StoreError, match=r"no bucket 'no-such-bucket-here'(.|\n)*make the bucket"):
        open_store("s3://no-such-bucket-here/prefix")


@pytest.mark.parametrize("uri", ["s3://b/prefix", "s3://Capitals/prefix", "s3://under_score/prefix"])
def test_what_cannot_be_a_bucket_is_told(uri: str) -> None:
    with pytest.raises(StoreError, match=r"cannot be the name of a bucket(.|\n)*small letters"):
        open_store(uri)


@pytest.mark.parametrize("uri", ["", "ftp://host/path", "s3:///prefix"])
def test_a_malformed_address_is_refused(uri: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/prefix"):
        open_store(uri)


def test_fetch_gives_a_local_path_back_and_names_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert fetch(str(tmp_path / "model"), tmp_path / "into") == tmp_path / "model"
    with pytest.raises(MissingKeyError, match="absent"):
        fetch(str(tmp_path / "absent"), tmp_path / "into")
