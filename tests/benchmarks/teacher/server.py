"""The race's server: just enough HTTP/1.1 and chat completions to answer, and counts of what each prompt has cost.

    python -m tests.benchmarks.teacher.server

prints its address and listens until it is ended or its standard input closes. It shares the cores with the client that is measured,
so it is a bare ``asyncio.Protocol``: it looks for the length of the body, the prompt in it, and nothing else. ``POST /behaviour``
(the JSON of a ``Behaviour``) starts a new count, ``GET /progress`` tells the count of replies, ``GET /counts`` everything, and
``GET /last`` the prompt that was answered last on the connection from each port.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from collections import deque

import msgspec

from tests.benchmarks.teacher.behaviour import Behaviour, fails, latency, prompt_key, reply_to

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CROWD_S = 0.1


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Request(msgspec.Struct):
    messages: list[_Message]


class PromptCounts(msgspec.Struct):
    """One prompt.

    Attributes:
        arrived: Requests for it.
        answered: Replies to it, with HTTP status 200, written to a connection that was still open.
    """

    arrived: int = 0
    answered: int = 0


class Counts(msgspec.Struct):
    """What has come in since the behaviour was set.

    Attributes:
        requests: Requests with a prompt.
        probes: Requests without one (some clients ask for nothing to see the headers).
        answered: Replies.
        errors: Errors that were sent on purpose.
        service_s: Service time of all attempts together.
        in_flight: Requests that wait for an answer now.
        most_in_flight: Most of them at any time.
        largest_crowd: Most further attempts (of prompts that had come before) within a tenth of a second.
        seconds: From the first request to the last answer.
        prompts: By :func:`prompt_key`.
    """

    requests: int = 0
    probes: int = 0
    answered: int = 0
    errors: int = 0
    service_s: float = 0.0
    in_flight: int = 0
    most_in_flight: int = 0
    largest_crowd: int = 0
    seconds: float = 0.0
    prompts: dict[str, PromptCounts] = {}


class State:
    """Behaviour and counts of one server."""

    def __init__(self) -> None:
        self.start(Behaviour())

    def start(self, behaviour: Behaviour) -> None:
        """Forget all counts."""
        self.behaviour = behaviour
        self.counts = Counts()
        self.last: dict[int, str] = {}
        self._first = 0.0
        self._again: deque[float] = deque()

    def arrival(self, prompt: str) -> tuple[float, bool]:
        """Count a request; tell its service time and whether it gets an error."""
        counts = self.counts
        entry = counts.prompts.setdefault(prompt_key(prompt), PromptCounts())
        attempt = entry.arrived
        entry.arrived += 1
        counts.requests += 1
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        now = time.monotonic()
        self._first = self._first or now
        if attempt:
            self._again.append(now)
            while self._again[0] < now - CROWD_S:
                self._again.popleft()
            counts.largest_crowd = max(counts.largest_crowd, len(self._again))
        seconds = latency(self.behaviour, prompt)
        counts.service_s += seconds
        return seconds, fails(self.behaviour, prompt, attempt)

    def silent(self) -> bool:
        """Whether no more replies are given."""
        return 0 < self.behaviour.silent_after <= self.counts.answered

    def departure(self, prompt: str, failed: bool, port: int) -> None:
        """Count an answer."""
        counts = self.counts
        counts.seconds = time.monotonic() - self._first
        if failed:
            counts.errors += 1
        else:
            counts.answered += 1
            key = prompt_key(prompt)
            counts.prompts[key].answered += 1
            self.last[port] = key


def _response(status: int, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body)


def _completion(prompt: str) -> bytes:
    text = reply_to(prompt)
    tokens = len(prompt) // 4, len(text) // 4
    return msgspec.json.encode(
        {
            "id": "chatcmpl-" + prompt_key(prompt),
            "object": "chat.completion",
            "created": 1,
            "model": "race",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)},
        }
    )


class Connection(asyncio.Protocol):
    """One client's connection; one request at a time."""

    _decoder = msgspec.json.Decoder(_Request)

    def __init__(self, state: State) -> None:
        self._state = state
        self._buffer = b""
        self._counts: Counts | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._port: int = transport.get_extra_info("peername")[1]

    def connection_lost(self, error: Exception | None) -> None:
        # Nobody waits for the answer any more: it is not given, and not counted.
        self._done()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            found = LENGTH.search(self._buffer, 0, end)
            total = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < total:
                return
            line = self._buffer[: self._buffer.find(b"\r\n")]
            body = self._buffer[end + 4 : total]
            self._buffer = self._buffer[total:]
            self._serve(line.split(b" ")[1], body)

    def _serve(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/chat/completions"):
            self._ask(body)
        elif path == b"/behaviour":
            self._state.start(msgspec.json.decode(body, type=Behaviour))
            self._transport.write(_response(200, b"{}"))
        elif path == b"/progress":
            self._transport.write(_response(200, b"%d" % self._state.counts.answered))
        elif path == b"/counts":
            self._transport.write(_response(200, msgspec.json.encode(self._state.counts)))
        elif path == b"/last":
            self._transport.write(_response(200, msgspec.json.encode(self._state.last)))
        else:
            self._transport.write(_response(404, b'{"error":{"message":"no such path"}}'))

    def _ask(self, body: bytes) -> None:
        prompt = _prompt(self._decoder.decode(body))
        if not prompt:
            self._state.counts.probes += 1
            self._transport.write(_response(400, b'{"error":{"message":"there is no message"}}'))
            return
        seconds, failed = self._state.arrival(prompt)
        self._counts = self._state.counts
        asyncio.get_running_loop().call_later(seconds, self._answer, prompt, failed)

    def _answer(self, prompt: str, failed: bool) -> None:
        if self._counts is not self._state.counts or self._state.silent():
            return
        self._done()
        self._state.departure(prompt, failed, self._port)
        if not failed:
            self._transport.write(_response(200, _completion(prompt)))
            return
        behaviour = self._state.behaviour
        wait = b"Retry-After: %d\r\n" % behaviour.retry_after_s if behaviour.retry_after_s else b""
        message = b'{"error":{"message":"a fault of the race","type":"server_error","code":null}}'
        self._transport.write(_response(behaviour.error_status, message, wait))

    def _done(self) -> None:
        if self._counts is not None:
            self._counts.in_flight -= 1
            self._counts = None


def _prompt(request: _Request) -> str:
    for message in reversed(request.messages):
        if message.role == "user" and message.content:
            content = message.content
            return content if isinstance(content, str) else "".join(part.text for part in content)
    return ""


async def serve() -> None:
    """Listen on a free port of this machine until the process is told to end."""
    loop = asyncio.get_running_loop()
    state = State()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # Whoever started it holds the other end: it does not outlive a race that is killed.
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
