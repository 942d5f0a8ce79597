"""Response stores for tests: requests by a word, replies that tell which request they answer, writers in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import msgspec

from components.core.store import Store, open_store
from components.teacher.responses.keys import canonical_request, key_of
from components.teacher.responses.store import ResponseStore
from components.teacher.sharing.spending import Spending

ROOT = Path(__file__).parents[2]
WRITER = """
import asyncio, sys
from tests.support.stored_replies import opened, put

async def main(address, name, count):
    store = opened(address, writer=name)
    for number in range(count):
        await put(store, f"{name} {number}", "x" * (number * 37 % 3000))
        print(number, flush=True)
    store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""
COST = Spending(10, 5, 0.25)


def request_of(text: object, model: str = "m") -> bytes:
    """The canonical request whose only message is this text."""
    return canonical_request(model, [{"role": "user", "content": str(text)}], {"temperature": 0.0}, 0)


def key(text: object) -> str:
    """Its key."""
    return key_of(request_of(text))


def opened(where: str | Store, run: str = "run", writer: str = "") -> ResponseStore:
    """A loaded response store."""
    store = ResponseStore(open_store(where) if isinstance(where, str) else where, run, writer or uuid.uuid4().hex)
    store.load()
    return store


async def put(store: ResponseStore, text: object, padding: str = "", model: str = "m") -> None:
    """Store the reply to a request."""
    reply = {"choices": [{"message": {"content": f"reply to {text}"}}], "padding": padding}
    request = request_of(text, model)
    await store.put(key_of(request), request, msgspec.json.encode(reply), COST)


async def read(store: ResponseStore, text: object) -> str | None:
    """The text of a stored reply, which must belong to the request."""
    raw = await store.get(key(text))
    assert (raw is not None) == store.known(key(text))
    return None if raw is None else msgspec.json.decode(raw)["choices"][0]["message"]["content"]


async def all_there(store: ResponseStore, texts: list[str]) -> None:
    """Fail unless each request has its own reply."""
    assert [await read(store, text) for text in texts] == [f"reply to {text}" for text in texts]


def start_writer(address: str, name: str, count: int) -> subprocess.Popen[str]:
    """A process that stores replies to ``<name> <number>``, and prints each number once it is stored."""
    return subprocess.Popen([sys.executable, "-c", WRITER, address, name, str(count)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
