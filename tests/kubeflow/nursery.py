"""Forks a ``tutorloop`` for each line of arguments: tells its process id, lets it go at the next line, and tells how it ended."""

from __future__ import annotations

import os
import sys

import pipelines.sync.metrics
import pipelines.sync.reconcile  # noqa: F401
from pipelines.cli.main import cli


def main() -> None:
    """Serve standard input."""
    while line := sys.stdin.readline():
        start, go = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.dup2(2, 1)
            os.read(start, 1)
            try:
                cli(line.rstrip("\n").split("\t"), standalone_mode=True)
            except SystemExit as ended:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(ended.code if isinstance(ended.code, int) else 1)
            os._exit(70)
        os.close(start)
        print(child, flush=True)
        sys.stdin.readline()
        os.write(go, b"x")
        os.close(go)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
