"""Waiting for what another thread or process does. It ends as soon as that is done: the limit is only for what never comes about."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(true: Callable[[], object], seconds: float = 180.0) -> None:
    """Wait for a condition; where an event loop runs, through ``asyncio.to_thread``.

    Raises:
        AssertionError: It did not come true.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)
