"""A sliding window over many items: the next one starts as soon as any one is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from components.core.errors import BudgetError

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(
    function: Callable[[T], Awaitable[R]], items: Sequence[T], limit: int, on_done: Callable[[int, int], None] | None = None
) -> list[R]:
    """Apply a coroutine function to every item, ``limit`` at a time, without waiting for whole batches.

    After the first exception no further item is started; those under way are finished (what they are paid for is stored), then
    the exception is raised.

    Args:
        function: What to do with one item.
        items: The items.
        limit: Items under way at once.
        on_done: Called with the number of finished items and of all items.

    Returns:
        The results, in the order of the items.

    Raises:
        BudgetError: With the number of items that are left to do.
    """
    results: dict[int, R] = {}
    errors: list[Exception] = []
    positions = iter(range(len(items)))

    async def work() -> None:
        for position in positions:
            try:
                results[position] = await function(items[position])
            except Exception as error:
                errors.append(error)
            if errors:
                return
            if on_done is not None:
                on_done(len(results), len(items))

    await asyncio.gather(*(work() for _ in range(min(limit, len(items)))))
    if errors:
        first = errors[0]
        if isinstance(first, BudgetError):
            done = len(results)
            raise BudgetError(
                f"{first.message}; {done} of {len(items)} items are done, {len(items) - done} are left", first.hint
            ) from first
        raise first
    return [results[position] for position in range(len(items))]
