"""Long generation in chunks that survive a kill: each finished chunk is a file in the checkpoint store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from components.core.store import open_store

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound=msgspec.Struct)

CHUNK_SECONDS = 20.0
"""Aim for the time of a chunk: with the speed changing between chunks, a finished one is written every 30 seconds."""


def run_in_chunks(
    checkpoints: str,
    key: str,
    items: Sequence[ItemT],
    size: int,
    kind: type[RowT],
    work: Callable[[Sequence[ItemT], int], list[RowT]],
    *,
    batch: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[RowT], int]:
    """Run ``work`` over the items chunk by chunk; chunks that an earlier, killed task finished are read back.

    Args:
        checkpoints: Store URI.
        key: Identifies the task: everything that its result depends on must be hashed into it.
        items: In a fixed order.
        size: Items per chunk at most.
        kind: Record type of the rows.
        work: Called with a chunk and the number of items before it; returns the chunk's rows.
        batch: Items that are worked on together: chunks are full batches, as many as the measured speed finishes in ``CHUNK_SECONDS``,
            and at least one, since a part of a batch takes about as long as all of it. 0 makes all chunks of ``size``.
        clock: Seconds.

    Returns:
        All rows in the order of the items, and how many items were taken over from an earlier task.
    """
    store = open_store(checkpoints)
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    rows: list[RowT] = []
    resumed = 0
    finished = _finished(store.list(f"{key}/"))
    start, length = 0, min(batch or size, size)
    while start < len(items):
        if start in finished:
            name, done = finished[start]
            rows.extend(decoder.decode(store.read(name)))
            resumed += done
            start += done
            continue
        chunk = items[start : min([start + length, *(other for other in finished if other > start)])]
        began = clock()
        made = work(chunk, start)
        store.write(f"{key}/{start:08d}-{len(chunk)}.json", msgspec.json.encode(made))
        rows.extend(made)
        start += len(chunk)
        if batch:
            length = _next_length(len(chunk), clock() - began, batch, size)
    return rows, resumed


def _finished(names: Iterable[str]) -> dict[int, tuple[str, int]]:
    """Place of the first item of every chunk that there is, to its name and number of items."""
    found: dict[int, tuple[str, int]] = {}
    for name in names:
        start, _, length = name.rpartition("/")[2].removesuffix(".json").partition("-")
        found[int(start)] = (name, int(length))
    return found


def _next_length(done: int, seconds: float, batch: int, most: int) -> int:
    """Items of the next chunk: full batches that take about ``CHUNK_SECONDS`` at the speed of the last one."""
    wanted = int(done * CHUNK_SECONDS / max(seconds, 1e-9))
    return min(max(wanted // batch, 1) * batch, most)


def discard_chunks(checkpoints: str, key: str) -> None:
    """Remove a finished task's chunks; call it once the output is written."""
    open_store(checkpoints).delete_folder(key)
