"""What is made of the words in which torch's agent tells how processes ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from components.core.errors import ModelError
from components.student.training.distributed import launcher as launch
from components.student.training.job import write_failure


def launched(folder: Path, monkeypatch: pytest.MonkeyPatch, statuses: list[int], later: int = 0) -> str:
    """The error of a training with two processes that have ended so; the agent sees the second so many seconds later."""
    failures = {number: ProcessFailure(number, 100 + number, status, "none") for number, status in enumerate(statuses) if status}
    failures[1].timestamp = failures[min(failures)].timestamp + later
    first = failures[min(failures)]
    said = f"failed (exitcode: {first.exitcode}) local_rank: {first.local_rank} (pid: {first.pid}) of binary: python\n"
    (folder / "said").write_text(said + str(ChildFailedError("components.student.training.distributed.worker", failures)))
    monkeypatch.setattr(launch, "command", lambda *given: ["sh", "-c", f"cat {folder}/said; exit 1"])
    job = SimpleNamespace(name="M1", local=2, nodes=1, options={"device": "cpu"})
    with pytest.raises(ModelError) as caught:
        launch.run(folder, cast(Any, job), lambda told: None)
    return str(caught.value)


@pytest.mark.parametrize("statuses", [[0, -9], [1, -9], [-6, -9], [-15, -9]])
def test_a_process_that_was_killed_is_named_whatever_became_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statuses: list[int]
) -> None:
    """The other may have ended of it before the agent looks; of the two, the agent tells the first by number."""
    if statuses[0]:
        write_failure(tmp_path, 0, "the connection is lost", "")
    said = launched(tmp_path, monkeypatch, statuses)
    assert "process 1 of 2 was killed by SIGKILL" in said and "want of memory" in said


@pytest.mark.parametrize("other", [-6, -11])
def test_a_process_that_ended_by_itself_is_told_by_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: int) -> None:
    """The other one crashed as it lost it."""
    write_failure(tmp_path, 0, "no memory to train M1", "lower batch_size")
    assert "no memory to train M1 (process 0 of 2)" in launched(tmp_path, monkeypatch, [1, other])


def test_a_process_that_the_agent_had_to_kill_is_not_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_failure(tmp_path, 0, "no memory to train M1", "lower batch_size")
    assert "no memory to train M1 (process 0 of 2)" in launched(tmp_path, monkeypatch, [1, -9], later=30)
