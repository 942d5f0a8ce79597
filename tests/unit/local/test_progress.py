"""What a person sees of a run, made from the events of its tasks and from what they print."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from components.core.metrics.progress import MODE_VARIABLE, PREFIX, ProgressEvent, ProgressLines
from pipelines.local.display import Display
from pipelines.local.events import MAX_ERROR_LINES, Advanced, AttemptEnded, AttemptOutput, AttemptStarted, Event, RunFailed, plain


class Written(io.StringIO):
    """Notes each write that is not empty."""

    def __init__(self, written: list[str]) -> None:
        super().__init__()
        self._written = written

    def write(self, text: str) -> int:
        self._written += [text] if text else []
        return len(text)


def shown(events: list[Event], terminal: bool = False) -> tuple[str, Display]:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=terminal, width=120, highlight=False))
    with display:
        for event in events:
            display.take(event)
    return out.getvalue(), display


def failed(task: str, *error: str, execution: int = 1, attempt: int = 1, wait_s: float | None = None) -> AttemptEnded:
    return AttemptEnded(
        execution=execution, task=task, attempt=attempt, attempts=3, succeeded=False, seconds=1.0, error=list(error), wait_s=wait_s
    )


def done(task: str, execution: int = 1, seconds: float = 1.0) -> AttemptEnded:
    return AttemptEnded(execution=execution, task=task, attempt=1, attempts=3, succeeded=True, seconds=seconds)


def at(task: str, done: int, total: int = 1000, rate: float = 50.0) -> Advanced:
    return Advanced(progress=ProgressEvent(task=task, shard="0/1", done=done, total=total, unit="problems", rate=rate, seconds=5.0))


def progress_of(lines: list[str]) -> tuple[list[str], AttemptOutput]:
    """What is found in the lines that a task prints: tasks of the progress, and the rest."""
    output = AttemptOutput()
    return [event.task for line in lines for event in output.take(line)], output


def test_stage_rows_rate_and_time_left() -> None:
    text, _ = shown([AttemptStarted(task="sample"), at("sampling M1", 250), at("sampling M1", 1000), done("sample", seconds=20.0)])
    assert "sampling M1: 250/1,000 problems, 50.0/s, 0:15 left" in text
    assert "sampling M1: 1,000/1,000 problems, 50.0/s\n" in text
    assert "sample done in 0:20" in text


def test_lines_that_ran_together_are_told_apart() -> None:
    event = '::progress {"task":"%s","shard":"0/1","done":2,"total":2,"unit":"rows","rate":1.0,"seconds":2.0}'
    torn = '::progress {"task":"solving","sha'
    tasks, output = progress_of(
        [
            f"{event % 'sampling'}metrics are not published, the work goes on",
            f"metrics are not published{event % 'judging'}",
            f"{event % 'report'}{event % 'export'}",
            f"{event % 'synthesis'}error in solving: teacher is gone",
            torn,
            f"{torn}error in judging",
            "::progress []",
            "::progress 7",
            "::progress " + "[" * 100_000,
        ]
    )
    assert tasks == ["sampling", "judging", "report", "export", "synthesis"]
    assert output.error == ["error in solving: teacher is gone"]


def test_a_line_of_progress_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setenv(MODE_VARIABLE, "json")
    monkeypatch.setattr("sys.stdout", Written(written))
    ProgressLines("sampling", "0/1").show(1, 1, "rows")
    assert len(written) == 1 and written[0].endswith("}\n")


def test_noise_is_no_error() -> None:
    assert progress_of(["    {", '        "inputs": {}', "[KFP Executor] Got executor_input:", ""])[1].error == []


def test_the_error_of_a_stage_and_its_hint_are_found() -> None:
    _, output = progress_of(["a row", "error in solving: teacher is gone", "  what to do: start it", ""])
    assert output.error == ["error in solving: teacher is gone", "what to do: start it"]


def test_of_a_traceback_the_last_line_is_found() -> None:
    lines = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "    raise IndexError('x')", "IndexError: x", "bye"]
    assert progress_of(lines)[1].error == ["IndexError: x"]


def test_of_a_long_error_the_end_is_kept() -> None:
    _, output = progress_of(["error: it goes on", *(f"line {number}" for number in range(10_000))])
    assert output.error == [f"line {number}" for number in range(10_000 - MAX_ERROR_LINES, 10_000)]


def test_the_error_of_a_task_stands_once_and_is_forgotten_when_an_attempt_mends_it() -> None:
    away = ("error in sft: the store does not answer", "what to do: look at it")
    text, display = shown([failed("sft", *away, wait_s=2.0)])
    assert "sft again in 2 s (attempt 1 of 3: error in sft: the store does not answer)" in " ".join(text.split())
    assert display.error == list(away) and display.failed_stage == "sft", "a run that is killed now failed of that"
    _, display = shown([failed("sft", *away, wait_s=2.0), done("sft")])
    assert display.error == [] and display.failed_stage == ""
    _, display = shown([failed("sft", *away, wait_s=2.0), failed("sft", *away, attempt=2, wait_s=4.0), failed("sft", *away, attempt=3)])
    assert display.error == list(away) and display.failed_stage == "sft"
    _, display = shown([failed("sft", "one", wait_s=2.0), failed("judge", "two", execution=2), done("sft")])
    assert display.error == ["two"] and display.failed_stage == "judge"


def test_shards_share_a_name_and_not_their_errors() -> None:
    _, display = shown([failed("solve", "one", execution=1), failed("solve", "two", execution=2, wait_s=2.0), done("solve", execution=2)])
    assert display.error == ["one"] and display.failed_stage == "solve"


def test_the_error_of_the_run_is_told_when_no_task_has_one() -> None:
    assert shown([RunFailed(error="error: no teacher\n  what to do: x")])[1].error == ["error: no teacher", "  what to do: x"]
    assert shown([failed("sft", "one"), RunFailed(error="pipeline failed")])[1].error == ["one"]


@pytest.mark.parametrize("terminal", [False, True])
def test_foreign_text_is_no_markup_and_no_command_to_the_terminal(terminal: bool) -> None:
    hostile = "no capacity. Executing task '[/x]' failed [bold]now[/]"
    text, display = shown(
        [
            AttemptStarted(task="[/x]"),
            at("sampling [/y] \x1b]0;title\x07\x1b[2J", 1),
            failed("[/x]", hostile, wait_s=2.0),
            failed("[/x]", hostile, attempt=2),
            done("[/z]", execution=2),
        ],
        terminal,
    )
    assert display.error == [hostile] and display.failed_stage == "[/x]"
    assert hostile in " ".join(plain(text).split()) and "[/y]" in text and "[/z]" in text
    assert "\x1b]0;" not in text and "\x1b[2J" not in text


def test_no_control_character_of_a_task_is_left() -> None:
    sequences = ["\x1b[2J", "\x1b[1;31m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bc", "\x1b", "\x9b2J", "\x00", "\x08", "\x7f"]
    for sequence in sequences:
        assert "\x1b" not in plain(f"a{sequence}b\tc\n") and plain(f"a{sequence} b\tc\n").isprintable() is False
        assert not {character for character in plain(f"a{sequence} b") if not character.isprintable()}, sequence
    assert plain("a\x1b]0;title\x07b\tc\n") == "ab\tc\n"


class Clock:
    """A time that tests move on."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def lines_of(capsys: pytest.CaptureFixture[str], steps: list[tuple[float, int]], total: int, unit: str = "solutions") -> list[str]:
    clock = Clock()
    lines = ProgressLines("solving", "1/2", clock)
    for seconds, done in steps:
        clock.seconds = 1000.0 + seconds
        lines.show(done, total, unit)
    return capsys.readouterr().out.splitlines()


def test_a_pods_log_has_words_and_not_too_many(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTORLOOP_PROGRESS", raising=False)
    said = lines_of(capsys, [(number / 8, number) for number in range(1, 2401)], 2400)
    assert len(said) == 11
    assert said[1] == "solving (shard 1/2): 241/2,400 solutions, 8.0/s, 4:29 left"
    assert said[-1] == "solving (shard 1/2): 2,400/2,400 solutions, 8.0/s"


def test_the_rate_is_that_of_the_last_minute(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand come from the store at once; what is left is asked, two a second."""
    monkeypatch.setenv("TUTORLOOP_PROGRESS", "json")
    said = lines_of(capsys, [(1, 10_000), *((second, 10_000 + 2 * second) for second in range(2, 121))], 11_000)
    found = [msgspec.json.decode(line.removeprefix(PREFIX)) for line in said]
    assert len(found) == 120 and found[0]["rate"] == 10_000
    assert found[-1]["rate"] == pytest.approx(2, rel=0.05) and found[-1]["seconds"] == 120
    text, _ = shown([Advanced(progress=event) for event in AttemptOutput().take(said[-1])])
    assert "solving 1/2: 10,240/11,000 solutions, 2.0/s, 6:20 left" in text


def test_every_piece_of_work_has_a_rate_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_PROGRESS", "json")
    clock = Clock()
    lines = ProgressLines("judging M1", "0/1", clock)
    for unit, pace in (("responses", 100), ("verdicts", 5)):
        for second in range(11):
            clock.seconds += bool(second)
            lines.show(second * pace, 10 * pace, unit)
    found = [msgspec.json.decode(line.removeprefix(PREFIX)) for line in capsys.readouterr().out.splitlines()]
    assert [(line["unit"], line["rate"]) for line in found if line["done"] == line["total"]] == [("responses", 100.0), ("verdicts", 5.0)]
