"""What a person sees of a run, made from the lines of kfp.local and the stages."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from components.core.progress import MODE_VARIABLE, PREFIX, ProgressLines
from pipelines.progress import Display


class Written(io.StringIO):
    """Notes each write that is not empty."""

    def __init__(self, written: list[str]) -> None:
        super().__init__()
        self._written = written

    def write(self, text: str) -> int:
        self._written += [text] if text else []
        return len(text)


def shown(lines: list[str]) -> tuple[str, Display]:
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=False, width=120))
    with display:
        for line in lines:
            display.line(line)
    return out.getvalue(), display


def test_stage_rows_rate_and_time_left() -> None:
    text, _ = shown(
        [
            "03:15:01.000 - INFO - Executing task \x1b[96m'sample'\x1b[0m",
            '    ::progress {"task":"sampling M1","shard":"0/1","done":250,"total":1000,"unit":"problems","rate":50.0,"seconds":5.0}',
            '    ::progress {"task":"sampling M1","shard":"0/1","done":1000,"total":1000,"unit":"problems","rate":50.0,"seconds":20.0}',
            "03:15:21.000 - INFO - Task \x1b[96m'sample'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m",
        ]
    )
    assert "sampling M1: 250/1,000 problems, 50.0/s, 0:15 left" in text
    assert "sampling M1: 1,000/1,000 problems, 50.0/s\n" in text
    assert "sample done in 0:00" in text


def test_lines_that_ran_together_are_told_apart() -> None:
    event = '::progress {"task":"%s","shard":"0/1","done":2,"total":2,"unit":"rows","rate":1.0,"seconds":2.0}'
    torn = '::progress {"task":"solving","sha'
    text, display = shown(
        [
            f"{event % 'sampling'}metrics are not published, the work goes on",
            f"metrics are not published{event % 'judging'}",
            f"{event % 'report'}{event % 'export'}",
            f"{event % 'synthesis'}error in solving: teacher is gone",
            torn,
            f"{torn}error in judging",
            "::progress []",
            "::progress 7",
        ]
    )
    assert [line.split(":")[0].strip() for line in text.splitlines()] == ["sampling", "judging", "report", "export", "synthesis"]
    assert display.error == ["error in solving: teacher is gone"]


def test_a_line_of_progress_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setenv(MODE_VARIABLE, "json")
    monkeypatch.setattr("sys.stdout", Written(written))
    ProgressLines("sampling", "0/1").show(1, 1, "rows")
    assert len(written) == 1 and written[0].endswith("}\n")


def test_noise_is_not_shown() -> None:
    text, _ = shown(["    {", '        "inputs": {}', "[KFP Executor] Got executor_input:", ""])
    assert text == ""


def test_the_error_of_a_stage_and_its_hint_are_kept() -> None:
    _, display = shown(
        [
            "03:15:01.000 - INFO - Executing task 'solve'",
            "    error in solving: teacher is gone",
            "      what to do: start it",
            "03:15:02.000 - ERROR - Task 'solve' finished with status FAILURE",
            "03:15:02.001 - INFO - Skipping task report: upstream task(s) ['solve'] failed.",
            "pipeline failed: Pipeline 'orca-math' finished with status FAILURE.",
        ]
    )
    assert display.failed_stage == "solve"
    assert display.error == ["error in solving: teacher is gone", "what to do: start it"]


def test_of_a_traceback_the_last_line_is_kept() -> None:
    _, display = shown(
        [
            "    Traceback (most recent call last):",
            '      File "a.py", line 1, in f',
            "        raise IndexError('x')",
            "    IndexError: x",
            "    --------------------------",
        ]
    )
    assert display.error == ["IndexError: x"]


def test_an_error_that_a_further_attempt_mends_is_shown_and_not_kept() -> None:
    failing = [
        "03:15:01.000 - INFO - Executing task \x1b[96m'sft'\x1b[0m",
        "    error in sft: the store does not answer",
        "      what to do: look at it",
        "03:15:02.000 - INFO - Task \x1b[96m'sft'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m",
    ]
    again = "03:15:02.000 - INFO - Task sft failed (attempt 1/3). Retrying in 2.0s..."
    text, display = shown([*failing, again])
    assert "sft again in 2.0 s (attempt 1 of 3: error in sft: the store does not answer)" in " ".join(text.split())
    assert display.error == [] and display.failed_stage == ""
    _, display = shown([*failing, again, *failing])
    assert display.error == ["error in sft: the store does not answer", "what to do: look at it"]
    assert display.failed_stage == "sft"
    _, display = shown(["    error in judge: the key is wrong", *failing, again])
    assert display.error == ["error in judge: the key is wrong"], "that of another task, which stays"


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
    text, _ = shown([said[-1]])
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
