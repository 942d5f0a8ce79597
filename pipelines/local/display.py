"""Shows the events of a run in a form that a person wants to watch."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from components.core.metrics.progress import ProgressEvent, clock, describe
from pipelines.local.events import Advanced, AttemptEnded, AttemptStarted, Event, RunFailed, plain

PLAIN_INTERVAL_S = 5.0


class Display:
    """Follows the child's events; shows stage, rows, rate and time left.

    On a terminal a bar per running task, elsewhere a line per task and every few seconds. Names and errors come from tasks and servers:
    they are printed as they are, never as markup.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._failed: dict[int, AttemptEnded] = {}
        self._run_error = ""
        self._bars: dict[str, TaskID] = {}
        self._printed: dict[str, float] = {}
        columns = (
            TextColumn("  {task.description:<28}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._progress = Progress(*columns, console=self.console, transient=True)

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    @property
    def error(self) -> list[str]:
        """Lines of the errors of the tasks that have not ended well so far, each task's last; without any, those of the run's own error."""
        return [line for ended in self._failed.values() for line in ended.error] or self._run_error.splitlines()

    @property
    def failed_stage(self) -> str:
        """KFP name of the task that failed first and has not ended well since; empty when there is none."""
        return next((ended.task for ended in self._failed.values()), "")

    def take(self, event: Event) -> None:
        """Show an event, and keep what the run's record needs of it."""
        match event:
            case AttemptStarted():
                self._say(event.task)
            case Advanced():
                self._advance(event.progress)
            case AttemptEnded():
                self._end(event)
            case RunFailed():
                self._run_error = event.error

    def _say(self, *parts: str | tuple[str, str]) -> None:
        self.console.print(Text.assemble((time.strftime("%H:%M:%S"), "dim"), " ", *parts))

    def _advance(self, event: ProgressEvent) -> None:
        key = plain(f"{event.task} {event.shard}" if event.shard != "0/1" else event.task)
        done, total = event.done, event.total
        text = plain(describe(done, total, event.unit, event.rate))
        if self.console.is_terminal:
            if key not in self._bars:
                self._bars[key] = self._progress.add_task(key, total=total, text=text)
            self._progress.update(self._bars[key], completed=done, total=total, text=text)
            if done >= total:
                self._progress.remove_task(self._bars.pop(key))
        elif done >= total or time.monotonic() - self._printed.get(key, 0.0) >= PLAIN_INTERVAL_S:
            self._printed[key] = time.monotonic()
            self.console.print(Text(f"           {key}: {text}"))

    def _end(self, event: AttemptEnded) -> None:
        if event.succeeded:
            self._failed.pop(event.execution, None)
            self._say(f"{event.task} ", ("done", "green"), f" in {clock(event.seconds)}")
            return
        # In the place of the error of an earlier attempt: a task has one error, that of its last attempt.
        self._failed[event.execution] = event
        self._say(f"{event.task} ", ("failed", "red"), f" after {clock(event.seconds)}")
        if event.wait_s is not None:
            reason = f": {event.error[0]}" if event.error else ""
            again = f"again in {event.wait_s:.0f} s"
            self._say(f"{event.task} ", (again, "yellow"), f" (attempt {event.attempt} of {event.attempts}{reason})")
