"""How fast some work goes and how long it will still take, for people and for the command line."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

import msgspec

PREFIX = "::progress "
"""Marks the lines that the command line turns into a live display."""
MODE_VARIABLE = "TUTORLOOP_PROGRESS"
"""``json`` for a command line that reads along; in any other case the lines are for people who read a pod's log."""
JSON_INTERVAL_S = 1.0
WORDS_INTERVAL_S = 30.0
WINDOW_S = 60.0
"""The rate is that of so much time: what came out of a store in the first second says nothing about the rest."""


class ProgressEvent(msgspec.Struct, kw_only=True):
    """How far a task is.

    Attributes:
        task: Name of the task.
        shard: ``"index/count"``.
        done: Units done.
        total: All of them.
        unit: What they are.
        rate: Units a second.
        seconds: Since the task began.
    """

    task: str
    shard: str
    done: int
    total: int
    unit: str
    rate: float
    seconds: float


def clock(seconds: float) -> str:
    """Seconds as ``m:ss``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def describe(done: float, total: float, unit: str, rate: float) -> str:
    """``250/1,000 problems, 50.0/s, 0:15 left``."""
    left = f", {clock((total - done) / rate)} left" if rate and done < total else ""
    return f"{done:,.0f}/{total:,.0f} {unit}, {rate:,.1f}/s{left}"


class ProgressLines:
    """Prints how far a task is, not too often.

    Args:
        task: Name of the task.
        shard: ``"index/count"``.
        now: Gives the time in seconds.
    """

    def __init__(self, task: str, shard: str, now: Callable[[], float] = time.time) -> None:
        self._task, self._shard, self._now = task, shard, now
        self._json = os.environ.get(MODE_VARIABLE) == "json"
        self._points: deque[tuple[float, int]] = deque([(now(), 0)])
        self._unit = ""
        self._started = now()
        self._done = 0
        self._last = float("-inf")

    def show(self, done: int, total: int, unit: str, force: bool = False) -> None:
        """Print a line if it is time for one, the work is done, or ``force`` says so."""
        now = self._now()
        if unit != self._unit or done < self._done:
            # Another piece of work of the same task.
            self._points = deque([(now if self._unit else self._started, 0)])
            self._unit = unit
        self._done = done
        rate = self._rate(now, done)
        interval = JSON_INTERVAL_S if self._json else WORDS_INTERVAL_S
        if not force and done < total and now - self._last < interval:
            return
        self._last = now
        if not self._json:
            shard = "" if self._shard == "0/1" else f" (shard {self._shard})"
            print(f"{self._task}{shard}: {describe(done, total, unit, rate)}", flush=True)
            return
        seconds = round(now - self._started, 1)
        event = ProgressEvent(task=self._task, shard=self._shard, done=done, total=total, unit=unit, rate=round(rate, 3), seconds=seconds)
        # The end of the line in the same write: another thread's line would come between the two.
        print(PREFIX + msgspec.json.encode(event).decode() + "\n", end="", flush=True)

    def _rate(self, now: float, done: int) -> float:
        points = self._points
        if now - points[-1][0] >= JSON_INTERVAL_S:
            points.append((now, done))
        while len(points) > 2 and points[1][0] <= now - WINDOW_S:
            points.popleft()
        since, before = points[0]
        return (done - before) / (now - since) if now > since else 0.0
