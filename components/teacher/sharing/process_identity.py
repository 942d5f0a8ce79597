"""Who a process is, so that another one on the same machine can tell whether it is still there."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class ProcessIdentity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A process.

    Attributes:
        machine: The boot of a machine and the namespace of its process numbers; empty where the system does not tell.
        pid: Its number there.
        started: When it started, in the system's own count: numbers are given again.
    """

    machine: str = ""
    pid: int = 0
    started: str = ""

    @property
    def gone(self) -> bool:
        """Whether the process certainly runs no more; False for one of another machine."""
        if not self.machine or self.machine != _machine():
            return False
        started = _started(self.pid)
        return started != self.started if started else not _hidden(self.pid)


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    return ProcessIdentity(_machine(), os.getpid(), _started(os.getpid()))


def _machine() -> str:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Field 22 of proc(5)'s stat; a zombie counts as gone."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]


def _hidden(pid: int) -> bool:
    """Whether there is such a process of another user, whom ``/proc`` does not show (``hidepid``)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    # Ours, and not to be seen: it has ended and waits for its parent.
    return False
