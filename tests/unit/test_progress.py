"""What a person sees of a run, made from the lines of kfp.local and the stages."""

from __future__ import annotations

import io

from rich.console import Console

from pipelines.progress import Display


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
            '    ::progress {"task":"sampling M1","shard":"0/1","done":250,"total":1000,"unit":"problems","seconds":5.0}',
            '    ::progress {"task":"sampling M1","shard":"0/1","done":1000,"total":1000,"unit":"problems","seconds":20.0}',
            "03:15:21.000 - INFO - Task \x1b[96m'sample'\x1b[0m finished with status \x1b[92mSUCCESS\x1b[0m",
        ]
    )
    assert "sampling M1: 250/1,000 problems, 50.0/s, 0:15 left" in text
    assert "sampling M1: 1,000/1,000 problems, 50.0/s\n" in text
    assert "sample done in 0:00" in text


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
