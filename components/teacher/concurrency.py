"""A sliding window over many items: the next one starts as soon as any one is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from components.core.errors import BudgetError

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(
    function: Callable[[T], Awaitable[R]],
    items: Sequence[T],
    limit: int,
    on_done: Callable[[int, int], None] | None = None,
    unit: str = "items",
) -> list[R]:
    """Apply a coroutine function to every item, ``limit`` at a time, without waiting for whole batches.

    After an exception no further item is started; those under way are finished (what they are paid for is stored), then the
    exception is raised. A spent budget is another matter: every item gets its turn, since what is stored costs nothing.

    Args:
        function: What to do with one item.
        items: The items.
        limit: Items under way at once.
        on_done: Called with the number of finished items and of all items.
        unit: What the items are, in the plural, for the error.

    Returns:
        The results, in the order of the items.

    Raises:
        BudgetError: With the numbers of items that are done and left, and the results so far.
    """
    results: dict[int, R] = {}
    errors: list[Exception] = []
    spent: BudgetError | None = None
    positions = iter(range(len(items)))

    async def work() -> None:
        nonlocal spent
        for position in positions:
            try:
                results[position] = await function(items[position])
            except BudgetError as error:
                # One of them says it all: as many as there are items left would hold as many tracebacks.
                spent = spent or error
                continue
            except Exception as error:
                errors.append(error)
            if errors:
                return
            if on_done is not None:
                on_done(len(results), len(items))

    await asyncio.gather(*(work() for _ in range(min(limit, len(items)))))
    if errors:
        raise errors[0]
    if spent:
        done = len(results)
        raise BudgetError(
            f"{spent.message}; {done} of {len(items)} {unit} are done, {len(items) - done} are left",
            spent.hint,
            [results.get(position) for position in range(len(items))],
        ) from spent
    return [results[position] for position in range(len(items))]
