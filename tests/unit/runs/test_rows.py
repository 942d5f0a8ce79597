"""Dropped rows are kept with their reasons, bounded, and shown by the command."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from components.core.errors import InputError, TutorLoopError
from components.core.ledger import dropped_rows
from components.core.ledger.dropped_rows import DroppedRow, DroppedRows, read_dropped
from components.core.ledger.task_records import read_notes, read_record
from components.core.records import StageRecord, write_records
from components.core.stage import stage_run
from components.core.store import open_store
from pipelines.cli.main import cli
from pipelines.local.remote_home import CACHE, RemoteHome
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord
from tests.support.sample_ledger import data_records

RUN = "20261201-000000-tiny"


class Artifact:
    """A task's main output."""

    def __init__(self, uri: str = "") -> None:
        self.uri = uri
        self.metadata: dict[str, Any] = {}


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StageRecord]:
    """Runs a task in a run of the home ``tmp_path``; gives its record."""
    monkeypatch.setenv("TUTORLOOP_RUN", RUN)
    record = RunRecord(id=RUN, profile="tiny", status="running", started_at="2026-12-01T00:00:00+00:00")
    run_record.begin(record, tmp_path / RUN)

    def made(stage: str, dropped: list[tuple[str, Any]], *, shard: str = "0/1", rows: list[str] = [], error: bool = False) -> StageRecord:  # noqa: B006
        output = tmp_path / "shared" / "artifacts" / f"{stage}-{shard[0]}" / "rows"
        output.parent.mkdir(parents=True)
        output.write_text("".join(f"{row}\n" for row in rows))
        with contextlib.suppress(ValueError), stage_run(stage, Artifact(str(output)), shard=shard, records=str(tmp_path)) as run:
            run.rows_kept = len(rows)
            for reason, row in dropped:
                run.drop(reason, row=row)
            if error:
                raise ValueError("it broke")
        return read_notes(str(tmp_path / RUN))[-1]

    return made


def command(home: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["rows", *arguments, "--home", str(home)])


def test_a_record_leads_to_the_rows_that_its_task_dropped(tmp_path: Path) -> None:
    with stage_run("solving", Artifact(), records=str(tmp_path)) as run:
        run.drop("no_answer", row={"solution": "hm"})
        run.drop("no_answer", row="hmm")
        run.drop("counted_only", 3)
    record = read_record(run.reference)
    assert record.dropped == {"no_answer": 2, "counted_only": 3}
    assert list(read_dropped(str(tmp_path), record.dropped_rows)) == [
        DroppedRow(reason="no_answer", row={"solution": "hm"}),
        DroppedRow(reason="no_answer", row="hmm"),
    ]
    assert record.dropped_rows.startswith("shared/tasks/"), "kept as long as the record, and by cached tasks too"


def test_a_task_that_drops_nothing_writes_nothing(tmp_path: Path) -> None:
    with stage_run("solving", Artifact(), records=str(tmp_path)) as run:
        run.drop("counted_only", 3)
    assert read_record(run.reference).dropped_rows == ""
    assert not list(tmp_path.rglob("*.gz"))


def test_what_is_kept_is_bounded_by_reason_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropped_rows, "MOST_ROWS", 3)
    monkeypatch.setattr(dropped_rows, "MOST_BYTES", 400)
    rows = DroppedRows()
    for number in range(10):
        rows.add("often", number)
    rows.add("huge", "x" * 1000)
    rows.add("once", "y")
    kept = list(read_dropped(str(tmp_path), rows.keep(str(tmp_path))))
    assert [(row.reason, row.row) for row in kept] == [("often", 0), ("often", 1), ("often", 2), ("once", "y")]
    assert rows.keep(str(tmp_path)) == rows.keep(str(tmp_path)), "the same rows are the same file"


def test_secrets_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", "sk-very-secret-key")
    rows = DroppedRows()
    rows.add("unparsable_reply", {"text": "my key is sk-very-secret-key"})
    [row] = read_dropped(str(tmp_path), rows.keep(str(tmp_path)))
    assert "very-secret" not in str(row)


def test_the_command_shows_rows_with_their_reasons_and_counts(tmp_path: Path, task: Callable[..., StageRecord]) -> None:
    task("solving", [("too_long", {"n": 1}), ("no_answer", {"n": 2})], shard="0/2", rows=['{"id":"a"}', '{"id":"b"}'])
    task("solving", [("too_long", {"n": 3})], shard="1/2", rows=['{"id":"c"}'])
    shown = command(tmp_path, RUN, "solving", "--dropped")
    assert shown.exit_code == 0
    assert [json.loads(line) for line in shown.stdout.splitlines()] == [
        {"reason": "too_long", "row": {"n": 1}},
        {"reason": "no_answer", "row": {"n": 2}},
        {"reason": "too_long", "row": {"n": 3}},
    ]
    assert "2 dropped as too_long, 2 of them kept" in shown.stderr and "1 dropped as no_answer" in shown.stderr
    limited = command(tmp_path, "latest", "solving", "--reason", "no_answer", "--limit", "1")
    assert [json.loads(line)["row"] for line in limited.stdout.splitlines()] == [{"n": 2}]
    assert "too_long" not in limited.stderr
    assert len(command(tmp_path, "latest", "solving", "--dropped", "--limit", "1").stdout.splitlines()) == 1
    handed_on = command(tmp_path, RUN, "solving")
    assert handed_on.stdout.splitlines() == ['{"id":"a"}', '{"id":"b"}', '{"id":"c"}'] and "3 rows handed on" in handed_on.stderr


def test_rows_of_a_task_that_failed_are_shown(tmp_path: Path, task: Callable[..., StageRecord]) -> None:
    """They say why nothing was left to hand on."""
    assert task("contamination", [("contaminated_exact", {"n": 1})], error=True).status == "failed"
    assert '"contaminated_exact"' in command(tmp_path, RUN, "contamination", "--dropped").stdout


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("no-such-run", "solving"), ("there is no run 'no-such-run'", RUN)),
        ((RUN, "cooking"), ("STAGE = 'cooking'", "solving")),
        ((RUN, "solving", "--reason", "boredom"), ("--reason = 'boredom'", "too_long")),
    ],
)
def test_what_is_unknown_is_refused_with_what_there_is(
    arguments: tuple[str, ...], found: tuple[str, ...], tmp_path: Path, task: Callable[..., StageRecord]
) -> None:
    task("solving", [("too_long", {"n": 1})])
    with pytest.raises(TutorLoopError) as caught:
        CliRunner().invoke(cli, ["rows", *arguments, "--home", str(tmp_path)], catch_exceptions=False)
    assert all(text in str(caught.value) for text in found)


def test_a_finished_run_is_found_through_its_ledger(tmp_path: Path, task: Callable[..., StageRecord]) -> None:
    """A task from the cache has noted nothing in this run, and its rows are shown all the same."""
    with stage_run("synthesis", Artifact(), records=str(tmp_path)) as earlier:
        earlier.drop("duplicate", row={"n": 1})
    run = tmp_path / "20261201-000001-tiny"
    run_record.begin(RunRecord(id=run.name, profile="tiny", status="succeeded", started_at="2026-12-01T00:00:00+00:00"), run)
    write_records(run / "ledger.jsonl", [read_record(earlier.reference)])
    assert '"duplicate"' in command(tmp_path, "latest", "synthesis", "--dropped").stdout


def test_rows_of_a_run_in_s3(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home = f"{s3_bucket}/runs"
    monkeypatch.setenv("TUTORLOOP_RUN", RUN)
    run_record.begin(RunRecord(id=RUN, profile="tiny", status="running", started_at="2026-12-01T00:00:00+00:00"), f"{home}/{RUN}")
    open_store(home).write("shared/artifacts/solve/rows", b'{"id":"a"}\n')
    # As a laptop leaves it, whose working copy of the home was elsewhere.
    with stage_run("solving", Artifact("/gone/shared/artifacts/solve/rows"), records=home) as run:
        run.rows_kept = 1
        run.drop("too_long", row={"n": 1})
    assert '"too_long"' in command(home, "latest", "solving", "--dropped").stdout
    assert command(home, RUN, "solving").stdout == '{"id":"a"}\n'
    with pytest.raises(InputError, match=RUN):
        CliRunner().invoke(cli, ["rows", "none", "solving", "--home", home], catch_exceptions=False)


def test_a_home_in_s3_has_the_dropped_rows_of_tasks_that_ended_well_and_that_failed(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTORLOOP_WORK", str(tmp_path))
    monkeypatch.setenv("TUTORLOOP_RUN", RUN)
    home = RemoteHome(f"{s3_bucket}/home")
    with home.open():
        run_record.begin(RunRecord(id=RUN, profile="tiny", status="failed", started_at="2026-12-01T00:00:00+00:00"), home.folder / RUN)
        (home.folder / "latest").symlink_to(RUN)
        with stage_run("synthesis", Artifact(), records=str(home.folder)) as run:
            run.drop("duplicate", row={"n": 1})
        # KFP's cache knows the address of the record, which alone names the rows.
        (home.folder / CACHE).mkdir(parents=True)
        (home.folder / CACHE / "entry.json").write_text(json.dumps({"outputs": {"Output": run.reference}}))
        home._send_up_artifacts()
        assert open_store(home.uri).exists(read_record(run.reference).dropped_rows)
        with contextlib.suppress(ValueError), stage_run("solving", Artifact(), records=str(home.folder)) as run:
            run.drop("no_answer", row={"n": 2})
            raise ValueError
    assert '"duplicate"' in command(home.uri, RUN, "synthesis", "--dropped").stdout
    assert '"no_answer"' in command(home.uri, RUN, "solving", "--dropped").stdout


def test_a_model_has_no_rows(tmp_path: Path, task: Callable[..., StageRecord]) -> None:
    record = task("sft", [])
    Path(record.output).unlink()
    Path(record.output).mkdir()
    with pytest.raises(InputError, match="holds no rows"):
        CliRunner().invoke(cli, ["rows", RUN, "sft", "--home", str(tmp_path)], catch_exceptions=False)


def test_a_ledger_of_an_older_version_is_read(tmp_path: Path) -> None:
    """It names neither outputs nor dropped rows."""
    import random

    run_record.begin(RunRecord(id=RUN, profile="tiny", status="succeeded", started_at="2026-12-01T00:00:00+00:00"), tmp_path / RUN)
    write_records(tmp_path / RUN / "ledger.jsonl", data_records(random.Random(1)))
    shown = command(tmp_path, RUN, "solving", "--dropped")
    assert shown.stdout == "" and "21 dropped as gold_mismatch, 0 of them kept" in shown.stderr
    with pytest.raises(InputError, match="no address"):
        CliRunner().invoke(cli, ["rows", RUN, "solving", "--home", str(tmp_path)], catch_exceptions=False)
