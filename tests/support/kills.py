"""A process that dies between two changes of a store, played in this process: what tests of an order need."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from components.core.store import FolderStore, Store
from components.core.store.s3 import S3Store

CHANGES = ("write", "create", "delete", "_upload_file", "delete_folder")


class Killed(BaseException):
    """The process is dead: no handler of errors catches it."""


@contextmanager
def killed_before(number: int, log: list[str] | None = None) -> Iterator[None]:
    """Let every change of any store raise :class:`Killed` from the nth on, those in clean-up too: a dead process changes nothing more.

    Args:
        number: From 1.
        log: Gets the changes that are made, as ``method key``.
    """
    done = 0

    def dying(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def change(self: Store, *arguments: Any) -> Any:
            nonlocal done
            done += 1
            if done >= number:
                raise Killed
            if log is not None:
                log.append(f"{name} {arguments[-1] if name == '_upload_file' else arguments[0]}")
            return method(self, *arguments)

        return change

    # A folder's own way to remove a folder is one change; the general one is made of others, which count by themselves.
    kinds = [(kind, name) for kind in (FolderStore, S3Store) for name in CHANGES if name in vars(kind)]
    before = {(kind, name): vars(kind)[name] for kind, name in kinds}
    for (kind, name), method in before.items():
        setattr(kind, name, dying(name, method))
    try:
        yield
    finally:
        for (kind, name), method in before.items():
            setattr(kind, name, method)


def at_every_change(prepare: Callable[[int], Callable[[], object]]) -> Iterator[int]:
    """Kill some work before its first change, before its second, and so on, until it gets through.

    Args:
        prepare: Makes the state that the work starts from, apart from that of the other numbers, and gives the work.

    Yields:
        The number of the change before which it was killed: time to look at what it has left.
    """
    for number in itertools.count(1):
        work = prepare(number)
        try:
            with killed_before(number):
                work()
        except Killed:
            yield number
        else:
            assert number > 1, "the work changes nothing"
            return
