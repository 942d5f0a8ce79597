"""Records, options, errors and the stage's record; its metrics are in test_telemetry.py."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from components.core.errors import BudgetError, EmptyOutputError, InputError, ParameterError, StoreError, TeacherError, TutorLoopError
from components.core.ledger import task_records
from components.core.ledger.last_words import LastWords
from components.core.ledger.reader import Ledger
from components.core.ledger.task_records import read_notes, read_record
from components.core.metrics.progress import PREFIX
from components.core.options import Options, parse_options
from components.core.records import (
    Demonstration,
    Problem,
    Score,
    Usage,
    digest_of,
    in_shard,
    normalise_question,
    parse_shard,
    problem_id,
    read_records,
    row_id,
    write_records,
)
from components.core.stage import StageRun, stage_run
from tests.support.waiting import wait_until


class Artifact:
    """Stands where kfp puts a task's main output."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}


def problem(question: str) -> Problem:
    return Problem(id=problem_id(question), source="own", split="train", question=question, licence="Apache-2.0")


# Records


@given(st.lists(st.text(), max_size=5), st.none() | st.text(), st.none() | st.integers(0, 50))
def test_rows_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], answer: str | None, steps: int | None
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [msgspec.structs.replace(problem(text), answer=answer, steps=steps, alternatives=texts) for text in texts]
    assert write_records(path, rows) == len(rows)
    assert list(read_records(path, Problem)) == rows


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "malformed"),
        (b'{"id": "1"}', "missing required field `source`"),
        (b'{"id": 1, "source": "s", "split": "train", "question": "q", "licence": "MIT"}', "Expected `str`"),
        (b'{"id": "1", "source": "s", "split": "train", "question": "q", "licence": "MIT", "colour": 1}', "unknown field `colour`"),
        (b"[]", "Expected `object`"),
        (b"caf\xe9", "malformed"),
    ],
)
def test_a_malformed_line_is_named_with_its_number(line: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_records(path, [problem("one?")])
    path.write_bytes(path.read_bytes() + b"\n" + line + b"\n")
    rows = read_records(path, Problem)
    assert next(rows).question == "one?"
    with pytest.raises(InputError, match=reason) as caught:
        next(rows)
    assert (caught.value.path, caught.value.line) == (str(path), 3)
    assert f"{path}, line 3" in str(caught.value)
    assert "what to do:" in str(caught.value)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        list(read_records(tmp_path / "none.jsonl", Problem))


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert list(read_records(tmp_path / "empty.jsonl", Problem)) == []


def test_a_failing_iterator_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "rows.jsonl"
    write_records(path, [problem("old?")])

    def failing() -> Iterator[Problem]:
        yield problem("new?")
        raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_records(path, failing())
    assert [row.question for row in read_records(path, Problem)] == ["old?"]
    assert [file.name for file in path.parent.iterdir()] == ["rows.jsonl"]


@given(st.text(max_size=20), st.integers(1, 9))
def test_every_row_is_in_exactly_one_shard(identifier: str, count: int) -> None:
    assert sum(in_shard(identifier, f"{index}/{count}") for index in range(count)) == 1


def test_shards_are_of_similar_size_and_stable() -> None:
    sizes = [sum(in_shard(row_id(number), f"{index}/4") for number in range(2000)) for index in range(4)]
    assert sum(sizes) == 2000
    assert min(sizes) > 400
    assert [index for index in range(4) if in_shard("a fixed id", f"{index}/4")] == [
        int(hashlib.sha256(b"a fixed id").hexdigest()[:8], 16) % 4
    ]


@pytest.mark.parametrize("shard", ["", "1", "2/2", "-1/2", "0/0", "a/b", "0/2/3", " 0/2"])
def test_a_shard_of_another_form_is_refused(shard: str) -> None:
    with pytest.raises(ParameterError, match="shard"):
        parse_shard(shard)


def test_a_shard_is_index_and_count() -> None:
    assert parse_shard("3/10") == (3, 10)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("How many  Apples?", "how many apples", True),
        ("It costs $1,200.", "it costs 1200", True),
        ("It costs 1,20", "it costs 120", False),
        ("2.5 litres", "25 litres", False),
        ("2.5 litres", "2 5 litres", False),
        ("-3 degrees", "3 degrees", False),
        ("pages 3-4", "pages 3 4", True),
        ("Zoë’s 5 cats", "zoë s 5 cats", True),
        ("5 cats", "6 cats", False),
        ("What is 5 + 3?", "What is 5 * 3?", False),
        ("What is 5 + 3?", "what is 5  + 3", True),
    ],
)
def test_questions_are_the_same_but_for_case_space_and_punctuation(left: str, right: str, same: bool) -> None:
    assert (normalise_question(left) == normalise_question(right)) is same
    assert (problem_id(left) == problem_id(right)) is same


@given(st.text())
def test_normalising_is_stable_under_case_and_space(question: str) -> None:
    once = normalise_question(question)
    assert once == normalise_question(f"  {question}\n")
    assert once == " ".join(once.split())


def test_row_ids_depend_on_every_part_and_their_borders() -> None:
    ids = [row_id("a", "b"), row_id("ab"), row_id("b", "a"), row_id("a", "b", ""), row_id("a", 1), row_id("a", 2)]
    assert len(set(ids)) == len(ids)
    assert row_id("a", 1) == row_id("a", "1")
    assert all(re.fullmatch(r"[0-9a-f]{16}", identifier) for identifier in ids)


def test_a_digest_follows_contents_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.bin").write_bytes(b"one")
    first = digest_of(folder)
    assert first == digest_of(folder)
    (folder / "sub" / "a.bin").rename(folder / "sub" / "b.bin")
    renamed = digest_of(folder)
    (folder / "sub" / "b.bin").write_bytes(b"two")
    assert len({first, renamed, digest_of(folder)}) == 3


def test_usage_adds_up() -> None:
    total = Usage(requests=1, usd=0.5, prompt_tokens=10) + Usage(requests=2, cache_hits=3, usd=0.25)
    assert total == Usage(requests=3, cache_hits=3, usd=0.75, prompt_tokens=10)


def test_rows_are_immutable_and_strict_about_names() -> None:
    row = problem("q?")
    with pytest.raises(AttributeError):
        row.answer = "1"  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**msgspec.to_builtins(row), "colour": "red"}, Problem)
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        msgspec.convert({"id": "1"}, Demonstration)


# Options


class Inner(Options, frozen=True, kw_only=True):
    """Nested options."""

    size: Annotated[int, Meta(ge=1)] = 1


class Sample(Options, frozen=True, kw_only=True):
    """Options of a stage that does not exist."""

    epochs: Annotated[int, Meta(ge=1)] = 1
    rate: Annotated[float, Meta(gt=0)] = 1e-6
    names: list[str] = msgspec.field(default_factory=list)
    inner: Inner = Inner()


def test_whole_floats_become_integers_at_any_depth() -> None:
    parsed = parse_options(Sample, {"epochs": 3.0, "rate": 1.0, "inner": {"size": 2.0}}, "sample")
    assert parsed == Sample(epochs=3, rate=1.0, inner=Inner(size=2))
    assert isinstance(parsed.epochs, int)
    assert isinstance(parsed.rate, float)


def test_defaults_hold_where_nothing_is_given() -> None:
    assert parse_options(Sample, {}, "sample") == Sample()


@pytest.mark.parametrize(
    ("values", "name", "allowed"),
    [
        ({"epoch": 2}, "sample.epoch", "epochs, inner, names, rate"),
        ({"epochs": 0}, "sample.epochs", ">= 1"),
        ({"epochs": 1.5}, "sample.epochs", "int"),
        ({"epochs": "2"}, "sample.epochs", "int"),
        ({"rate": -0.5}, "sample.rate", "> 0"),
        ({"rate": True}, "sample.rate", "float"),
        ({"names": "one"}, "sample.names", "array"),
        ({"names": ["a", 1]}, "sample.names[1]", "str"),
        ({"inner": {"size": 0}}, "sample.inner.size", ">= 1"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_and_what_is_allowed(values: dict[str, Any], name: str, allowed: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_options(Sample, values, "sample")
    assert caught.value.name == name
    assert allowed in caught.value.allowed
    wrong: Any = next(iter(values.values()))
    while isinstance(wrong, dict | list):
        wrong = [*(wrong.values() if isinstance(wrong, dict) else wrong)][-1]
    assert f" = {wrong!r} is not valid" in str(caught.value)


# Errors


def test_errors_say_what_to_do_on_a_line_of_its_own() -> None:
    assert str(TutorLoopError("it broke", "mend it")) == "it broke\n  what to do: mend it"
    assert str(TutorLoopError("it broke")) == "it broke"
    assert str(InputError("is empty", "seeds.jsonl")) == "seeds.jsonl: is empty"
    assert str(InputError("is odd", "seeds.jsonl", 7, "look")) == "seeds.jsonl, line 7: is odd\n  what to do: look"
    assert str(ParameterError("sft.epochs", 0, "1 or more")) == "parameter sft.epochs = 0 is not valid; allowed: 1 or more"
    assert issubclass(BudgetError, TeacherError)


# Stages


def test_a_stage_that_ends_well_leaves_its_record_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_METRICS_DIR", str(tmp_path / "metrics"))
    monkeypatch.setenv("TUTORLOOP_RUN", "run-7")
    monkeypatch.delenv("TUTORLOOP_PUSHGATEWAY", raising=False)
    artifact, home = Artifact(), str(tmp_path / "home")
    with stage_run("sampling", artifact, task="sampling M1", shard="1/2", options={"n": 4}, records=home) as stage:
        stage.rows_in = 10
        stage.rows_kept = 7
        stage.drop("too_long", 2)
        stage.drop("too_long")
        stage.counts["tokens"] = 12.5
        stage.usage = Usage(requests=5, cache_hits=2, usd=0.5)
        stage.scores.append(Score(model="M1", benchmark="dev", n=10, pass_at_1=0.4, low=0.2, high=0.6))
    assert stage.reference.startswith(f"{home}/shared/tasks/")
    record = read_record(stage.reference)
    assert (record.stage, record.task, record.shard, record.status) == ("sampling", "sampling M1", "1/2", "succeeded")
    assert (record.rows_in, record.rows_kept, record.dropped, record.options) == (10, 7, {"too_long": 3}, {"n": 4})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record.started_at)
    headline = {name: artifact.metadata[name] for name in ("rows_in", "rows_kept", "dropped_too_long", "tokens", "dev_pass_at_1")}
    assert headline == {"rows_in": 10, "rows_kept": 7, "dropped_too_long": 3, "tokens": 12.5, "dev_pass_at_1": 0.4}
    assert (artifact.metadata["teacher_requests"], artifact.metadata["teacher_cache_hits"], artifact.metadata["teacher_usd"]) == (5, 2, 0.5)
    text = (tmp_path / "metrics" / "sampling-M1-1-2.prom").read_text()
    labels = 'pipeline="none",run="run-7",shard="1/2",stage="sampling",task="sampling M1"'
    assert f"tutorloop_stage_failed{{{labels}}} 0.0" in text


def test_a_task_that_fails_leaves_no_record_but_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_RUN", "run-7")
    monkeypatch.setenv("TUTORLOOP_TEACHER_API_KEY", "sk-very-secret")
    with pytest.raises(SystemExit), stage_run("solving", Artifact(), shard="1/2", records=str(tmp_path)):
        raise InputError("sk-very-secret is no row", "rows.jsonl")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("failures/*.json")] == ["run-7/failures/solving-1-2.json"]
    assert not (tmp_path / "shared").exists()
    words = msgspec.json.decode((tmp_path / "run-7/failures/solving-1-2.json").read_bytes(), type=LastWords)
    assert (words.stage, words.task, words.shard, words.attempt) == ("solving", "solving", "1/2", 0)
    assert words.error.startswith("rows.jsonl: ") and "very-secret" not in words.error


def test_a_later_attempt_that_ends_well_takes_the_last_words_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_RUN", "run-7")
    for attempt, fails in (("0", True), ("1", True), ("2", False)):
        monkeypatch.setenv("KFP_RETRY_INDEX", attempt)
        with contextlib.suppress(ZeroDivisionError), stage_run("judging", Artifact(), records=str(tmp_path)):
            _ = 1 // (0 if fails else 1)
        words = msgspec.json.decode((tmp_path / "run-7/failures/judging-0-1.json").read_bytes(), type=LastWords)
        assert (words.error, words.attempt) == ("integer division or modulo by zero" if fails else "", int(attempt))


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "succeeded"), (ValueError("no"), "failed"), (KeyboardInterrupt(), "failed"), (StoreError("away"), "running")],
    ids=["well", "error", "interrupt", "store away"],
)
def test_a_task_notes_in_its_runs_folder_what_it_did_and_paid(
    error: BaseException | None, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's count stands until the stage has its own: a task that is killed never comes to that. No store is waited for twice."""
    monkeypatch.setenv("TUTORLOOP_RUN", "run-7")
    monkeypatch.setattr(task_records, "NOTE_S", 0.05)
    folder = tmp_path / "run-7"
    with contextlib.suppress(SystemExit, ValueError, KeyboardInterrupt), stage_run("solving", Artifact(), records=str(tmp_path)) as stage:
        stage.asking = lambda: Usage(requests=5, usd=0.5)
        wait_until(lambda: read_notes(str(folder)), 10)
        [note] = read_notes(str(folder))
        assert (note.status, note.usage) == ("running", Usage(requests=5, usd=0.5))
        stage.rows_kept = 3
        if error is not None:
            raise error
    [note] = read_notes(str(folder))
    assert (note.status, note.usage) == (status, Usage(requests=5, usd=0.5))
    assert note.rows_kept == (0 if status == "running" else 3)


def test_every_attempt_has_a_note_of_its_own_and_damaged_ones_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_RUN", "run-7")
    for pid in (1, 2):
        monkeypatch.setattr("os.getpid", lambda number=pid: number)
        with contextlib.suppress(ZeroDivisionError), stage_run("judging", Artifact(), records=str(tmp_path)) as stage:
            stage.usage = Usage(requests=pid)
            _ = 1 // (pid - 1)
    (tmp_path / "run-7" / "tasks" / "broken.json").write_text("{")
    notes = read_notes(str(tmp_path / "run-7"))
    assert sorted((note.status, note.usage.requests if note.usage else 0) for note in notes) == [("failed", 1), ("succeeded", 2)]
    assert Ledger(notes).usage().requests == 3


def test_a_task_that_is_in_no_ledger_leaves_no_record(tmp_path: Path) -> None:
    with stage_run("report", records=str(tmp_path)) as stage:
        pass
    assert stage.reference == "" and not list(tmp_path.iterdir())


def test_a_record_that_is_gone_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: not the record of a task"):
        read_record(str(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InputError, match=r"broken\.json: not .*\n.*empty cache"):
        read_record(str(tmp_path / "broken.json"))


def test_an_error_for_people_has_no_traceback_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, stage_run("solving", Artifact()):
        raise ParameterError("solving.samples", 0, "1 or more")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error in solving: parameter solving.samples = 0 is not valid; allowed: 1 or more\n"


def test_an_unexpected_error_keeps_its_traceback_and_counts_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUTORLOOP_METRICS_DIR", str(tmp_path / "metrics"))
    with pytest.raises(ZeroDivisionError), stage_run("judging", Artifact()):
        _ = 1 // 0
    failed = [
        line for line in (tmp_path / "metrics" / "judging-0-1.prom").read_text().splitlines() if line.startswith("tutorloop_stage_failed")
    ]
    assert any('task="judging"' in line and line.endswith(" 1.0") for line in failed)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, stage_run("solving", Artifact()):
        descriptor = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(descriptor, b"row\n")
        finally:
            os.close(descriptor)
    assert caught.value.code == 1
    assert "the disk is full" in capsys.readouterr().err
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC


def test_another_system_error_is_not_mistaken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), stage_run("solving", Artifact()):
        (tmp_path / "none").read_bytes()


def test_an_empty_output_tells_the_counts_that_led_there() -> None:
    stage = StageRun("preferences", "preferences M1")
    stage.rows_in = 12
    stage.drop("no_negative", 9)
    stage.drop("duplicate", 3)
    with pytest.raises(EmptyOutputError) as caught:
        stage.require_rows("pairs")
    assert "preferences M1: no pairs left to hand on (12 rows in; dropped: 3 duplicate, 9 no_negative)" in str(caught.value)
    stage.rows_kept = 1
    stage.require_rows("pairs")


def test_an_empty_output_of_an_empty_input() -> None:
    with pytest.raises(EmptyOutputError, match="0 rows in; dropped: none dropped"):
        StageRun("solving").require_rows("demonstrations")


def test_examples_are_limited_and_plain() -> None:
    stage = StageRun("seeds")
    for number in range(9):
        stage.example("seed", problem(f"Question {number}?"))
    stage.example("other", {"a": 1}, limit=1)
    stage.example("other", {"a": 2}, limit=1)
    assert [row["question"] for row in stage.examples["seed"]] == [f"Question {number}?" for number in range(5)]
    assert stage.examples["other"] == [{"a": 1}]


def test_progress_lines_are_throttled_and_the_last_one_always_comes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTORLOOP_PROGRESS", "json")
    stage = StageRun("solving", shard="1/3")
    for done in range(1, 51):
        stage.progress(done, 50)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(PREFIX)]
    reports = [msgspec.json.decode(line.removeprefix(PREFIX)) for line in lines]
    assert [report["done"] for report in reports] == [1, 50]
    assert reports[-1] == {"task": "solving", "shard": "1/3", "done": 50, "total": 50, "unit": "rows"} | {
        name: reports[-1][name] for name in ("rate", "seconds")
    }
