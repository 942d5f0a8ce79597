"""The S3 backend against a real server: kills, absences, wrong settings, damage, large files, many keys."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import urllib3

from components.core.errors import StoreError
from components.core.store import fetch, open_store, sha256_of
from components.core.store import http as store_http
from components.core.store import s3 as store_s3
from components.core.store.http import Connections
from components.student.training.checkpoints import Checkpoints
from tests.support.missing import small_file_system
from tests.support.ports import NOBODY
from tests.support.s3 import ADMINISTRATOR, READ_ONLY, WITHOUT_RIGHTS, S3Server, running
from tests.support.stored_replies import all_there, opened, put
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
MB = 1 << 20
UPLOADER = """
import os, signal, sys
from pathlib import Path
from components.core.store import open_store
from components.core.store.http import Connections

urlopen = Connections.urlopen

def killed_at_its_sixth_part(connections, method, url, *rest, **more):
    if "partNumber=6" in url:
        os.kill(os.getpid(), signal.SIGKILL)
    return urlopen(connections, method, url, *rest, **more)

Connections.urlopen = killed_at_its_sixth_part
open_store(sys.argv[1]).upload(Path(sys.argv[2]), "model")
"""


def random_file(path: Path, megabytes: int) -> Path:
    """A file in which no two megabytes are alike, made quickly."""
    block = os.urandom(MB)
    with path.open("wb") as handle:
        for number in range(megabytes):
            handle.write(number.to_bytes(8, "big") + block[8:])
    return path


def in_background(work: Callable[[], object]) -> Future[object]:
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work)
    finally:
        pool.shutdown(wait=False)


@dataclass
class Held:
    """Transfers of this process do not get past their middle before these are set."""

    upload: Event = field(default_factory=Event)
    download: Event = field(default_factory=Event)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Holds the sixth part of every upload, and the forty-first megabyte of every download."""
    held, urlopen, stream = Held(), Connections.urlopen, urllib3.HTTPResponse.stream

    def held_part(connections: Connections, method: str, url: str, *rest: Any, **more: Any) -> Any:
        if "partNumber=6" in url:
            held.upload.wait(120)
        return urlopen(connections, method, url, *rest, **more)

    def held_stream(response: urllib3.HTTPResponse, *arguments: Any) -> Iterator[bytes]:
        for number, block in enumerate(stream(response, *arguments)):
            if number == 40:
                held.download.wait(120)
            yield block

    monkeypatch.setattr(Connections, "urlopen", held_part)
    monkeypatch.setattr(urllib3.HTTPResponse, "stream", held_stream)
    return held


def test_transfers_survive_a_server_that_is_killed_in_the_middle(
    mortal_s3_server: S3Server, mortal_s3_bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], held: Held
) -> None:
    source = random_file(tmp_path / "weights", 160)
    store = open_store(mortal_s3_bucket)
    before = mortal_s3_server.bytes_stored()
    upload = in_background(lambda: store.upload(source, "model/weights"))
    wait_until(lambda: mortal_s3_server.bytes_stored() - before > 32 * MB)
    mortal_s3_server.kill()
    held.upload.set()
    wait_until(lambda: "does not answer, trying for another 1" in capfd.readouterr().out)
    assert not upload.done()
    mortal_s3_server.start()
    upload.result(120)
    assert list(store.list()) == ["model/weights"]
    into = tmp_path / "copy"
    download = in_background(lambda: store.download("model", into))
    wait_until(lambda: any(path.stat().st_size > 32 * MB for path in into.glob(".*.part")))
    mortal_s3_server.kill()
    held.download.set()
    assert not (into / "weights").exists()
    mortal_s3_server.start()
    download.result(120)
    assert sha256_of(into / "weights") == sha256_of(source)
    assert [path.name for path in into.iterdir()] == ["weights"]


def test_what_a_killed_uploader_left_is_not_visible(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    before = s3_server.bytes_stored()
    source = random_file(tmp_path / "weights", 200)
    killed = subprocess.run([sys.executable, "-c", UPLOADER, s3_bucket, str(source)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert s3_server.bytes_stored() - before > 32 * MB
    store = open_store(s3_bucket)
    assert list(store.list()) == []
    assert not store.exists("model")


def test_everything_waits_for_a_server_that_is_away(
    mortal_s3_server: S3Server, mortal_s3_bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_http, "_REPEAT_S", store_http.PATIENCE_S)
    said: list[str] = []

    def told() -> int:
        said.append(capfd.readouterr().out)
        return "".join(said).count("does not answer, trying for another 1")

    store = open_store(mortal_s3_bucket)
    for key in ("old", "gone"):
        store.write(key, b"value")
    responses = opened(f"{mortal_s3_bucket}/responses")
    checkpoints = Checkpoints(f"{mortal_s3_bucket}/checkpoints", "task")
    (checkpoints.folder / "checkpoint-5").mkdir()
    (checkpoints.folder / "checkpoint-5" / "weights").write_text("weights of step 5")

    def store_checkpoint() -> None:
        checkpoints.upload(5)
        checkpoints.mark(5)

    async def store_replies() -> None:
        await asyncio.gather(*(put(responses, number) for number in range(5)))

    mortal_s3_server.kill()
    with ThreadPoolExecutor(9) as pool:
        running = [
            pool.submit(work)
            for work in (
                lambda: store.read("old"),
                lambda: store.exists("absent"),
                lambda: store.create("claim", b"mine"),
                lambda: store.create("old", b"mine"),
                lambda: store.write("new", b"value"),
                lambda: store.delete("gone"),
                lambda: list(store.list("ol")),
                store_checkpoint,
                lambda: asyncio.run(store_replies()),
            )
        ]
        wait_until(lambda: told() == 3)
        assert not any(future.done() for future in running)
        mortal_s3_server.start()
        assert [future.result(120) for future in running] == [b"value", False, True, False, None, None, ["old"], None, None]
    assert told() == 3, "one line for each store"
    assert [store.exists(key) for key in ("new", "gone")] == [True, False]
    again = opened(f"{mortal_s3_bucket}/responses", "another run")
    asyncio.run(all_there(again, [str(number) for number in range(5)]))
    found = Checkpoints(f"{mortal_s3_bucket}/checkpoints", "task").latest()
    assert found is not None and (found / "weights").read_text() == "weights of step 5"
    for item in (responses, again):
        item.close()


def test_patience_ends_with_the_cause(
    mortal_s3_server: S3Server, mortal_s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUTORLOOP_STORE_PATIENCE_S", "2")
    # With so little patience, a single attempt lies after the time in which an absence is not told.
    monkeypatch.setattr(store_http, "_QUIET_S", 0.0)
    store = open_store(mortal_s3_bucket)
    mortal_s3_server.kill()
    source = random_file(tmp_path / "weights", 48)
    changes: list[Callable[[], object]] = [lambda: store.write("key", b"x"), lambda: store.upload(source, "weights")]
    for change in changes:
        with pytest.raises(StoreError, match=r"cannot be reached \(.*refused.*\)(.|\n)*AWS_ENDPOINT_URL"):
            change()
    assert capfd.readouterr().out.count("trying for another") == 1


def test_a_wrong_address_is_told_without_patience(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{NOBODY}")
    opened = in_background(lambda: open_store(s3_bucket))
    with pytest.raises(StoreError, match=rf"{re.escape(NOBODY)} cannot be reached"):
        opened.result(120)


def test_signatures_stay_out_of_the_log(mortal_s3_server: S3Server, mortal_s3_bucket: str, caplog: pytest.LogCaptureFixture) -> None:
    """KFP shows every task's log from INFO on, and urllib3 tells the whole address of what it repeats."""
    caplog.set_level("INFO")
    store = open_store(mortal_s3_bucket)
    mortal_s3_server.kill()
    creating = in_background(lambda: store.create("key", b"value"))
    with pytest.raises(TimeoutError):
        creating.result(1)
    mortal_s3_server.start()
    assert creating.result(120) is True
    assert "Signature" not in caplog.text and "X-Amz" not in caplog.text


def test_a_task_that_starts_while_the_server_is_away_waits_for_it(
    mortal_s3_server: S3Server, mortal_s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    mortal_s3_server.kill()
    opened = in_background(lambda: open_store(mortal_s3_bucket).exists("any"))
    with pytest.raises(TimeoutError):
        opened.result(4)
    mortal_s3_server.start()
    assert opened.result(120) is False


@pytest.mark.parametrize("value", ["soon", "-1", "9999", "nan"])
def test_a_wrong_patience_is_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TUTORLOOP_STORE_PATIENCE_S", value)
    with pytest.raises(StoreError, match=f"TUTORLOOP_STORE_PATIENCE_S = '{value}'"):
        open_store(s3_bucket)


def test_damage_is_noticed(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    store = open_store(s3_bucket)
    (tmp_path / "weights").write_bytes(b"as trained")
    store.upload(tmp_path / "weights", "model/weights")
    store.write("value", b"as written")
    bucket = s3_bucket.removeprefix("s3://")
    stored = {}
    for key in ("model/weights", "value"):
        stored[key] = s3_server.client.stat_object(bucket_name=bucket, object_name=key).metadata["x-amz-meta-sha256"]
        s3_server.client.put_object(
            bucket_name=bucket, object_name=key, data=BytesIO(b"damaged"), length=7, metadata={"sha256": stored[key]}
        )
    (tmp_path / "damaged").write_bytes(b"damaged")
    damaged = sha256_of(tmp_path / "damaged")
    assert stored["model/weights"] == sha256_of(tmp_path / "weights")
    with pytest.raises(StoreError, match=f"model/weights is damaged: its SHA-256 is {damaged}, stored was {stored['model/weights']}"):
        store.download("model", tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []
    with pytest.raises(StoreError, match=f"value is damaged: its SHA-256 is {damaged}, stored was {stored['value']}"):
        store.read("value")


def test_what_others_have_stored_needs_no_checksum(s3_server: S3Server, s3_bucket: str, tmp_path: Path) -> None:
    s3_server.client.put_object(bucket_name=s3_bucket.removeprefix("s3://"), object_name="a/b", data=BytesIO(b"x"), length=1)
    assert open_store(s3_bucket).read("a/b") == b"x"
    assert (fetch(s3_bucket, tmp_path) / "a" / "b").read_bytes() == b"x"


def test_keys_that_may_only_read_are_told_apart(s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    open_store(s3_bucket).write("key", b"value")
    (tmp_path / "file").write_bytes(b"x")
    for name, value in READ_ONLY.items():
        monkeypatch.setenv(name, value)
    store = open_store(s3_bucket)
    assert (store.read("key"), list(store.list())) == (b"value", ["key"])
    changes: list[Callable[[], object]] = [
        lambda: store.write("key", b"x"),
        lambda: store.create("new", b"x"),
        lambda: store.delete("key"),
        lambda: store.upload(tmp_path / "file", "file"),
    ]
    for change in changes:
        with pytest.raises(StoreError, match=r"may read (.|\n)*but not change it(.|\n)*allow these keys to write"):
            change()
    for name, value in WITHOUT_RIGHTS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="refuses these keys"):
        open_store(s3_bucket).write("key", b"x")


@pytest.mark.parametrize(("statuses", "created"), [((409, 409, 200), True), ((409, 412), False)])
def test_a_conditional_write_waits_for_another_that_is_under_way(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, ...], created: bool
) -> None:
    """As AWS answers. The other one may be our own, whose connection was lost, and may still fail."""
    left = list(statuses)

    class Conflicts(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(left.pop(0) if self.command == "PUT" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET = do_PUT = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Conflicts)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, value in {**ADMINISTRATOR, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(store_s3, "CONFLICT_S", 0.01)
        assert open_store("s3://bucket").create("key", b"value") == created
        assert left == []
    finally:
        server.shutdown()
        server.server_close()


OPERATIONS = {"exists": "store.exists('key')", "write": "store.write('key', b'x')", "list": "list(store.list())"}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("shift", "where"), [("-2h", "120 minutes behind"), ("+2h", "120 minutes ahead of")])
def test_a_wrong_clock_is_told(s3_bucket: str, operation: str, shift: str, where: str) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("no other clock can be shown to a process: faketime is not installed")
    code = f"import sys; from components.core.store import open_store\nstore = open_store(sys.argv[1])\n{OPERATIONS[operation]}"
    process = subprocess.run(["faketime", "-f", shift, sys.executable, "-c", code, s3_bucket], cwd=ROOT, capture_output=True, text=True)
    assert f"clock is {where} the server's\n  what to do: set this machine's clock" in process.stderr


def test_http_and_https_are_told_apart(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint.replace("http:", "https:"))
    with pytest.raises(StoreError, match=r"does not speak TLS(.|\n)*http://"):
        open_store(s3_bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.tls_endpoint.replace("https:", "http:"))
    with pytest.raises(StoreError, match=r"expects https://(.|\n)*AWS_ENDPOINT_URL"):
        open_store(s3_bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.tls_endpoint)
    with pytest.raises(StoreError, match=r"certificate of .* is not trusted(.|\n)*SSL_CERT_FILE"):
        open_store(s3_bucket)
    monkeypatch.setenv("SSL_CERT_FILE", str(s3_server.certificate))
    open_store(s3_bucket).write("key", b"x")


@pytest.fixture
def full_server(tmp_path: Path) -> Iterator[S3Server]:
    """A server on a disk of 64 MB."""
    with small_file_system(tmp_path / "disk", "64m") as folder, running(folder) as server:
        yield server


def test_a_full_server_ends_with_the_cause(full_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**full_server.environment(), "TUTORLOOP_STORE_PATIENCE_S": "1"}.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{full_server.new_bucket()}")
    store.write("small", b"kept")
    with pytest.raises(StoreError, match=r"keeps failing \(InternalError(.|\n)*disk is not full"):
        store.upload(random_file(tmp_path / "weights", 100), "weights")
    assert store.read("small") == b"kept"
    assert list(store.list()) == ["small"]


LARGE = """
import re, sys
from pathlib import Path
from threading import Thread
from components.core.store import open_store
store = open_store(sys.argv[1])
store.upload(Path(sys.argv[2]), "model")
store.download("model", Path(sys.argv[3]))
# Not getrusage: its peak is handed down from the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_a_gigabyte_goes_through_little_memory(s3_bucket: str, tmp_path: Path) -> None:
    source, copy = random_file(tmp_path / "weights", 1024), tmp_path / "copy"
    process = subprocess.run([sys.executable, "-c", LARGE, s3_bucket, str(source), str(copy)], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) < 300, "MB of memory"
    subprocess.run(["cmp", str(source), str(copy)], check=True)
    for path in (source, copy):
        path.unlink()
    open_store(s3_bucket).delete("model")


def test_twenty_thousand_keys_are_listed(s3_server: S3Server, s3_bucket: str) -> None:
    keys = [f"runs/{number % 20:02d}/{number:05d}.json" for number in range(20_000)]
    s3_server.put_many(s3_bucket.removeprefix("s3://"), keys)
    store = open_store(s3_bucket)
    assert list(store.list("runs/")) == sorted(keys)
    assert sum(1 for _ in store.list("runs/07/")) == 1000
