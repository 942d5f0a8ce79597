"""A run that does not come to its end: its record and report say what its tasks did, and what was paid."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from components.core.ledger.reader import Ledger
from components.core.ledger.task_records import read_notes
from pipelines.runs.record import RunRecord
from tests.local import command
from tests.local.command import SHORT, until
from tests.unit.stages.test_report import Page

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

LIMIT = 125_000
"""Tokens: enough for all that the agents write, too few for all solutions."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a run that its budget has ended while the teacher solved."""
    home = tmp_path_factory.mktemp("home")
    status, output = command.run(home, *SHORT, "--set", f"teacher.max_tokens={LIMIT}")
    assert status == 1 and "raise the limit" in output, output
    assert "requests paid" in output
    return home


def tokens(record: RunRecord) -> int:
    """That a run has paid for."""
    return record.usage.prompt_tokens + record.usage.completion_tokens


def test_a_failed_run_says_what_its_tasks_did_and_paid(stopped: Path) -> None:
    record = command.latest(stopped)
    assert record.status == "failed" and record.failed_stage.startswith("solve")
    assert record.usage.requests > 0 and 0.8 * LIMIT < tokens(record) < 1.2 * LIMIT
    stages: dict[str, set[str]] = {}
    for stage in record.stages:
        stages.setdefault(stage.stage, set()).add(stage.status)
    assert "failed" in stages.pop("solving")
    assert stages == {name: {"succeeded"} for name in ("seeds", "base_model", "synthesis")}
    assert any(stage.dropped for stage in record.stages) and record.seconds_by_stage["synthesis"] > 0
    assert [model.name for model in record.models] == ["M0"], "made, if not measured"


def test_a_failed_run_has_a_report_of_what_there_is(stopped: Path) -> None:
    folder, record = stopped / "latest", command.latest(stopped)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == [] and {"teacher", "rows"} <= set(page.ids)
    assert "The run did not finish." in page.text and "solve" in page.text and "raise the limit" in page.text
    assert "solving (failed)" in page.text and f"{record.usage.requests:,}" in page.text
    figures = json.loads((folder / "report.json").read_text())
    assert figures["usage"]["requests"] == record.usage.requests


def test_a_run_that_goes_on_pays_for_the_rest_alone(stopped: Path) -> None:
    before = command.latest(stopped)
    status, output = command.run(stopped, *SHORT)
    assert status == 0, output
    after = command.latest(stopped)
    assert after.usage.requests > 0 and after.usage.cache_hits > 0
    # The limit is an option of the agents' tasks too, which so run again and pay nothing.
    paid = {run.id: Ledger(read_notes(str(stopped / run.id))).of_stage("synthesis") for run in (before, after)}
    requests = {run: [task.usage.requests for task in tasks if task.usage] for run, tasks in paid.items()}
    assert requests[before.id][0] > 0 and requests[after.id] == [0]


def test_an_interrupted_run_says_so_and_what_it_has_paid(tmp_path: Path) -> None:
    slowly = ("--set", "offline_teacher.faults.latency_s=1")
    process = command.start(tmp_path, *SHORT, *slowly)
    until(lambda: re.search(r'"done":[1-9]\d*,[^\n]*conversations', command.log_of(tmp_path)), process, "a conversation was done")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    record = command.latest(tmp_path)
    assert (record.status, record.error, record.failed_stage) == ("failed", "interrupted", "")
    assert record.usage.requests > 0, "what was paid is never shown as nothing"
    assert {stage.status for stage in record.stages if stage.stage == "synthesis"} == {"failed"}
    assert "It ended: interrupted" in (tmp_path / "latest" / "report.html").read_text()
    command.wait_for_the_end_in(tmp_path)
