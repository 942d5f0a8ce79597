"""``python -m components.offline_teacher``: the offline teacher as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import msgspec

from components.core.errors import TutorLoopError
from components.core.options import parse_options
from components.offline_teacher.options import OfflineTeacherOptions
from components.offline_teacher.server import serve


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and serve.

    Args:
        arguments: Command line without the program's name; None takes the process's own.

    Returns:
        Exit status: 0 after an orderly end, 2 for wrong options or an address that cannot be bound.
    """
    parser = argparse.ArgumentParser(prog="offline_teacher", description="An OpenAI-compatible teacher that needs no model.")
    parser.add_argument("--host", help="address to bind (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port; 0, the default, lets the system choose")
    parser.add_argument("--answer-key", action="append", metavar="FILE", help="JSON Lines file of Problem rows; may be given again")
    parser.add_argument("--options", default="{}", metavar="JSON", help="any options, as a JSON object")
    parser.add_argument("--print-address", action="store_true", help="print the base URL alone, for programs")
    parser.add_argument("--exit-with-stdin", action="store_true", help="end when standard input closes: when the parent is gone")
    chosen = parser.parse_args(arguments)
    try:
        values = msgspec.json.decode(chosen.options, type=dict[str, object])
        given = {"host": chosen.host, "port": chosen.port, "answer_key": chosen.answer_key}
        values |= {name: value for name, value in given.items() if value is not None}
        options = parse_options(OfflineTeacherOptions, values, "offline_teacher")
        asyncio.run(_run(options, chosen.print_address, chosen.exit_with_stdin))
    except (TutorLoopError, msgspec.DecodeError, OSError) as error:
        print(f"offline teacher: {error}", file=sys.stderr)
        return 2
    return 0


async def _run(options: OfflineTeacherOptions, bare: bool, exit_with_stdin: bool) -> None:
    ending = asyncio.Event()
    if exit_with_stdin:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), _watch, loop, ending)
    await serve(options, lambda url: print(url if bare else f"offline teacher at {url}", flush=True), ending)


def _watch(loop: asyncio.AbstractEventLoop, ending: asyncio.Event) -> None:
    descriptor = sys.stdin.fileno()
    if not os.read(descriptor, 4096):
        loop.remove_reader(descriptor)
        ending.set()


if __name__ == "__main__":
    sys.exit(main())
