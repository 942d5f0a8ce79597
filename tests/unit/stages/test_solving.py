"""Solving: which of the teacher's solutions become demonstrations, and what the teacher's error rate is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import EmptyOutputError
from components.core.records import Demonstration, Problem, problem_id, read_records, row_id, write_records
from components.core.stage import StageRun
from components.offline_teacher.background import BackgroundTeacher, start_background
from components.solving.options import SolvingOptions
from components.solving.selection import Solution, select
from components.solving.stage import MIN_PROBLEMS, run
from components.teacher.options import TeacherOptions
from components.teacher.prompts import load_prompt
from components.word_problems.problems import generate_many
from tests.support.ports import NOBODY
from tests.support.scripted_teacher import Answer, Body, completion, scripted_teacher


@pytest.fixture
def offline() -> Iterator[BackgroundTeacher]:
    with start_background() as teacher:
        yield teacher


def row(question: str, answer: str | None = None, **more: Any) -> Problem:
    return Problem(
        **{
            "id": problem_id(question),
            "source": "builtin",
            "split": "train",
            "question": question,
            "answer": answer,
            "licence": "CC0",
            **more,
        }
    )


def solve(folder: Path, problems: list[Problem], url: str, **more: Any) -> tuple[list[Demonstration], StageRun]:
    source, target = folder / "problems.jsonl", folder / "demonstrations.jsonl"
    write_records(source, problems)
    teacher = TeacherOptions(base_url=url, model="m", backoff_s=0.01, max_backoff_s=0.05, concurrency=8)
    stage = StageRun("solving")
    run(source, teacher, SolvingOptions(**more), str(folder / "responses"), target, stage)
    return list(read_records(target, Demonstration)), stage


QUESTION = "Tom has 3 apples and buys 4 more. How many has he?"


@pytest.mark.parametrize(
    ("answers", "options", "kept", "dropped"),
    [
        (["#### 7"], {}, [0], []),
        (["Seven of them, I think so."], {}, [], ["no_answer"]),
        (["#### 7", "#### 8"], {"n": 2}, [0, 1], []),
        (["#### 7", "#### 7"], {"n": 2}, [0], ["duplicate_solution"]),
        (["a #### 7", "b #### 8", "c #### 7"], {"n": 3, "majority_vote": True}, [0, 2], ["outvoted"]),
        (["a #### 7", "b #### 7.0", "c #### $7", "d #### 8", "e #### 8"], {"n": 5, "majority_vote": True}, [0, 1, 2], ["outvoted"] * 2),
        (["a #### 0.5", "b #### 1/2", "c #### 3"], {"n": 3, "majority_vote": True}, [0, 1], ["outvoted"]),
        (["a #### 7", "b #### 8"], {"n": 2, "majority_vote": True}, [], ["vote_tied"] * 2),
        (["a #### 7", "b #### 8", "c #### 7", "d #### 8"], {"n": 4, "majority_vote": True}, [], ["vote_tied"] * 4),
        (["a #### 7", "I think so."], {"n": 2, "majority_vote": True}, [0], ["no_answer"]),
        (["none", "none at all"], {"n": 2, "majority_vote": True}, [], ["no_answer"] * 2),
        (["x" * 50 + " #### 7", "#### 7"], {"n": 2, "max_solution_chars": 20}, [1], ["too_long"]),
        (["a #### 7"], {"majority_vote": True}, [0], []),
    ],
)
def test_which_solutions_are_kept_without_a_gold_answer(
    answers: list[str], options: dict[str, Any], kept: list[int], dropped: list[str]
) -> None:
    selection = select(row(QUESTION), [Solution(number, text) for number, text in enumerate(answers)], SolvingOptions(**options))
    assert [solution.sample for solution, _ in selection.kept] == kept
    assert sorted(selection.dropped) == sorted(dropped)
    assert selection.checked == 0


@pytest.mark.parametrize(
    ("gold", "alternatives", "answers", "options", "kept", "dropped", "checked", "wrong"),
    [
        ("7", [], ["#### 7"], {}, [0], [], 1, 0),
        ("7", [], ["#### 8"], {}, [], ["not_gold"], 1, 1),
        ("7", [], ["#### 8"], {"gold_filter": False}, [0], [], 1, 1),
        ("1,200", [], ["#### $1200.00"], {}, [0], [], 1, 0),
        ("7", [], ["a #### 8", "b #### 8", "c #### 7"], {"n": 3, "majority_vote": True}, [2], ["not_gold"] * 2, 3, 2),
        ("12", ["B"], ["The answer is (B)."], {}, [0], [], 1, 0),
        ("an apple tree", [], ["#### a pear tree"], {}, [], ["gold_undecided"], 0, 0),
        ("an apple tree", [], ["#### a pear tree"], {"gold_filter": False}, [0], [], 0, 0),
    ],
)
def test_a_gold_answer_decides(
    gold: str,
    alternatives: list[str],
    answers: list[str],
    options: dict[str, Any],
    kept: list[int],
    dropped: list[str],
    checked: int,
    wrong: int,
) -> None:
    problem = row(QUESTION, gold, alternatives=alternatives)
    selection = select(problem, [Solution(number, text) for number, text in enumerate(answers)], SolvingOptions(**options))
    assert [solution.sample for solution, _ in selection.kept] == kept
    assert (selection.dropped, selection.checked, selection.wrong) == (dropped, checked, wrong)


def test_a_cut_off_solution_is_dropped() -> None:
    selection = select(row(QUESTION, "7"), [Solution(0, "3 + 4 = 7", complete=False)], SolvingOptions())
    assert (selection.kept, selection.dropped) == ([], ["too_long"])


def test_demonstrations_carry_problem_answer_and_maker(tmp_path: Path, offline: BackgroundTeacher) -> None:
    problems = [
        row(item.question, str(item.answer), steps=len(item.steps), method="ask_me_anything", parents=["0123456789abcdef"])
        for item in generate_many(3, 10)
    ]
    rows, stage = solve(tmp_path, problems, offline.url)
    assert [item.problem_id for item in rows] == [problem.id for problem in problems]
    for item, problem in zip(rows, problems, strict=True):
        assert item.answer == problem.answer
        assert item.solution.endswith(f"#### {problem.answer}")
        assert item.id == row_id(problem.id, item.solution)
        assert (item.maker, item.prompt, item.sample) == ("m", load_prompt("solve").version, 0)
        assert (item.source, item.licence, item.method, item.parents) == ("builtin", "CC0", "ask_me_anything", problem.parents)
        assert item.steps == problem.steps
    assert (stage.rows_in, stage.rows_kept, stage.dropped) == (10, 10, {})
    assert (stage.counts["teacher_checked"], stage.counts["teacher_error_rate"]) == (10, 0)
    assert len(stage.examples["demonstration"]) == 5


def test_the_teachers_error_rate_is_measured(tmp_path: Path) -> None:
    problems = [row(f"Tom has {number} apples. How many has he?", str(number)) for number in range(20)]
    wrong = {problem.question for problem in problems[:5]}

    def script(body: Body) -> str:
        question = body["messages"][1]["content"].removeprefix("Problem: ")
        return "#### 999" if question in wrong else f"#### {question.split()[2]}"

    with scripted_teacher(script) as server:
        rows, stage = solve(tmp_path, problems, server.url)
    assert len(rows) == 15
    assert stage.dropped == {"not_gold": 5}
    assert (stage.counts["teacher_checked"], stage.counts["teacher_wrong"], stage.counts["teacher_error_rate"]) == (20, 5, 0.25)


def test_duplicates_are_solved_and_counted_once(tmp_path: Path, offline: BackgroundTeacher) -> None:
    problems = [row(item.question, str(item.answer)) for item in generate_many(4, 15)]
    rows, stage = solve(tmp_path, [*problems, *problems[:5]], offline.url)
    assert [item.problem_id for item in rows] == [problem.id for problem in problems]
    assert (stage.rows_in, stage.dropped["duplicate"]) == (20, 5)
    assert offline.stats()["duplicates"] == 0


def test_several_solutions_of_a_problem(tmp_path: Path) -> None:
    def script(body: Body) -> str:
        return f"way {body['seed']} at {body['temperature']} #### {8 if body['seed'] == 3 else 7}"

    with scripted_teacher(script) as server:
        rows, stage = solve(tmp_path, [row(QUESTION)], server.url, n=4, temperature=0.9, majority_vote=True)
        assert {(body["seed"], body["temperature"]) for body in server.requests} == {(0, 0.0), (1, 0.9), (2, 0.9), (3, 0.9)}
    assert [(item.sample, item.answer) for item in rows] == [(0, "7"), (1, "7"), (2, "7")]
    assert len({item.id for item in rows}) == 3
    assert stage.dropped == {"outvoted": 1}


def test_gold_solutions_are_taken_without_asking(tmp_path: Path) -> None:
    problems = [row(QUESTION, "7", solution="3 + 4 = 7\n#### 7"), row("A second one with 5 pears. How many pears?", "5")]
    with scripted_teacher(lambda _: "#### 5") as server:
        rows, stage = solve(tmp_path, problems, server.url, use_gold_solutions=True)
        assert len(server.requests) == 1
    assert [(item.maker, item.prompt, item.answer) for item in rows] == [("gold", "", "7"), ("m", load_prompt("solve").version, "5")]
    assert rows[0].solution == "3 + 4 = 7\n#### 7"
    assert stage.counts["gold_solutions"] == 1


def test_gold_solutions_alone_need_no_teacher(tmp_path: Path) -> None:
    rows, _ = solve(tmp_path, [row(QUESTION, "7", solution="#### 7")], f"http://{NOBODY}/v1", use_gold_solutions=True)
    assert len(rows) == 1


def test_replies_that_fail_or_are_cut_off_are_counted(tmp_path: Path) -> None:
    replies: dict[str, str | Answer] = {
        "A": Answer(400),
        "B": Answer(body=completion("3 + 4 = 7 #### 7", "length")),
        "C": "Hmm.",
        "D": "#### 7",
    }
    problems = [row(f"{name} has 3 apples and buys 4. How many?") for name in replies]
    with scripted_teacher(lambda body: replies[body["messages"][1]["content"].removeprefix("Problem: ")[0]]) as server:
        rows, stage = solve(tmp_path, problems, server.url)
    assert [item.question[0] for item in rows] == ["D"]
    assert stage.dropped == {"teacher_failed": 1, "too_long": 1, "no_answer": 1}
    assert stage.rows_in == stage.rows_kept + sum(stage.dropped.values())


def test_not_one_solution_of_many_problems_is_an_error_with_the_counts(tmp_path: Path) -> None:
    """Of a few it is chance, which must not end the shards that have some."""
    problems = [row(f"{QUESTION} Day {day}?", "7") for day in range(MIN_PROBLEMS)]
    with scripted_teacher(lambda _: "#### 8") as server:
        rows, stage = solve(tmp_path, problems[1:], server.url)
        assert (rows, stage.dropped) == ([], {"not_gold": MIN_PROBLEMS - 1})
        with pytest.raises(EmptyOutputError, match=rf"{MIN_PROBLEMS} rows in; dropped: {MIN_PROBLEMS} not_gold"):
            solve(tmp_path, problems, server.url)


def test_an_empty_shard_is_no_error(tmp_path: Path) -> None:
    rows, stage = solve(tmp_path, [], f"http://{NOBODY}/v1")
    assert (rows, stage.rows_in) == ([], 0)


def test_stages_that_talk_to_the_teacher_do_not_import_torch() -> None:
    code = (
        "import sys; import components.solving.stage, components.synthesis.stage, components.teacher.preflight\n"
        "assert not {'torch', 'transformers', 'trl', 'kfp'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_edited_and_reordered_rows_cost_only_what_is_new(tmp_path: Path, offline: BackgroundTeacher) -> None:
    problems = [row(item.question, str(item.answer)) for item in generate_many(6, 12)]
    solve(tmp_path, problems[:11], offline.url)
    assert offline.stats()["paid"] == 11
    solve(tmp_path, list(reversed(problems[:11])), offline.url)
    assert offline.stats()["paid"] == 11
    solve(tmp_path, [*problems[:5], problems[11], *problems[6:11]], offline.url)
    assert offline.stats()["paid"] == 12
