"""Commands with a time limit, and waiting: both say what they do, and when they fail, what was last seen."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
"""Of the repository. Not that of tests/conftest.py, which needs pytest: `python -m tests.kind.images` does without."""
SHOWN = 6_000
"""Characters of a command's output in an error."""
_started = time.monotonic()


class CommandError(AssertionError):
    """A command failed or took too long; the message holds the command, how it ended and what it said."""


class WaitError(AssertionError):
    """Something did not come about in time."""


def say(text: str) -> None:
    """Tell whoever watches what is done, with the time since the start."""
    seconds = int(time.monotonic() - _started)
    print(f"[{seconds // 60:3d}:{seconds % 60:02d}] {text}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str],
    *,
    text: str | None = None,
    seconds: float = 120,
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> str:
    """Run a command to its end.

    Args:
        command: With its arguments.
        text: What it reads.
        seconds: How long it may take.
        environment: Variables besides those of this process.
        quiet: Do not say that it is run.

    Returns:
        What it wrote to its standard output.

    Raises:
        CommandError: It is not installed, failed, or took too long.
    """
    line = shlex.join(command)
    if not quiet:
        say(line if len(line) < 200 else line[:199] + "…")
    variables = {**os.environ, **(environment or {})}
    try:
        ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, env=variables, errors="replace")
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed; tests/kind/README.md says what is needed") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"not done after {seconds:g} s: {line}\n{_said(error.stdout, error.stderr)}") from error
    if ended.returncode:
        raise CommandError(f"ended with {ended.returncode}: {line}\n{_said(ended.stdout, ended.stderr)}")
    return ended.stdout


def _said(*outputs: str | bytes | None) -> str:
    texts = [output.decode(errors="replace") if isinstance(output, bytes) else output or "" for output in outputs]
    whole = "\n".join(text.strip() for text in texts if text.strip())
    return whole if len(whole) <= SHOWN else f"…{whole[-SHOWN:]}"


def wait_until(
    what: str, look: Callable[[], T | None], seconds: float, *, every: float = 2.0, describe: Callable[[], str] | None = None
) -> T:
    """Look again and again until there is something.

    A look that fails is one that found nothing: what is looked at may just be starting.

    Args:
        what: What is waited for, as in "waiting for ...".
        look: Gives what is waited for; None, False or nothing as long as it is not there. A WaitError ends the waiting.
        seconds: How long to wait at most.
        every: Seconds between two looks.
        describe: Says how things stand, for the error.

    Raises:
        WaitError: It did not come; says what the last look failed with, and how things stand.
    """
    say(f"waiting for {what} (at most {seconds:g} s)")
    deadline = time.monotonic() + seconds
    failure = ""
    while True:
        try:
            if found := look():
                return found
            failure = ""
        except WaitError:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise WaitError(f"in {seconds:g} s: no {what}" + _detail("the last look failed with", failure) + _state(describe))
        time.sleep(every)


def _state(describe: Callable[[], str] | None) -> str:
    if describe is None:
        return ""
    try:
        return _detail("as things stand", describe())
    except Exception as error:
        return f"\n(how things stand cannot be told: {error})"


def _detail(name: str, text: str) -> str:
    return f"\n{name}:\n{text}" if text else ""
