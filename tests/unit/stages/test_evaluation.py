"""Evaluation: the measures against known values, the stage on a real tiny model."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EmptyOutputError
from components.core.options import parse_options
from components.core.records import ProblemResult, Sample, read_records, write_records
from components.core.stage import StageRun
from components.core.store import open_store
from components.evaluation.options import EvaluationOptions
from components.evaluation.scoring import score
from components.evaluation.stage import grade, run, run_champion
from tests.support.kills import Killed
from tests.support.student_material import benchmark, make_model

BASICS: dict[str, Any] = {"max_new_tokens": 12, "samples_per_problem": 3, "chunk_size": 8}


def result(index: int, correct: bool, steps: int | None, pool: list[bool] = []) -> ProblemResult:  # noqa: B006
    return ProblemResult(
        model="M1", benchmark="quiz", problem_id=f"p{index}", source="quiz" if index % 2 else "extra", split="test", steps=steps,
        question="?", reference="1", response="", answer="1" if correct else "2", correct=correct, tokens=4 + index,
        sample_answers=["1" if good else "2" for good in pool], sample_correct=pool,
    )  # fmt: skip


def test_a_score_by_source_and_by_steps() -> None:
    rows = [
        result(0, True, 1, [True, True]),
        result(1, False, 1, [False, True]),
        result(2, True, 2, [False, False]),
        result(3, True, None, [True, True]),
    ]
    made = score("M1", "quiz", rows, 5)
    assert (made.n, made.pass_at_1, made.samples, made.mean_tokens) == (4, 0.75, 2, 5.5)
    assert made.low < 0.75 < made.high
    assert made.pass_at_n == {"1": 0.625, "2": 0.75}
    assert made.pass_ratio_at_n == 0.625
    assert made.by_source == {"extra": {"n": 2.0, "pass_at_1": 1.0}, "quiz": {"n": 2.0, "pass_at_1": 0.5}}
    assert made.by_steps == {"1": {"n": 2.0, "pass_at_1": 0.5}, "2": {"n": 1.0, "pass_at_1": 1.0}}
    greedy = score("M1", "quiz", [result(1, True, 1)], 5)
    assert (greedy.samples, greedy.pass_at_n, greedy.pass_ratio_at_n, greedy.majority_at_n) == (0, {}, None, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    write_records(folder / "benchmarks.jsonl", [*benchmark(9), *benchmark(5, split="dev"), *benchmark(3, source="other")])
    make_model(folder / "published" / "versions" / "v1" / "model")
    return folder


def evaluate(folder: Path, benchmarks: str = "benchmarks.jsonl", **options: Any) -> tuple[list[ProblemResult], StageRun]:
    stage = StageRun("evaluation")
    parsed = parse_options(EvaluationOptions, {**BASICS, **options}, "evaluation")
    model, output = str(folder / "published" / "versions" / "v1" / "model"), folder / "results.jsonl"
    run(model, str(folder / benchmarks), parsed, stage, name="M7", checkpoints=str(folder / "work"), seed=1, output=str(output))
    return list(read_records(output, ProblemResult)), stage


def test_every_benchmark_gets_its_score(folder: Path) -> None:
    rows, stage = evaluate(folder)
    assert [(found.benchmark, found.n, found.samples) for found in stage.scores] == [("other", 3, 3), ("quiz", 9, 3), ("quiz-dev", 5, 0)]
    assert {row.model for row in rows} == {"M7"}
    assert all(len(row.sample_correct) == (0 if row.split == "dev" else 3) for row in rows)
    assert all(row.correct == (row.answer == row.reference) for row in rows)
    [quiz] = [found for found in stage.scores if found.benchmark == "quiz"]
    assert quiz.pass_at_1 == sum(row.correct for row in rows if row.benchmark == "quiz") / 9
    assert (stage.rows_in, stage.rows_kept) == (17, 17)
    assert stage.latest["tokens_per_second"] > 0
    assert len(stage.examples.get("result_wrong", [])) + len(stage.examples.get("result_right", [])) >= 5
    assert not list(open_store(str(folder / "work")).list())
    assert evaluate(folder, batch_size=5, chunk_size=3)[0] == sorted_like(rows, folder)


def test_finished_chunks_go_only_when_the_output_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*arguments: object) -> int:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("components.evaluation.stage.write_records", dying)
        evaluate(folder, samples_per_problem=2)
    rows, stage = evaluate(folder, samples_per_problem=2)
    assert stage.counts["resumed_problems"] == len(rows) > 0


def sorted_like(rows: list[ProblemResult], folder: Path) -> list[ProblemResult]:
    """Rows in the order in which the file holds them now."""
    order = [(row.problem_id, row.benchmark) for row in read_records(folder / "results.jsonl", ProblemResult)]
    return sorted(rows, key=lambda row: order.index((row.problem_id, row.benchmark)))


def test_a_perfect_student_scores_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that reads the answers from a key: every measure must be 1, so marking and bookkeeping are right."""
    from components.student.generation import engines, interface

    key = {row.question: row.answer for row in [*benchmark(9), *benchmark(5, split="dev"), *benchmark(3, source="other")]}

    class Knowing:
        def generate(self, questions: list[str], *, seeds: list[list[int]], **more: Any) -> list[list[interface.Completion]]:
            return [
                [interface.Completion(f"So it is.\n#### {key[q]}", 5, "stop") for _ in row] for q, row in zip(questions, seeds, strict=True)
            ]

        def close(self) -> None: ...

    monkeypatch.setattr(engines, "open_engine", lambda model, options: Knowing())
    _, stage = evaluate(folder)
    for found in stage.scores:
        assert (found.pass_at_1, found.high) == (1, 1)
        assert all(math.isclose(value, 1) for value in [*found.pass_at_n.values(), *found.majority_at_n.values()])
    assert stage.counts["undecided"] == 0


def test_problems_without_answer_are_dropped(folder: Path) -> None:
    import msgspec

    rows = benchmark(4)
    write_records(folder / "some.jsonl", [msgspec.structs.replace(rows[0], answer=None), *rows[1:]])
    _, stage = evaluate(folder, "some.jsonl", samples_per_problem=0)
    assert (stage.dropped, stage.rows_kept) == ({"no_answer": 1}, 3)
    write_records(folder / "none.jsonl", [msgspec.structs.replace(row, answer=None) for row in rows])
    with pytest.raises(EmptyOutputError):
        evaluate(folder, "none.jsonl")


def test_without_a_champion_nothing_is_loaded(folder: Path) -> None:
    code = (
        "import sys; from components.core.stage import StageRun; from components.evaluation.options import EvaluationOptions\n"
        "from components.evaluation.stage import run_champion\n"
        "options, stage = EvaluationOptions(), StageRun('evaluation')\n"
        f"run_champion('nowhere', '', 'nothing', options, stage, checkpoints='', seed=0, output={str(folder / 'no.jsonl')!r})\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert out.stdout.strip() == "[]"
    assert (folder / "no.jsonl").read_bytes() == b""


def test_the_champion_is_evaluated_from_the_model_store(folder: Path) -> None:
    stage, options = StageRun("evaluation"), parse_options(EvaluationOptions, BASICS, "evaluation")
    run_champion(
        str(folder / "published"), "v1", str(folder / "benchmarks.jsonl"), options, stage,
        checkpoints=str(folder / "work"), seed=1, output=str(folder / "champion.jsonl"),
    )  # fmt: skip
    assert {found.model for found in stage.scores} == {"champion"}


def test_an_old_pool_is_marked_again_without_a_model() -> None:
    [problem] = benchmark(1)
    pool = [
        Sample(
            id=f"r{index}", problem_id=problem.id, question=problem.question, model="m", sample=max(index - 1, 0), seed=index,
            temperature=0.7 if index else 0.0, top_p=1.0, text=text, tokens=3, finish=finish, source=problem.source, split=problem.split,
        )
        for index, (text, finish) in enumerate([("#### no", "length"), (f"#### {problem.answer}", "stop"), ("#### 99999", "stop")])
    ]  # fmt: skip
    [outcome] = grade([problem], pool, "M7")
    assert (outcome.result.response, outcome.result.correct, outcome.result.sample_correct) == ("#### no", False, [True, False])
    assert (outcome.cut, outcome.sample_tokens) == (1, 6)
    assert grade([problem], pool[::-1], "M7") == [outcome], "the order of the rows says nothing"
