"""The offline teacher, for as long as a run or a dry run needs it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from components.core.options import parse_options
from components.core.stage import StageRun
from components.offline_teacher.options import OfflineTeacherOptions

Start = Callable[[OfflineTeacherOptions], contextlib.AbstractContextManager[str]]
"""Starts a server with these options, and gives its address for as long as the block lasts."""


@contextlib.contextmanager
def as_process(options: OfflineTeacherOptions) -> Iterator[str]:
    """Run the server as a process of this machine.

    Args:
        options: Its options.
    """
    from components.offline_teacher.background import start_background

    with start_background(options) as server:
        yield server.url


@contextlib.contextmanager
def offline_teacher(
    options: dict[str, Any] | None, answer_key: list[dict[str, Any]], seed: int, folder: Path, start: Start = as_process
) -> Iterator[None]:
    """Run the offline teacher for a while, and tell the tasks its address.

    Args:
        options: Its options; None when it is not needed.
        answer_key: Seed sources whose solutions it may give.
        seed: Seed of the run, for these sources.
        folder: Where these solutions are written.
        start: Starts the server.
    """
    if options is None:
        yield
        return
    from components.offline_teacher.background import ADDRESS_VARIABLE

    chosen = parse_options(OfflineTeacherOptions, options, "offline_teacher")
    if answer_key:
        chosen = msgspec.structs.replace(chosen, answer_key=(*chosen.answer_key, str(_write_answer_key(answer_key, seed, folder))))
    with start(chosen) as address:
        os.environ[ADDRESS_VARIABLE] = address
        yield


def _write_answer_key(answer_key: list[dict[str, Any]], seed: int, folder: Path) -> Path:
    """Collect the worked solutions that the offline teacher may give."""
    from components.seeds.options import SeedsOptions
    from components.seeds.stage import collect_seeds

    path = folder / "answer_key.jsonl"
    sources = parse_options(SeedsOptions, {"sources": answer_key}, "answer_key")
    collect_seeds(path, sources, seed, StageRun("answer_key"))
    return path
