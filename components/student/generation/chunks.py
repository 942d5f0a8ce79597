"""Long generation in chunks that survive a kill: each finished chunk is a file in the checkpoint store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from components.core.store import open_store

ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound=msgspec.Struct)


def run_in_chunks(
    checkpoints: str,
    key: str,
    items: Sequence[ItemT],
    size: int,
    kind: type[RowT],
    work: Callable[[Sequence[ItemT], int], list[RowT]],
) -> tuple[list[RowT], int]:
    """Run ``work`` over the items chunk by chunk; chunks that an earlier, killed task finished are read back.

    Args:
        checkpoints: Store URI.
        key: Identifies the task: everything that its result depends on must be hashed into it.
        items: In a fixed order.
        size: Items per chunk.
        kind: Record type of the rows.
        work: Called with a chunk and the number of items before it; returns the chunk's rows.

    Returns:
        All rows in the order of the items, and how many items were taken over from an earlier task.
    """
    store = open_store(checkpoints)
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    rows: list[RowT] = []
    resumed = 0
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        name = f"{key}/{start:08d}-{len(chunk)}.json"
        if store.exists(name):
            rows.extend(decoder.decode(store.read(name)))
            resumed += len(chunk)
            continue
        made = work(chunk, start)
        store.write(name, msgspec.json.encode(made))
        rows.extend(made)
    return rows, resumed


def discard_chunks(checkpoints: str, key: str) -> None:
    """Remove a finished task's chunks; call it once the output is written."""
    open_store(checkpoints).delete_folder(key)
