"""Ports for servers that tests start."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

_held = socket.socket()
_held.bind(("127.0.0.1", 0))
NOBODY = f"127.0.0.1:{_held.getsockname()[1]}"
"""An address at which nobody listens as long as this process lives."""


def free_ports(count: int) -> list[int]:
    """So many different ports of the loopback interface that the operating system says are free."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which nobody listens for the time of the block, unless the block itself starts a server there."""
    with socket.socket() as holder:
        # Two that may share an address can both have it as long as one of them does not listen.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
