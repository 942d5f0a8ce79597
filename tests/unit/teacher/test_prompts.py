"""The prompts follow the convention that lets any teacher, ours included, know what is wanted."""

from __future__ import annotations

import re

import pytest

from components.grading.answers import extract_answer
from components.synthesis.parsers import parse_problem, parse_questions, parse_solvable, parse_suggestions
from components.teacher.prompts import FOLDER, load_prompt, sections

NAMES = sorted(path.stem for path in FOLDER.glob("*.md"))


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_names_its_task_and_its_version(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.text.splitlines()[0] == f"Task: {name}"
    assert re.fullmatch(rf"{name}@[0-9a-f]{{8}}", prompt.version)
    assert prompt.messages("u") == [{"role": "system", "content": prompt.text}, {"role": "user", "content": "u"}]


def test_all_prompts_are_there_and_differ() -> None:
    assert NAMES == ["ask_me_anything", "edit", "explain", "judge", "solvable", "solve", "suggest"]
    assert len({load_prompt(name).version.split("@")[1] for name in NAMES}) == len(NAMES)


def example_reply(name: str) -> str:
    """The reply in the prompt's example: what follows the labelled sections after ``Example``."""
    example = load_prompt(name).text.split("\nExample\n", 1)[1].strip()
    return example.split("\n\n", 1)[1]


def test_the_examples_are_what_the_parsers_expect() -> None:
    questions = parse_questions(example_reply("ask_me_anything"))
    assert len(questions) == 4
    assert all(item.target and item.question.endswith("?") for item in questions)
    assert parse_problem(example_reply("edit")).startswith("A ferry carries 24 vehicles")  # type: ignore[union-attr]
    assert len(parse_suggestions(example_reply("suggest"))) == 3
    assert parse_solvable(example_reply("solvable")) is False
    assert extract_answer(example_reply("solve")) == "59"


def test_the_example_of_ask_me_anything_is_arithmetic() -> None:
    """Trays times rolls less what is sold is what is left, in all four questions of the example."""
    reply = example_reply("ask_me_anything")
    for numbers in re.findall(r"Question: (.*)", reply):
        given = set(re.findall(r"\d+", numbers))
        assert given < {"4", "12", "30", "18"}
        assert len(given) == 3
    assert 4 * 12 - 30 == 18


def test_sections_are_labelled() -> None:
    text = sections(problem="One line.", reference_answer="4", students_answer="a\nb")
    assert text == "Problem: One line.\n\nReference answer: 4\n\nStudent's answer:\na\nb"
