"""Running commands and waiting: what is said when it goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.kind.commands import CommandError, WaitError, run, wait_until


def test_a_command_that_fails_says_how_and_what_it_wrote() -> None:
    command = [sys.executable, "-c", "import sys; print('FIRST'.lower()); print('THE CAUSE'.lower(), file=sys.stderr); sys.exit(7)"]
    with pytest.raises(CommandError, match="ended with 7") as caught:
        run(command)
    assert "first" in str(caught.value) and "the cause" in str(caught.value) and "sys.exit(7)" in str(caught.value)


def test_a_command_that_takes_too_long_is_ended_with_what_it_wrote() -> None:
    # A second may be too short for the program to begin.
    for seconds in (1, 4, 16, 64):
        with pytest.raises(CommandError, match=f"not done after {seconds} s") as caught:
            run([sys.executable, "-u", "-c", "import time; print('SO FAR'.lower()); time.sleep(600)"], seconds=seconds)
        if "so far" in str(caught.value):
            return
    pytest.fail("what it wrote is lost")


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-program is not installed"):
        run(["no-such-program"])


def test_waiting_gives_what_came() -> None:
    answers: Iterator[str | None] = iter([None, "", "there"])
    assert wait_until("it", lambda: next(answers), 120, every=0.01) == "there"


def test_waiting_goes_on_when_a_look_fails() -> None:
    looks = []

    def look() -> bool:
        looks.append(1)
        if len(looks) < 3:
            raise OSError("not yet")
        return True

    assert wait_until("it", look, 120, every=0.01)


def test_what_did_not_come_is_told_with_the_last_failure_and_the_state() -> None:
    def look() -> bool:
        raise OSError("connection refused")

    with pytest.raises(WaitError) as caught:
        wait_until("answer", look, 0.05, every=0.01, describe=lambda: "pod x is Pending")
    message = str(caught.value)
    assert "no answer" in message and "connection refused" in message and "pod x is Pending" in message


def test_a_state_that_cannot_be_told_does_not_hide_what_was_waited_for() -> None:
    def describe() -> str:
        raise CommandError("kubectl is gone")

    with pytest.raises(WaitError, match="no answer") as caught:
        wait_until("answer", lambda: None, 0.05, every=0.01, describe=describe)
    assert "kubectl is gone" in str(caught.value)


def test_waiting_ends_at_once_when_it_is_in_vain() -> None:
    looks = []

    def look() -> bool:
        looks.append(1)
        raise WaitError("the run has failed")

    with pytest.raises(WaitError, match="the run has failed"):
        wait_until("success", look, 60)
    assert len(looks) == 1
