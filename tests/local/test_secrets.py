"""Secrets are planted everywhere; everything that a run leaves and says is searched for them, byte by byte."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from components.offline_teacher.background import BackgroundTeacher, start_background
from tests.local import command
from tests.support.ports import NOBODY, closed_port
from tests.support.s3 import S3Server
from tests.support.scripted_teacher import Answer, Body, ScriptedTeacher, scripted_teacher

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

TEACHER_KEY = 'sk-planted/7f3c9d+"t"=='
GATEWAY_PASSWORD = "planted-gateway-2b8e1f"
SECRETS = {"teacher": TEACHER_KEY, "gateway": GATEWAY_PASSWORD}
ECHOED = "The key of this request is "


def forms(secret: str) -> set[bytes]:
    """How a secret may be written: as it is, in JSON, in addresses, in Base64 at any offset."""
    escaped = json.dumps(secret)[1:-1]
    plain = {secret, escaped, escaped.replace("/", "\\/"), quote(secret), quote(secret, safe="")}
    encoded = {base64.b64encode(b"x" * offset + secret.encode())[4 if offset else 0 : -4] for offset in range(3)}
    return {text.encode() for text in plain} | encoded


def check(where: str, data: bytes, secrets: dict[str, str]) -> None:
    """Fail if a secret is there in any form."""
    for name, secret in secrets.items():
        for form in forms(secret):
            assert form not in data, f"the secret of the {name} is in {where}: ...{data[max(0, data.find(form) - 80) :][:160]!r}"


def check_folder(folder: Path, secrets: dict[str, str]) -> int:
    """Search every file; the number of bytes that were searched."""
    searched = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            check(str(path), data + b" " + str(path).encode(), secrets)
            if path.suffix == ".gz":
                check(str(path), gzip.decompress(data), secrets)
            searched += len(data)
    return searched


class Gossip:
    """Answers as the offline teacher does, and tells the key wherever a server can: in texts, errors, headers and garbage."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.echoes = 0
        self.paid: Counter[str] = Counter()

    async def __call__(self, body: Body) -> Answer:
        asked = json.dumps(body["messages"])
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        self._seen[digest] += 1
        headers = {"X-Echo-Authorization": f"Bearer {TEACHER_KEY}", "x-request-id": TEACHER_KEY}
        # The preflight asks once only.
        if self._seen[digest] == 1 and "Rosa" not in asked:
            fault = int(digest, 16) % 16
            faults = {
                0: Answer(500, {"error": {"message": f"{ECHOED}{TEACHER_KEY}", "code": TEACHER_KEY}}, headers),
                1: Answer(429, {"error": {"message": TEACHER_KEY}}, {**headers, "Retry-After": TEACHER_KEY}),
                2: Answer(200, f"<html>{TEACHER_KEY}</html>".encode(), headers),
                3: Answer(200, {"id": TEACHER_KEY, "choices": [{"message": {"content": ""}, "finish_reason": TEACHER_KEY}]}, headers),
                4: Answer(400, {"error": {"message": f"{ECHOED}{TEACHER_KEY}", "param": TEACHER_KEY}}, headers),
            }
            if fault in faults:
                self.faults[str(fault)] += 1
                return faults[fault]
        async with aiohttp.ClientSession() as session, session.post(f"{self._url}/chat/completions", json=body) as response:
            reply: dict[str, Any] = await response.json()
        reply |= {"id": TEACHER_KEY, "system_fingerprint": f"Bearer {TEACHER_KEY}"}
        if "Task: solve\n" in body["messages"][0]["content"] and "Rosa" not in asked:
            message = reply["choices"][0]["message"]
            message["content"] = f"{ECHOED}{TEACHER_KEY}.\n{message['content']}"
            self.echoes += 1
        if "Rosa" not in asked:
            self.paid[digest] += 1
        # As servers in PHP write it.
        return Answer(200, json.dumps(reply).replace("/", "\\/").encode(), headers)


@pytest.fixture(scope="module")
def gossip() -> Iterator[tuple[ScriptedTeacher, Gossip, BackgroundTeacher]]:
    with start_background() as offline:
        script = Gossip(offline.url)
        with scripted_teacher(script, models=["offline-teacher"]) as server:
            yield server, script, offline


@pytest.fixture
def environment(tmp_path: Path, s3_server: S3Server) -> Iterator[dict[str, str]]:
    """Variables of a run with every secret that one may have; what is written to the temporary folder is searched too."""
    (tmp_path / "tmp").mkdir()
    with closed_port() as port:
        yield {
            "TUTORLOOP_TEACHER_API_KEY": TEACHER_KEY,
            "TUTORLOOP_PUSHGATEWAY": f"http://127.0.0.1:{port}",
            "TUTORLOOP_PUSHGATEWAY_USER": "pusher",
            "TUTORLOOP_PUSHGATEWAY_PASSWORD": GATEWAY_PASSWORD,
            "TMPDIR": str(tmp_path / "tmp"),
            **s3_server.environment(),
        }


def arguments(server: ScriptedTeacher, *more: str) -> list[str]:
    """Settings of a short run with the gossip."""
    settings = [
        "rounds=1", f"teacher.base_url={server.url}", "teacher.backoff_s=0.01", "teacher.max_backoff_s=0.05",
        "teacher.max_retry_after_s=0.1", "judging.judge=always", *more,
    ]  # fmt: skip
    return [part for setting in settings for part in ("--set", setting)]


def test_no_secret_is_in_anything_that_a_run_leaves_or_says(
    gossip: tuple[ScriptedTeacher, Gossip, BackgroundTeacher], environment: dict[str, str], s3_server: S3Server, tmp_path: Path
) -> None:
    server, script, _ = gossip
    secrets = {**SECRETS, "store": environment["AWS_SECRET_ACCESS_KEY"]}
    bucket = s3_server.new_bucket()
    home = tmp_path / "home"
    status, output = command.run(home, *arguments(server), "--responses", f"s3://{bucket}/responses", environment=environment)
    check("what the command prints", output.encode(), secrets)
    assert status == 0, output + command.log_of(home)[-3000:]
    assert server.keys == {f"Bearer {TEACHER_KEY}"} and script.echoes > 20 and set(script.faults) == {"0", "1", "2", "3", "4"}
    assert check_folder(tmp_path, secrets) > 1_000_000
    redacted = [path for path in home.rglob("demonstrations") if path.is_file() and f"{ECHOED}[redacted]." in path.read_text()]
    assert redacted, "the echo of the key did not come this far, so that nothing was tested"
    stored = 0
    for item in s3_server.client.list_objects(bucket_name=bucket, recursive=True):
        response = s3_server.client.get_object(bucket_name=bucket, object_name=str(item.object_name))
        data = response.read()
        check(f"s3://{bucket}/{item.object_name}", data + json.dumps(dict(response.headers)).encode(), secrets)
        stored += len(data)
        response.close()
        response.release_conn()
    assert stored > 10_000


def test_no_secret_is_in_what_a_run_leaves_that_a_budget_ends(
    gossip: tuple[ScriptedTeacher, Gossip, BackgroundTeacher], environment: dict[str, str], tmp_path: Path
) -> None:
    """With a higher limit the run goes on, and pays for nothing twice."""
    server, script, _ = gossip
    home, before = tmp_path / "home", Counter(script.paid)
    status, output = command.run(home, *arguments(server, "teacher.max_tokens=4000"), environment=environment)
    assert status == 1, output
    stopped = script.paid - before
    assert stopped
    told = " ".join(output.split())
    assert "conversations are done" in told and f"the outputs so far are in {home}" in told and "raise the limit and run again" in told
    kept = [path.name for path in home.glob("*/unfinished/*/*") if "latest" not in path.parts]
    assert "problems.jsonl" in kept and "record.json" in kept
    secrets = {**SECRETS, "store": environment["AWS_SECRET_ACCESS_KEY"]}
    check("what the command prints", output.encode(), secrets)
    assert check_folder(tmp_path, secrets) > 10_000
    status, output = command.run(home, *arguments(server, "teacher.max_tokens=10000000"), environment=environment)
    assert status == 0, output + command.log_of(home)[-3000:]
    paid = script.paid - before
    assert set(paid.values()) == {1} and len(paid) > len(stopped)
    check("what the command prints", output.encode(), secrets)
    assert check_folder(tmp_path, secrets) > 1_000_000


@pytest.mark.parametrize(
    ("url", "status", "body"),
    [
        ("", 401, {"error": {"message": f"wrong key: {TEACHER_KEY}"}}),
        ("", 500, {"error": {"message": TEACHER_KEY, "type": TEACHER_KEY}}),
        ("", 200, TEACHER_KEY.encode()),
        (f"http://user:planted-in-the-address@{NOBODY}/v1", 0, b""),
        (f"http://{NOBODY}/v1?api_key=planted-in-the-address", 0, b""),
    ],
    ids=["refused", "failing", "garbage", "in-the-address", "in-the-query"],
)
def test_no_secret_is_in_an_error(tmp_path: Path, url: str, status: int, body: bytes | Body) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TUTORLOOP_TEACHER_API_KEY": TEACHER_KEY, "TMPDIR": str(tmp_path / "tmp")}
    with scripted_teacher(lambda _: Answer(status, body, {"X-Echo": TEACHER_KEY}), models=Answer(status or 200, body)) as server:
        for more in ([], ["--dry-run"]):
            called = [*command.TUTORLOOP, "run", "--profile", str(command.SMOKE), "--home", str(tmp_path / "home"), *more]
            called += [
                "--set",
                f"teacher.base_url={url or server.url}",
                "--set",
                "teacher.max_retries=0",
                "--set",
                "teacher.max_outage_s=0",
            ]
            done = subprocess.run(called, capture_output=True, env=environment, timeout=300)
            assert done.returncode == 1
            output = done.stdout + done.stderr
            assert b"what to do" in output or b"allowed: an address" in output, output.decode()
            secrets = {"teacher": TEACHER_KEY} | ({"address": "planted-in-the-address"} if "@" in url or "?" in url else {})
            check("what the command prints", output, secrets)
            check_folder(tmp_path, secrets)


def test_a_traceback_of_somebody_elses_code_is_shown_without_the_key() -> None:
    code = (
        "import os\nfrom components.core.stage import stage_run\n"
        "with stage_run('solving'):\n"
        "    try:\n        raise ValueError(os.environ['TUTORLOOP_TEACHER_API_KEY'])\n"
        "    except ValueError as error:\n        raise RuntimeError('a library broke') from error\n"
    )
    environment = {**os.environ, "TUTORLOOP_TEACHER_API_KEY": TEACHER_KEY}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.returncode == 1 and b"a library broke" in done.stderr and b"Traceback" in done.stderr and b"[redacted]" in done.stderr
    check("the traceback", done.stdout + done.stderr, {"teacher": TEACHER_KEY})
