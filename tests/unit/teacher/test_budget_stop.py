"""A budget that is spent in the middle of a stage: what was paid for is handed out whole, and a higher limit pays nothing twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.errors import BudgetError, TeacherError
from components.core.ledger.task_records import read_record
from components.core.records import (
    Demonstration,
    JudgedSample,
    Problem,
    Sample,
    StageRecord,
    problem_id,
    read_records,
    write_records,
)
from components.judging.component import judge
from components.offline_teacher.background import BackgroundTeacher, start_background
from components.solving.component import solve
from components.synthesis.component import synthesize
from components.teacher.concurrency import map_concurrently
from components.teacher.prompts import load_prompt, sections
from components.word_problems.problems import generate_many
from tests.support.scripted_teacher import scripted_teacher


@dataclass
class Artifact:
    """What KFP hands to a task."""

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Material:
    """Inputs of the three stages, in a folder of their own."""

    folder: Path

    def problems(self) -> list[Problem]:
        """Problems with and without a gold answer."""
        rows = []
        for number, item in enumerate(generate_many(5, 24)):
            answer = str(item.answer) if number % 2 else None
            rows.append(
                Problem(id=problem_id(item.question), source="builtin", split="train", question=item.question, answer=answer, licence="CC0")
            )
        return rows

    def input(self, name: str, rows: list[Any]) -> Artifact:
        """A file of rows."""
        path = self.folder / f"{name}.jsonl"
        write_records(path, rows)
        return Artifact(str(path))

    def samples(self) -> tuple[list[Sample], list[Demonstration]]:
        """Responses of which the rules decide every other one."""
        samples, demonstrations = [], []
        for number, row in enumerate(self.problems()):
            text = "The answer is 12." if number % 2 else "maybe it is some more than before"
            samples.append(
                Sample(
                    id=f"s{number}", problem_id=row.id, question=row.question, model="M1", sample=0, seed=0, temperature=0.7, top_p=0.95,
                    text=text, tokens=4, finish="stop",
                )
            )  # fmt: skip
            demonstrations.append(
                Demonstration(
                    id=f"d{number}", problem_id=row.id, source="own", question=row.question, solution="#### 12", answer="12",
                    licence="CC0", method="seed", maker="teacher",
                )
            )  # fmt: skip
        return samples, demonstrations


Run = Callable[[Material, dict[str, Any], Artifact], str]
"""One stage as Kubeflow calls it, with the teacher's options and the output; gives the address of its record."""


def run_synthesis(material: Material, teacher: dict[str, Any], output: Artifact) -> str:
    seeds = material.input("seeds", [msgspec.structs.replace(row, answer=row.answer or "1") for row in material.problems()])
    home = str(material.folder)
    return str(synthesize.python_func(seeds, teacher, {}, str(material.folder / "responses"), home, 0, "0/1", output))


def run_solving(material: Material, teacher: dict[str, Any], output: Artifact) -> str:
    problems = material.input("problems", material.problems())
    options = {"n": 3, "majority_vote": True}
    home = str(material.folder)
    return str(solve.python_func(problems, teacher, options, str(material.folder / "responses"), home, 0, "0/1", output))


def run_judging(material: Material, teacher: dict[str, Any], output: Artifact) -> str:
    samples, demonstrations = material.samples()
    inputs = material.input("samples", samples), material.input("train", demonstrations)
    return str(judge.python_func(*inputs, teacher, {}, str(material.folder / "responses"), str(material.folder), 1, "0/1", output))


@dataclass(frozen=True)
class Case:
    """A stage, a limit that it meets half way, what it counts, and how its rows are told apart."""

    run: Run
    limit: int
    unit: str
    output: str
    kind: type[Any]


CASES = {
    "synthesis": Case(run_synthesis, 12_000, "conversations", "problems", Problem),
    "solving": Case(run_solving, 6_000, "solutions", "demonstrations", Demonstration),
    "judging": Case(run_judging, 3_000, "verdicts", "judged", JudgedSample),
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[BackgroundTeacher]:
    monkeypatch.delenv("TUTORLOOP_METRICS_DIR", raising=False)
    with start_background() as teacher:
        yield teacher


def finished(case: Case, folder: Path, url: str, **teacher: Any) -> tuple[list[Any], StageRecord]:
    """Rows and record of a stage, whether or not it ended well."""
    folder.mkdir(exist_ok=True)
    output = Artifact(str(folder / "output.jsonl"))
    options = {"base_url": url, "model": "m", "concurrency": 4.0, **teacher}
    reference = case.run(Material(folder), options, output)
    return list(read_records(Path(output.path), case.kind)), read_record(reference)


@pytest.mark.parametrize("name", CASES)
def test_what_is_paid_for_is_handed_out_and_a_higher_limit_pays_nothing_twice(
    name: str, tmp_path: Path, offline: BackgroundTeacher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    monkeypatch.setenv("TUTORLOOP_RUN", "unlimited")
    whole, _ = finished(case, tmp_path / "unlimited", offline.url)
    paid_by_the_unlimited = offline.stats()["paid"]

    monkeypatch.setenv("TUTORLOOP_RUN", "limited")
    folder = tmp_path / "limited"
    with pytest.raises(SystemExit):
        finished(case, folder, offline.url, max_tokens=float(case.limit))
    error = capsys.readouterr().err
    told = re.search(rf"(\d+) of (\d+) {case.unit} are done, (\d+) are left", error)
    assert told and int(told[1]) + int(told[3]) == int(told[2]) and int(told[1]) > 0 < int(told[3])
    assert "raise the limit and run again" in error
    kept = Path(str(folder)) / "limited" / "unfinished"
    assert f"the outputs so far are in {kept}" in error
    [copy] = kept.rglob(f"{case.output}.jsonl")
    rows = list(read_records(copy, case.kind))
    assert copy.read_bytes() == (folder / "output.jsonl").read_bytes()
    assert 0 < len(rows) < len(whole)
    assert {row.id: row for row in whole} | {row.id: row for row in rows} == {row.id: row for row in whole}, (
        "a row that is not the whole run's"
    )
    record = msgspec.json.decode((copy.parent / "record.json").read_bytes(), type=StageRecord)
    assert record.rows_kept == len(rows)
    assert (record.counts["items_done"], record.counts["items_left"]) == (int(told[1]), int(told[3]))
    assert record.usage is not None and 0 < record.usage.prompt_tokens + record.usage.completion_tokens <= case.limit

    again, record = finished(case, folder, offline.url)
    assert again == whole
    assert record.usage is not None
    # The two folders have a response store each.
    assert offline.stats()["paid"] == 2 * paid_by_the_unlimited
    assert "items_left" not in record.counts


@pytest.mark.parametrize("name", CASES)
def test_a_budget_that_is_spent_from_the_start_gives_what_the_store_has(
    name: str, tmp_path: Path, offline: BackgroundTeacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored costs nothing, wherever among the items it stands."""
    case = CASES[name]
    folder = tmp_path / "a"
    monkeypatch.setenv("TUTORLOOP_RUN", "first")
    whole, _ = finished(case, folder, offline.url)
    paid = offline.stats()["paid"]
    monkeypatch.setenv("TUTORLOOP_RUN", "second")
    again, _ = finished(case, folder, offline.url, max_tokens=1)
    assert again == whole and offline.stats()["paid"] == paid


async def test_every_item_gets_its_turn_when_the_budget_is_spent_but_not_after_another_error() -> None:
    asked: list[int] = []

    async def work(number: int) -> int:
        asked.append(number)
        await asyncio.sleep(0)
        if number in refused:
            raise refused[number]
        return number

    refused: dict[int, Exception] = {number: BudgetError("spent", "raise it") for number in (2, 3, 5)}
    with pytest.raises(BudgetError, match=r"spent; 5 of 8 items are done, 3 are left") as caught:
        await map_concurrently(work, range(8), 2)
    assert caught.value.results == [0, 1, None, None, 4, None, 6, 7] and caught.value.hint == "raise it"
    refused[4] = TeacherError("down")
    asked.clear()
    with pytest.raises(TeacherError, match="down"):
        await map_concurrently(work, range(8), 2)
    assert len(asked) < 8


def test_a_vote_waits_for_all_of_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample of the second problem is paid for and wrong; the two that would outvote it are not asked any more."""
    monkeypatch.setenv("TUTORLOOP_RUN", "vote")
    questions = [f"Tom has {number} apples and gives away 1. How many are left?" for number in (5, 6)]
    rows = [Problem(id=problem_id(text), source="x", split="train", question=text, licence="CC0") for text in questions]
    material = Material(tmp_path)
    answers = ["a #### 4", "b #### 4", "c #### 4", "d #### 9", "e #### 5", "f #### 5"]
    with scripted_teacher(lambda _: answers[len(server.requests) - 1]) as server:
        request = sum(len(message["content"]) for message in load_prompt("solve").messages(sections(problem=questions[0]))) / 4
        output = Artifact(str(tmp_path / "out.jsonl"))
        # A reply is charged 13 tokens; a fifth request would go beyond the limit.
        teacher = {"base_url": server.url, "model": "m", "concurrency": 1, "max_tokens": int(request) + 3 * 13 + 10}
        arguments = [{"n": 3, "majority_vote": True}, str(tmp_path / "responses"), str(tmp_path), 0, "0/1", output]
        with pytest.raises(SystemExit):
            solve.python_func(material.input("problems", rows), teacher, *arguments)
        assert len(server.requests) == 4
    kept = list(read_records(Path(output.path), Demonstration))
    assert [row.question for row in kept] == [questions[0]] * 3
    [unfinished] = tmp_path.rglob("unfinished/*/record.json")
    assert msgspec.json.decode(unfinished.read_bytes(), type=StageRecord).counts["problems_left"] == 1
