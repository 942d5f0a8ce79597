"""Turns the output of ``kfp.local`` and of the stages into something that a person wants to watch."""

from __future__ import annotations

import json
import re
import time
from types import TracebackType

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from components.core.progress import PREFIX, ProgressEvent, clock, describe

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '([^']+)'")
_RETRIED = re.compile(r"Task (\S+) failed \(attempt (\d+)/(\d+)\)\. Retrying in ([\d.]+)s")
_FINISHED = re.compile(r"Task '([^']+)' finished with status (\w+)")
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d+ - [A-Z]+ - ")
_DECODER = json.JSONDecoder()
PLAIN_INTERVAL_S = 5.0


def plain(text: str) -> str:
    """The text without terminal colours."""
    return _ANSI.sub("", text)


class Display:
    """Follows the child's lines; shows stage, rows, rate and time left.

    On a terminal a bar per running task, elsewhere a line per task and every few seconds.

    Attributes:
        error: Lines of the error that ended a task for good, for the run record.
        failed_stage: KFP name of the task that failed.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self.error: list[str] = []
        self.failed_stage = ""
        self._error_start = 0
        self._in_error = False
        self._in_traceback = False
        self._bars: dict[str, TaskID] = {}
        self._started: dict[str, list[float]] = {}
        self._printed: dict[str, float] = {}
        columns = (TextColumn("  {task.description:<28}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=self.console, transient=True)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def line(self, raw: str) -> None:
        """Take one line of the child's output, or several in one: threads and processes that share an output may lose a line's end."""
        told, *events = plain(raw).split(PREFIX)
        self._take(told.strip())
        for event in events:
            try:
                fields, end = _DECODER.raw_decode(event)
                progress = msgspec.convert(fields, ProgressEvent)
            except (json.JSONDecodeError, msgspec.ValidationError):
                # Torn apart by another's line; the next one tells more.
                continue
            self._advance(progress)
            self._take(event[end:].strip())

    def _take(self, text: str) -> None:
        if started := _STARTED.search(text):
            self._in_error = False
            self._started.setdefault(started[1], []).append(time.monotonic())
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {started[1]}")
        elif finished := _FINISHED.search(text):
            self._finish(finished[1], finished[2])
        elif retried := _RETRIED.search(text):
            self._retry(*retried.groups())
        elif re.match(r"error(:| in )|pipeline failed:|Traceback ", text):
            self._in_error = not text.startswith("pipeline failed:")
            self._in_traceback = text.startswith("Traceback ")
            if self._in_error:
                self._error_start = len(self.error)
            if self._in_error and not self._in_traceback:
                self.error.append(text)
        elif _LOG_LINE.match(text):
            self._in_error = False
        elif self._in_error and text.strip("-"):
            self._take_error_line(text)

    def _take_error_line(self, text: str) -> None:
        """Of an error that was raised on purpose keep everything, of a traceback its last line; the log has the rest."""
        if not self._in_traceback:
            self.error.append(text)
        elif re.match(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b", text):
            self.error.append(text)
            self._in_error = False

    def _retry(self, name: str, attempt: str, attempts: str, wait: str) -> None:
        """What went wrong last is shown and forgotten: only an error that stays is the run's."""
        reason = f": {self.error[self._error_start]}" if self.error[self._error_start :] else ""
        self.console.print(
            f"[dim]{time.strftime('%H:%M:%S')}[/] {name} [yellow]again in {wait} s[/] (attempt {attempt} of {attempts}{reason})"
        )
        del self.error[self._error_start :]
        self.failed_stage, self._in_error = "", False

    def _advance(self, event: ProgressEvent) -> None:
        key = f"{event.task} {event.shard}" if event.shard != "0/1" else event.task
        done, total = event.done, event.total
        text = describe(done, total, event.unit, event.rate)
        if self.console.is_terminal:
            if key not in self._bars:
                self._bars[key] = self._progress.add_task(key, total=total, text=text)
            self._progress.update(self._bars[key], completed=done, total=total, text=text)
            if done >= total:
                self._progress.remove_task(self._bars.pop(key))
        elif done >= total or time.monotonic() - self._printed.get(key, 0.0) >= PLAIN_INTERVAL_S:
            self._printed[key] = time.monotonic()
            self.console.print(f"           {key}: {text}")

    def _finish(self, name: str, status: str) -> None:
        # Shards of one task share its name; which of them ended is not said, so the times of two may be swapped.
        started = self._started.get(name) or [time.monotonic()]
        seconds = time.monotonic() - started.pop(0)
        if status == "SUCCESS":
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {name} [green]done[/] in {clock(seconds)}")
        else:
            self.failed_stage = self.failed_stage or name
            self.console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {name} [red]{status.lower()}[/] after {clock(seconds)}")
