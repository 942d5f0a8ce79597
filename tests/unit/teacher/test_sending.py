"""Sending: what comes back from real servers, what users see of failures, and in what order requests go.

Tests whose subject is time run in virtual time: a real server may take any time.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.core.errors import TeacherError
from components.teacher.http import wire
from components.teacher.http.completions import TokenCounts
from components.teacher.http.endpoint import Answer as EndpointAnswer
from components.teacher.http.endpoint import Endpoint
from components.teacher.http.failures import Failure, ReplyError
from components.teacher.metrics import TeacherMetrics
from components.teacher.options import TeacherOptions
from components.teacher.pacing.sender import Sender
from tests.support.ports import NOBODY
from tests.support.raw_server import raw_server, response
from tests.support.scripted_teacher import Answer, Body, completion, scripted_teacher
from tests.support.simulated_teacher import simulated_teacher
from tests.support.virtual_time import in_virtual_time

KEY = "sk-planted-0a1b2c3d4e"


def options(url: str, **more: Any) -> TeacherOptions:
    return TeacherOptions(
        **{"base_url": url, "model": "m", "backoff_s": 0.01, "max_backoff_s": 0.05, "max_outage_s": 0.0, "timeout_s": 120.0, **more}
    )


def request(text: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": str(text)}]})


def said(body: Body) -> str:
    return str(body["messages"][0]["content"])


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    async with asyncio.timeout(60):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


class Sending:
    """A sender of its own for each test."""

    def __init__(self, url: str, **more: Any) -> None:
        self.charged: list[TokenCounts] = []
        clock = asyncio.get_running_loop().time
        self.sender = Sender(options(url, **more), TeacherMetrics(None), self.charged.append, clock)

    async def __aenter__(self) -> Sending:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sender.close()

    async def ask(self, text: object = "a", tokens: int = 10) -> str:
        return (await self.sender.send(request(text), tokens)).completion.text


async def test_an_answer_is_whole_and_decoded() -> None:
    whole = completion("seven", model="m-2026", system_fingerprint="fp")
    with scripted_teacher(lambda _: Answer(200, whole)) as server:
        async with Sending(server.url) as sending:
            answer = await sending.sender.send(request("a"), 10)
    assert isinstance(answer, EndpointAnswer)
    assert msgspec.json.decode(answer.raw) == whole
    assert answer.completion.text == "seven"
    assert server.requests == [msgspec.json.decode(request("a"))]


async def test_a_streamed_reply_is_put_together() -> None:
    async def handler(connection: int, number: int, body: bytes, writer: Any) -> bool:
        pieces = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "sev"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {"content": "en"}, "finish_reason": "stop"}]},
        ]
        events = b"".join(b"data: " + msgspec.json.encode(piece) + b"\n\n" for piece in pieces)
        broken_off = events[:-40] if number == 0 else events + b"data: [DONE]\n\n"
        writer.write(response(broken_off, Content_Type="text/event-stream; charset=utf-8"))
        return True

    async with raw_server(handler) as url, Sending(url) as sending:
        assert await sending.ask() == "seven"
        assert sending.sender.retries == 1, "a stream that broke off is no shorter reply"


async def test_what_an_unusable_reply_was_charged_for_is_told() -> None:
    answers = [Answer(200, completion("")), Answer(200, completion(None, usage=None))]
    with scripted_teacher(lambda body: answers.pop(0) if answers else "seven") as server:
        async with Sending(server.url) as sending:
            assert await sending.ask() == "seven"
    assert sending.charged == [TokenCounts(10, 0)]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(400, {"error": {"message": "too long", "code": "context_length_exceeded"}}), openai.BadRequestError),
        (Answer(401, {"error": {"message": f"bad key {KEY}"}}), openai.AuthenticationError),
        (Answer(403, {"error": {"message": "no"}}), openai.PermissionDeniedError),
        (Answer(404, {"error": {"message": "no model"}}), openai.NotFoundError),
        (Answer(409, {"error": {"message": "busy"}}), openai.ConflictError),
        (Answer(422, {"detail": "what?"}), openai.UnprocessableEntityError),
        (Answer(429, {"error": {"message": "slowly"}}, {"Retry-After": "0", "x-request-id": "req-1"}), openai.RateLimitError),
        (Answer(500, b"<html>oops</html>"), openai.InternalServerError),
        (Answer(418, {"error": {"message": "teapot"}}), openai.APIStatusError),
        (Answer(200, b"not json"), openai.APIResponseValidationError),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else "",
)
async def test_errors_are_caused_by_those_of_the_openai_package(
    monkeypatch: pytest.MonkeyPatch, answer: Answer, kind: type[openai.APIError]
) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
    with scripted_teacher(lambda _: answer) as server:
        async with Sending(server.url, max_retries=0) as sending:
            with pytest.raises(TeacherError) as caught:
                await sending.ask()
    cause = caught.value.__cause__
    assert type(cause) is kind
    assert isinstance(cause, openai.APIStatusError | openai.APIResponseValidationError)
    assert cause.status_code == cause.response.status_code == answer.status
    assert cause.request.url == f"{server.url}/chat/completions"
    if isinstance(answer.body, dict) and "error" in answer.body:
        assert isinstance(cause.body, dict)
        assert cause.code == answer.body["error"].get("code")
    assert cause.response.headers.get("x-request-id") == answer.headers.get("x-request-id")
    for shown in (str(caught.value), repr(cause), str(cause.body), cause.response.text, str(cause.request.headers)):
        assert KEY not in shown


async def test_a_connection_that_cannot_be_made_and_an_answer_that_does_not_come() -> None:
    async with Sending(f"http://{NOBODY}/v1", max_retries=0) as sending:
        with pytest.raises(ReplyError, match="cannot be reached") as refused:
            await sending.ask()
    assert type(refused.value.__cause__) is openai.APIConnectionError

    async def silent(*_: object) -> bool:
        await asyncio.sleep(30)
        return False

    async with raw_server(silent) as url, Sending(url, max_retries=0, timeout_s=0.2) as sending:
        with pytest.raises(ReplyError, match=r"did not answer within 0\.2 s") as late:
            await sending.ask()
    assert type(late.value.__cause__) is openai.APITimeoutError


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    with scripted_teacher(lambda _: "stolen") as other:
        moved = Answer(307, b"", {"Location": f"{other.url}/chat/completions"})
        with scripted_teacher(lambda _: moved) as server:
            async with Sending(server.url) as sending:
                with pytest.raises(TeacherError, match=rf"HTTP 307(.|\n)*set teacher\.base_url(.|\n)*{other.url}"):
                    await sending.ask()
    assert other.requests == []


async def test_headers_name_the_key_and_the_organization(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(response(msgspec.json.encode(completion("seven"))))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, Sending(f"http://{host}:{port}/v1") as sending:
        assert await sending.ask() == "seven"
    lines = seen[0].decode().lower().splitlines()
    assert lines[0] == "post /v1/chat/completions http/1.1"
    for line in (f"authorization: bearer {KEY}", "openai-organization: org-1", "openai-project: project-1", f"host: {host}:{port}"):
        assert line in lines


@pytest.mark.parametrize(("stale_s", "seconds", "retries"), [(60.0, 0.0, 0), (0.1, 0.2, 1)])
async def test_a_kept_connection_that_closes_was_old_or_cut_off_at_work(
    monkeypatch: pytest.MonkeyPatch, stale_s: float, seconds: float, retries: int
) -> None:
    """Closed at once, it was closed before the request came; closed later, the server may have been at work, and charges for both."""
    monkeypatch.setattr(wire, "STALE_S", stale_s)

    async def answer(connection: int, request: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        if (connection, request) == (0, 1):
            await asyncio.sleep(seconds)
            return False
        writer.write(response(msgspec.json.encode(completion("seven"))))
        return True

    async with raw_server(answer) as url, Sending(url) as sending:
        assert [await sending.ask(number) for number in range(3)] == ["seven"] * 3
        assert sending.sender.retries == retries


def tcp_connections() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]


async def timer(local_port: int, remote_port: int) -> str:
    """Of the connection between these, once the kernel no longer waits to hear that what was sent has come (01).

    The local port alone may be that of an earlier connection as well, to somewhere else.
    """
    ports = f":{local_port:04X}", f":{remote_port:04X}"
    while True:
        for _, local, remote, _, _, shown, *_ in tcp_connections():
            if (local[-5:], remote[-5:]) == ports and shown[:2] != "01":
                return shown[:2]
        await asyncio.sleep(0.01)


async def test_the_system_watches_a_connection_that_waits() -> None:
    """In the kernel's table of connections, column 6 of a line tells its timer: 02 probes whether the other end is there."""
    timers: list[str] = []

    async def answer(connection: int, request: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        timers.append(await timer(writer.get_extra_info("peername")[1], writer.get_extra_info("sockname")[1]))
        writer.write(response(msgspec.json.encode(completion("seven"))))
        return True

    async with raw_server(answer) as url, Sending(url) as sending:
        assert [await sending.ask(number) for number in range(2)] == ["seven"] * 2
    assert timers == ["02", "02"]


async def test_a_proxy_that_is_none_for_http_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:secret-word@127.0.0.1:1080")
    with pytest.raises(TeacherError, match="no HTTP proxy") as caught:
        Sending("http://teacher.invalid/v1")
    assert "secret-word" not in str(caught.value)


async def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend((await reader.readuntil(b"\r\n\r\n")).decode().splitlines())
        writer.write(response(msgspec.json.encode(completion("by way of the proxy"))))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = proxy.sockets[0].getsockname()
    monkeypatch.setenv("http_proxy", f"me:secret-word@{host}:{port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with proxy, Sending("http://teacher.invalid/v1") as sending:
        assert await sending.ask() == "by way of the proxy"
        assert seen[0] == "POST http://teacher.invalid/v1/chat/completions HTTP/1.1"
        assert any(line.lower().startswith("proxy-authorization: basic ") for line in seen)
    with scripted_teacher(lambda _: "directly") as server:
        async with Sending(server.url) as sending:
            assert await sending.ask() == "directly"


@in_virtual_time
async def test_waits_do_not_grow_while_others_are_answered() -> None:
    """Doubled each time, five waits of 0.3 s at first would take at least 4.6 s."""
    failures = 5

    async def script(body: Body) -> str | Answer:
        nonlocal failures
        if said(body) == "unlucky" and failures:
            failures -= 1
            return Answer(500)
        await asyncio.sleep(0.02)
        return "seven"

    with simulated_teacher(script) as server:
        async with Sending(server.url, concurrency=4, max_retries=5, backoff_s=0.3, max_backoff_s=30.0) as sending:
            unlucky = asyncio.create_task(sending.ask("unlucky"))
            async with asyncio.timeout(60.0):
                while not unlucky.done():
                    await sending.ask("others")
            assert await unlucky == "seven"
    first, *_, last = [time for time, body in zip(server.times, server.requests, strict=True) if said(body) == "unlucky"]
    assert 5 * 0.15 <= last - first <= 5 * 0.31


@in_virtual_time
async def test_refusals_count_as_soon_as_nobody_is_answered_any_more() -> None:
    refused = 0

    def script(body: Body) -> str | Answer:
        nonlocal refused
        if said(body) != "unlucky":
            return "seven"
        refused += 1
        return Answer(429)

    with simulated_teacher(script) as server:
        async with Sending(server.url, concurrency=4, max_retries=3, backoff_s=0.05, max_backoff_s=0.05) as sending:
            unlucky = asyncio.create_task(sending.ask("unlucky"))
            async with asyncio.timeout(60.0):
                while refused < 8:
                    await sending.ask("others")
                assert not unlucky.done()
                with pytest.raises(ReplyError, match="retries"):
                    await unlucky


@in_virtual_time
async def test_the_deadline_is_for_all_attempts_together() -> None:
    loop = asyncio.get_running_loop()
    with simulated_teacher(lambda _: Answer(500)) as server:
        async with Sending(server.url, deadline_s=500.0, max_retries=50, backoff_s=100.0, max_backoff_s=100.0) as sending:
            with pytest.raises(ReplyError, match=r"no answer within teacher\.deadline_s = 500 s; the last attempt: .*HTTP 500"):
                await sending.ask()
            assert sending.sender.failures == 1
        assert 400 <= loop.time() <= 500
        assert 5 <= len(server.requests) <= 11
    began = loop.time()
    with simulated_teacher(lambda _: Answer(429, b"", {"Retry-After": "60"})) as server:
        async with Sending(server.url, deadline_s=50.0) as sending:
            with pytest.raises(ReplyError, match="deadline_s"):
                await sending.ask()
        assert loop.time() < began + 1
        assert len(server.requests) == 1, "a wait beyond the deadline is not begun"


@in_virtual_time
async def test_an_attempt_gets_no_more_time_than_the_deadline_leaves() -> None:
    async def script(body: Body) -> str | Answer:
        await asyncio.sleep(25)
        return Answer(500)

    with simulated_teacher(script) as server:
        async with Sending(server.url, deadline_s=40.0) as sending:
            with pytest.raises(ReplyError, match="deadline_s") as caught:
                await sending.ask()
    assert asyncio.get_running_loop().time() == pytest.approx(40.0, abs=0.01)
    assert type(caught.value.__cause__) is openai.APITimeoutError
    assert len(server.requests) == 2


@in_virtual_time
async def test_waiting_for_a_first_turn_does_not_count_against_the_deadline() -> None:
    async def script(body: Body) -> str:
        await asyncio.sleep(100)
        return "seven"

    with simulated_teacher(script) as server:
        async with Sending(server.url, concurrency=1, deadline_s=150.0) as sending:
            assert await asyncio.gather(*(sending.ask(number) for number in range(12))) == ["seven"] * 12


async def test_a_poisoned_request_does_not_block_the_others() -> None:
    def script(body: Body) -> str | Answer:
        return Answer(502) if said(body) == "poison" else "seven"

    with scripted_teacher(script) as server:
        async with Sending(server.url, concurrency=2, max_retries=3, max_outage_s=30.0) as sending:
            poisoned = asyncio.create_task(sending.ask("poison"))
            assert await asyncio.gather(*(sending.ask(number) for number in range(50))) == ["seven"] * 50
            while not poisoned.done():
                await sending.ask("more")
            with pytest.raises(ReplyError, match=r"HTTP 502.*after 3 retries"):
                await poisoned
    assert Counter(map(said, server.requests))["poison"] == 4


async def test_retried_requests_go_before_new_ones() -> None:
    failed: set[str] = set()

    async def script(body: Body) -> str | Answer:
        await asyncio.sleep(0.02)
        if said(body) in ("0", "1") and said(body) not in failed:
            failed.add(said(body))
            return Answer(500)
        return "seven"

    with scripted_teacher(script) as server:
        async with Sending(server.url, concurrency=2) as sending:
            await asyncio.gather(*(sending.ask(number) for number in range(40)))
    order = [said(body) for body in server.requests]
    assert max(order.index("0", 2), order.index("1", 2)) < 20


async def test_the_concurrency_is_never_exceeded_and_always_used() -> None:
    async def script(body: Body) -> str:
        await until(lambda: server.most_in_flight >= 8)
        await asyncio.sleep(0.01)
        return "seven"

    with scripted_teacher(script) as server:
        async with Sending(server.url, concurrency=8) as sending, asyncio.timeout(60):
            await asyncio.gather(*(sending.ask(number) for number in range(100)))
    assert server.most_in_flight == 8


async def test_a_cancelled_request_gives_its_place_back() -> None:
    async def script(body: Body) -> str:
        if said(body) == "slow":
            await asyncio.Event().wait()
        return "seven"

    with scripted_teacher(script) as server:
        async with Sending(server.url, concurrency=1) as sending:
            slow = asyncio.create_task(sending.ask("slow"))
            await until(lambda: bool(server.requests))
            slow.cancel()
            async with asyncio.timeout(60):
                assert await sending.ask() == "seven"


async def test_the_list_of_models_and_what_is_none() -> None:
    for models, expected in ((["a", "b"], ["a", "b"]), (Answer(200, b"?"), "unusable"), (Answer(401, b""), "401")):
        with scripted_teacher(lambda _: "x", models) as server:
            endpoint = Endpoint(options(server.url))
            listed = await endpoint.models()
            await endpoint.close()
        assert (listed.outcome if isinstance(listed, Failure) else listed) == expected


def test_answers_do_not_need_the_openai_package() -> None:
    """It takes a second to import: only errors and its own interface bring it in."""
    code = "import sys, components.teacher.client, components.teacher.preflight; print('openai' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_checked(certificate: Path, trusted: bool) -> None:
    """In a process of its own: the certificates are read once in each."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(msgspec.json.encode({"data": [{"id": "m"}]})))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    code = f"""
import asyncio
from components.teacher.http.endpoint import Endpoint
from components.teacher.options import TeacherOptions
async def main():
    endpoint = Endpoint(TeacherOptions(base_url="https://{host}:{port}/v1"))
    print(await endpoint.models())
    await endpoint.close()
asyncio.run(main())
"""
    async with server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            code,
            env={**os.environ, "SSL_CERT_FILE": str(certificate)} if trusted else None,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
    assert ("['m']" if trusted else "CERTIFICATE_VERIFY_FAILED") in printed.decode()


async def test_a_key_with_a_line_break_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", f"{KEY}\n")
    with pytest.raises(TeacherError, match=r"Authorization(.|\n)*line break(.|\n)*TUTORLOOP_TEACHER_API_KEY") as caught:
        Endpoint(options(f"http://{NOBODY}/v1"))
    assert KEY not in str(caught.value)
