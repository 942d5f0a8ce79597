"""Checkpoints and chunks: incomplete ones do not count, S3 serves like a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from components.core.records import Record
from components.core.store import open_store
from components.student.generation.chunks import discard_chunks, run_in_chunks
from components.student.training.checkpoints import Checkpoints
from tests.support.kills import at_every_change


class Row(Record, frozen=True, kw_only=True):
    """A result."""

    value: int


@pytest.fixture(params=["folder", "s3"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both kinds of store."""
    return str(tmp_path / "work") if request.param == "folder" else str(request.getfixturevalue("s3_bucket"))


def _write(checkpoints: Checkpoints, step: int) -> None:
    folder = checkpoints.folder / f"checkpoint-{step}"
    (folder / "adapter").mkdir(parents=True)
    for path in ("a first file", "adapter/weights", "weights"):
        (folder / path).write_text(f"{path} of step {step}")


def test_the_newest_complete_checkpoint_is_found_again_elsewhere(store_uri: str) -> None:
    first = Checkpoints(store_uri, "task")
    assert first.latest() is None
    for step in (9, 10):
        _write(first, step)
        first.upload(step)
        first.mark(step)
    _write(first, 11)
    again = Checkpoints(store_uri, "task")
    found = again.latest()
    assert found is not None and found.name == "checkpoint-10"
    for path in ("a first file", "adapter/weights", "weights"):
        assert (found / path).read_text() == f"{path} of step 10"
    assert not (again.folder / "checkpoint-11").exists()
    assert Checkpoints(store_uri, "another task").latest() is None
    again.discard()
    assert list(open_store(store_uri).list()) == []


def test_a_checkpoint_of_the_other_form_is_not_used(store_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    alone = Checkpoints(store_uri, "task")
    _write(alone, 9)
    alone.upload(9)
    alone.mark(9)
    assert Checkpoints(store_uri, "task").latest_of_form(sharded=True) is None
    assert "checkpoint-9 is of a training by one process" in capsys.readouterr().out
    together = Checkpoints(store_uri, "task")
    _write(together, 3)
    (together.folder / "checkpoint-3" / "pytorch_model_fsdp_0").mkdir()
    (together.folder / "checkpoint-3" / "pytorch_model_fsdp_0" / "weights").write_text("sharded")
    together.upload(3)
    together.mark(3)
    found = Checkpoints(store_uri, "task").latest_of_form(sharded=True)
    assert found is not None and found.name == "checkpoint-3"
    assert Checkpoints(store_uri, "task").latest_of_form(sharded=False) is None
    assert "checkpoint-3 is of a training by several processes" in capsys.readouterr().out


def test_several_machines_bring_up_one_checkpoint(s3_bucket: str, tmp_path: Path) -> None:
    one, other = (Checkpoints(s3_bucket, "task", tmp_path / name) for name in ("one", "other"))
    for checkpoints, name in ((one, "part 0"), (other, "part 1")):
        (checkpoints.folder / "checkpoint-4").mkdir(parents=True)
        (checkpoints.folder / "checkpoint-4" / name).write_text(name)
        checkpoints.upload(4)
    assert Checkpoints(s3_bucket, "task").latest() is None
    one.mark(4)
    found = Checkpoints(s3_bucket, "task").latest()
    assert found is not None and {"part 0", "part 1"} <= {path.name for path in found.iterdir()}


def test_killed_while_it_marks_a_checkpoint_there_is_always_one(s3_bucket: str, tmp_path: Path) -> None:
    """The older ones go only when the new one counts."""

    def prepare(number: int) -> Callable[[], object]:
        machine = Checkpoints(s3_bucket, f"task {number}", tmp_path / f"machine {number}")
        for step in (9, 10):
            _write(machine, step)
            machine.upload(step)
            if step == 9:
                machine.mark(step)
        return lambda: machine.mark(10)

    found = []
    for number in at_every_change(prepare):
        again = Checkpoints(s3_bucket, f"task {number}", tmp_path / f"another machine {number}").latest()
        assert again is not None and {path.name for path in again.iterdir()} >= {"a first file", "adapter", "weights"}
        found.append(again.name)
    # The marker, then the old one's: marker and three files.
    assert found == ["checkpoint-9"] + ["checkpoint-10"] * 4


def test_killed_while_it_discards_it_leaves_no_checkpoint_without_its_files(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Checkpoints(store_uri, "task")
    _write(first, 9)
    first.upload(9)
    first.mark(9)

    def killed(prefix: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(first.store, "delete_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        first.discard()
    assert Checkpoints(store_uri, "task").latest() is None


def test_finished_chunks_are_not_worked_on_again(store_uri: str) -> None:
    worked: list[int] = []

    def work(chunk: Sequence[int], before: int) -> list[Row]:
        worked.extend(chunk)
        if 7 in chunk:
            raise KeyboardInterrupt
        return [Row(value=item * 10) for item in chunk]

    with pytest.raises(KeyboardInterrupt):
        run_in_chunks(store_uri, "task", range(10), 3, Row, work)
    assert worked == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    worked.clear()

    def work_well(chunk: Sequence[int], before: int) -> list[Row]:
        worked.extend(chunk)
        assert chunk[0] == before
        return [Row(value=item * 10) for item in chunk]

    rows, resumed = run_in_chunks(store_uri, "task", range(10), 3, Row, work_well)
    assert [row.value for row in rows] == [item * 10 for item in range(10)]
    assert (worked, resumed) == ([6, 7, 8, 9], 6)
    discard_chunks(store_uri, "task")
    assert list(open_store(store_uri).list()) == []


def test_chunks_follow_the_measured_speed_in_full_batches(store_uri: str) -> None:
    now = [0.0]
    lengths: list[int] = []

    def work(chunk: Sequence[int], before: int) -> list[Row]:
        lengths.append(len(chunk))
        # From item 40 on each takes five seconds.
        now[0] += sum(0.5 if item < 40 else 5.0 for item in chunk)
        if before >= 60:
            raise KeyboardInterrupt
        return [Row(value=item) for item in chunk]

    def run() -> tuple[list[Row], int]:
        return run_in_chunks(store_uri, "task", range(80), 32, Row, work, batch=4, clock=lambda: now[0])

    with pytest.raises(KeyboardInterrupt):
        run()
    assert lengths == [4, 32, 32, 4]
    lengths.clear()

    def work_well(chunk: Sequence[int], before: int) -> list[Row]:
        lengths.append(len(chunk))
        return [Row(value=item) for item in chunk]

    rows, resumed = run_in_chunks(store_uri, "task", range(80), 7, Row, work_well)
    assert (resumed, [row.value for row in rows]) == (68, list(range(80)))
    assert lengths == [7, 5], "a task that is restarted with another size continues"
