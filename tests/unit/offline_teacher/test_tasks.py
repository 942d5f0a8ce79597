"""What the offline teacher replies, task by task, without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import InputError
from components.core.records import Problem, problem_id, write_records
from components.grading.answers import is_correct
from components.offline_teacher.answer_key import AnswerKey
from components.offline_teacher.knowledge import Knowledge
from components.offline_teacher.options import OfflineTeacherOptions
from components.offline_teacher.protocol import TASKS, ChatRequest, sections_of, task_of
from components.offline_teacher.sloppy import sloppy
from components.offline_teacher.tasks import reply
from components.teacher.prompts import load_prompt, sections
from components.word_problems.problems import WordProblem, first_wrong_step, generate_many, noisy_solution, parse, solution_text

OWN = "Ana has 3 boxes of 4 pens. Then she finds 5 more. How many pens does Ana have now?"
FOREIGN = "A bakery with 7 ovens bakes 20 loaves per oven and burns a tenth of them. How many good loaves are there?"
KEY = AnswerKey(
    [
        Problem(
            id="k",
            source="key",
            split="train",
            question=FOREIGN,
            answer="126",
            solution="7 * 20 = 140 loaves, 126 are good.",
            licence="MIT",
        )
    ]
)


def knowledge(**options: Any) -> Knowledge:
    return Knowledge(OfflineTeacherOptions(**options), KEY)


def request(task: str, *, temperature: float = 0.0, seed: int = 0, **parts: str) -> ChatRequest:
    messages = load_prompt(task).messages(sections(**parts)) if parts else [{"role": "user", "content": f"Task: {task}"}]
    return msgspec.convert({"messages": messages, "temperature": temperature, "seed": seed}, ChatRequest)


def ask(task: str, *, temperature: float = 0.0, seed: int = 0, known: Knowledge | None = None, **parts: str) -> str:
    return reply(request(task, temperature=temperature, seed=seed, **parts), known or knowledge())


@pytest.fixture(scope="module")
def problems() -> list[WordProblem]:
    return generate_many(21, 150)


@pytest.mark.parametrize("task", [name for name in TASKS if name != "generate"])
def test_our_prompts_are_recognised_and_their_examples_are_not_taken_for_the_request(task: str) -> None:
    made = request(task, problem=OWN)
    assert task_of(made) == task
    assert sections_of(made, task) == {"problem": OWN}


def test_solve_own_problem() -> None:
    assert ask("solve", problem=OWN) == "First 3 * 4 = 12. So 12 + 5 = 17. #### 17"


def test_solve_gets_every_problem_right_and_samples_vary_the_wording_only(problems: list[WordProblem]) -> None:
    for problem in problems:
        texts = {ask("solve", temperature=0.7, seed=seed, problem=problem.question) for seed in range(6)}
        assert all(is_correct(str(problem.answer), text).correct for text in texts)
        assert solution_text(problem) in texts
        assert ask("solve", temperature=0.0, seed=3, problem=problem.question) == solution_text(problem)
    assert len(texts) > 1


def test_solve_by_the_key_and_refusal() -> None:
    assert ask("solve", problem=f"  {FOREIGN.upper()} ") == "7 * 20 = 140 loaves, 126 are good.\n#### 126"
    refusal = ask("solve", problem="How deep is the sea?")
    assert "####" not in refusal
    assert not re.search(r"\d", refusal)


def test_error_rate_is_met_and_repeats(problems: list[WordProblem]) -> None:
    known = knowledge(error_rate=0.3)
    first = [ask("solve", known=known, problem=problem.question) for problem in problems]
    assert first == [ask("solve", known=known, problem=problem.question) for problem in problems]
    wrong = sum(not is_correct(str(p.answer), text).correct for p, text in zip(problems, first, strict=True))
    assert 0.18 < wrong / len(problems) < 0.42
    assert ask("solve", known=knowledge(error_rate=1.0), problem=FOREIGN).endswith("#### 127")


def test_ask_me_anything(problems: list[WordProblem]) -> None:
    for problem in problems:
        text = ask("ask_me_anything", problem=problem.question, answer=str(problem.answer))
        blocks = text.split("\n\n")
        for block in blocks:
            target, question = block.split("\n")
            assert target.startswith("Target: the ") or target.startswith("Target: how ")
            made = parse(question.removeprefix("Question: "))
            assert made is not None
            assert str(problem.answer) in question
    assert "Target:" not in ask("ask_me_anything", problem=FOREIGN, answer="126")


def test_suggest_then_edit_makes_another_problem_that_can_be_solved(problems: list[WordProblem]) -> None:
    harder = 0
    for problem in problems:
        suggestions = ask("suggest", objective="raise the difficulty", problem=problem.question)
        assert re.fullmatch(r"(\d\. [A-Z][^\n]+\.(\n|$))+", suggestions)
        text = ask("edit", objective="raise the difficulty", problem=problem.question, suggestions=suggestions)
        assert text.startswith("Problem: ")
        made = parse(text.removeprefix("Problem: "))
        assert made is not None
        assert made.question != problem.question
        harder += len(made.steps) > len(problem.steps)
    assert harder > 0.2 * len(problems)
    assert not re.search(r"\d", ask("suggest", problem=FOREIGN))
    assert "Problem:" not in ask("edit", problem=FOREIGN, suggestions="1. Add a step.")


@pytest.mark.parametrize(
    ("suggestion", "holds"),
    [
        ("1. Let one more event happen afterwards.", lambda new: len(new.steps) == 2),
        ("- Hide the number of pens in a box instead.", lambda new: "some" in new.question),
        ("Use bigger numbers", lambda new: new.answer > 12),
    ],
)
def test_edit_follows_anybodys_words(suggestion: str, holds: Any) -> None:
    text = ask("edit", problem="Ana has 3 boxes of 4 pens. How many pens does Ana have now?", suggestions=suggestion)
    made = parse(text.removeprefix("Problem: "))
    assert made is not None
    assert holds(made)


def test_agents_messages_come_as_named_user_messages() -> None:
    """The Editor sees the task first and the Suggester's list afterwards, without any label."""
    system = load_prompt("edit").text
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "name": "user", "content": f"Objective: harder\n\nProblem: {FOREIGN}"},
        {"role": "user", "name": "user", "content": f"Problem: {OWN}"},
        {"role": "user", "name": "suggester", "content": [{"type": "text", "text": "1. Swap the known and the asked.\n2. Hide a number."}]},
    ]
    text = reply(msgspec.convert({"messages": messages}, ChatRequest), knowledge())
    made = parse(text.removeprefix("Problem: "))
    assert made is not None
    assert "some" in made.question


@pytest.mark.parametrize(
    ("reference", "student", "verdict"),
    [
        ("17", "First 3 * 4 = 12. So 12 + 5 = 17. #### 17", "Correct"),
        ("17", "So it is 18. #### 18", "Incorrect"),
        ("1,200", "That makes $1200.00 in all.\nAnswer: 1200", "Correct"),
        ("3.5", "The answer is 7/2.", "Correct"),
        ("First 2 + 2 = 4. #### 4", "4", "Correct"),
        ("17", "", "Incorrect"),
        ("17", "I do not know.", "Incorrect"),
    ],
)
def test_judge(reference: str, student: str, verdict: str) -> None:
    lines = ask("judge", problem=OWN, reference_answer=reference, students_answer=student).split("\n")
    assert [line.split(":")[0] for line in lines] == ["Reference", "Student", "Verdict"]
    assert lines[2] == f"Verdict: {verdict}"


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (OWN, "yes"),
        (FOREIGN, "yes"),
        ("Ana has 3 pens. She gives away 5. How many pens does Ana have now?", "no"),
        ("Ana has 3 pens.", "no"),
    ],
)
def test_solvable(problem: str, answer: str) -> None:
    assert ask("solvable", problem=problem).startswith(f"Solvable: {answer}\nReason: ")


def test_explain_finds_the_first_wrong_step(problems: list[WordProblem]) -> None:
    chance = knowledge().chance("test")
    for problem in problems:
        solution = noisy_solution(problem, chance)
        lines = ask("explain", problem=problem.question, solution=solution).split("\n")
        verdicts = [line.split()[-1] for line in lines]
        assert [line.split(":")[0] for line in lines] == [f"Step {number}" for number in range(1, len(problem.steps) + 1)]
        assert set(verdicts) <= {"Correct", "Incorrect"}
        wrong = first_wrong_step(problem, solution)
        assert (verdicts.index("Incorrect") + 1 if "Incorrect" in verdicts else None) == wrong


@pytest.mark.parametrize(
    ("solution", "verdicts"),
    [
        ("The ovens bake 7 * 20 = 140 loaves.\nOf these 140 - 14 = 126 are good.\n#### 126", "CC"),
        ("The ovens bake 7 * 20 = 130 loaves.\nOf these 130 - 14 = 116 are good.\n#### 116", "IC"),
        ("Step 1: 7 * 20 = 140.\nStep 2: 140 / 10 = 14.\n#### 14", "CI"),
        ("7 * 20 - 1,4 = 1", "I"),
        ("10 / 3 = 3.33\nThen 2 * 3 + 4 * 2 = 14, 1/0 = 5\n#### 126", "CI"),
    ],
)
def test_explain_with_a_key_checks_arithmetic_and_answer(solution: str, verdicts: str) -> None:
    lines = ask("explain", problem=FOREIGN, solution=solution, reference_answer="126").split("\n")
    assert "".join(line.split()[-1][0] for line in lines) == verdicts


def test_generate_and_plain_chat() -> None:
    assert parse(ask("generate").removeprefix("Problem: ")) is not None
    chat = msgspec.convert({"messages": [{"role": "user", "content": f"Question: {OWN}\nAnswer:"}]}, ChatRequest)
    assert reply(chat, knowledge()).endswith("#### 17")
    assert "####" not in reply(msgspec.convert({"messages": [{"role": "user", "content": "Hello!"}]}, ChatRequest), knowledge())


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TASKS), st.text(max_size=200), st.text(max_size=200))
def test_no_text_breaks_a_task(task: str, one: str, two: str) -> None:
    body = f"Problem: {one}\nSolution: {two}\nReference answer: {one}\nStudent's answer:\n{two}\nSuggestions: {two}"
    messages = [{"role": "system", "content": f"Task: {task}"}, {"role": "user", "content": body}]
    made = msgspec.convert({"messages": messages}, ChatRequest)
    text = reply(made, knowledge())
    assert text
    assert sloppy(text, knowledge().chance(one))


def test_answer_key_file(tmp_path: Path) -> None:
    path = tmp_path / "key.jsonl"
    rows = [
        Problem(id=problem_id("How many?"), source="s", split="train", question="How many?", answer="4", licence="MIT"),
        Problem(id=problem_id("How much?"), source="s", split="train", question="How much?", licence="MIT"),
    ]
    write_records(path, rows)
    key = AnswerKey.load([path])
    assert len(key) == 1
    entry = key.find("how  MANY")
    assert entry is not None
    assert entry.solution == "#### 4"
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(InputError, match="line 3"):
        AnswerKey.load([path])


def test_answer_key_serves_a_real_set(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k" / "train.jsonl").read_text().splitlines()[:500]
    rows = [msgspec.json.decode(line, type=dict[str, str]) for line in lines]
    golds = [row["answer"].split("####")[1].strip() for row in rows]
    key = AnswerKey(
        Problem(
            id=problem_id(row["question"]),
            source="gsm8k",
            split="train",
            question=row["question"],
            answer=gold,
            solution=row["answer"],
            licence="MIT",
        )
        for row, gold in zip(rows, golds, strict=True)
    )
    known = Knowledge(OfflineTeacherOptions(), key)
    doubted = 0
    for row, gold in zip(rows, golds, strict=True):
        solution = ask("solve", known=known, problem=row["question"])
        assert solution == row["answer"]
        verdict = ask("judge", problem=row["question"], reference_answer=gold, students_answer=solution)
        assert verdict.endswith("Verdict: Correct"), verdict
        doubted += "Incorrect" in ask("explain", known=known, problem=row["question"], solution=solution)
    # The set itself holds a few slips of arithmetic.
    assert doubted <= 0.01 * len(rows)
