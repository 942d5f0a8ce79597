"""Agents' replies as models really write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.synthesis import parsers
from components.synthesis.filters import SeenProblems, question_fault
from components.synthesis.parsers import MAX_CHARS, parse_problem, parse_questions, parse_solvable, parse_suggestions, tidy

TRAYS = "A baker fills some trays with 12 rolls each. There are 48 rolls. How many trays are there?"
ROLLS = "A baker fills 4 trays with the same number of rolls. There are 48 rolls. How many rolls are on a tray?"
BOTH = [("the trays", TRAYS), ("the rolls", ROLLS)]
BARE = [("", TRAYS), ("", ROLLS)]

ASKED = {
    "as wanted": (f"Target: the trays\nQuestion: {TRAYS}\n\nTarget: the rolls\nQuestion: {ROLLS}", BOTH),
    "no empty line between": (f"Target: the trays\nQuestion: {TRAYS}\nTarget: the rolls\nQuestion: {ROLLS}", BOTH),
    "empty lines everywhere": (f"Target: the trays\n\n\nQuestion: {TRAYS}\n\n\nTarget: the rolls\n\n\nQuestion: {ROLLS}", BOTH),
    "windows lines": (f"Target: the trays\r\nQuestion: {TRAYS}\r\nTarget: the rolls\r\nQuestion: {ROLLS}", BOTH),
    "bold labels": (f"**Target:** the trays\n**Question:** {TRAYS}\n\n**Target**: the rolls\n**Question**: {ROLLS}", BOTH),
    "headings": (f"### Target: the trays\n### Question: {TRAYS}\n\n## Target 2: the rolls\n## Question 2: {ROLLS}", BOTH),
    "numbered labels": (f"1. Target: the trays\n   Question: {TRAYS}\n2) Target: the rolls\n   Question: {ROLLS}", BOTH),
    "bullets": (f"- Target: the trays\n- Question: {TRAYS}\n\n* TARGET: the rolls\n* QUESTION: {ROLLS}", BOTH),
    "tags": (f"<target> the trays\n<question> {TRAYS}\n<target> the rolls\n<question> {ROLLS}", BOTH),
    "closed tags": (
        f"<target>the trays</target>\n<question>{TRAYS}</question>\n<target>the rolls</target>\n<question>{ROLLS}</question>",
        BOTH,
    ),
    "one line": (f"Target: the trays. Question: {TRAYS}\nTarget: the rolls. Question: {ROLLS}", BOTH),
    "chatter": (
        f"Sure! Here they are:\n\nTarget: the trays\nQuestion: {TRAYS}\n\nTarget: the rolls\nQuestion: {ROLLS}\n\nHope this helps!",
        BOTH,
    ),
    "fenced": (f"```text\nTarget: the trays\nQuestion: {TRAYS}\n\nTarget: the rolls\nQuestion: {ROLLS}\n```", BOTH),
    "question over lines": (
        f"Target: the trays\nQuestion: {TRAYS.replace('. ', '.' + chr(10))}\nTarget: the rolls\nQuestion: {ROLLS}",
        BOTH,
    ),
    "quotation marks": (f'Target: "the trays"\nQuestion: "{TRAYS}"\nTarget: the rolls\nQuestion: “{ROLLS}”', BOTH),
    "answers added": (
        f"Target: the trays\nQuestion: {TRAYS}\nAnswer: 4\n\nTarget: the rolls\nQuestion: {ROLLS}\nSolution: 48/4 = 12",
        BOTH,
    ),
    "no targets": (f"Question: {TRAYS}\nQuestion: {ROLLS}", BARE),
    "no labels, paragraphs": (f"{TRAYS}\n\n{ROLLS}", BARE),
    "no labels, list": (f"1. {TRAYS}\n2. {ROLLS}", BARE),
    "no labels, headed": (f"the trays\n{TRAYS}\n\nthe rolls\n{ROLLS}", BARE),
    "other labels": (f"Aufgabe 1: {TRAYS}\n\nAufgabe 2: {ROLLS}", BARE),
    "other language": (
        "Ziel: die Bleche\nFrage: Ein Bäcker füllt Bleche mit je 12 Brötchen. Wie viele Bleche braucht er für 48?",
        [("", "Ein Bäcker füllt Bleche mit je 12 Brötchen. Wie viele Bleche braucht er für 48?")],
    ),
    "full-width marks": ("Target：盘子\nQuestion：每盘12个面包,共48个。有多少盘？", [("盘子", "每盘12个面包,共48个。有多少盘？")]),
    "decimal point": ("Question: A rope is 3.5 m long. How long are 2 ropes?", [("", "A rope is 3.5 m long. How long are 2 ropes?")]),
    "target without question": (f"Target: the oven\n\nTarget: the trays\nQuestion: {TRAYS}", [("the trays", TRAYS)]),
    "empty question": (f"Target: the oven\nQuestion:\nTarget: the trays\nQuestion: {TRAYS}", [("the trays", TRAYS)]),
    "refusal": ("I am sorry, but I cannot help with that.", []),
    "nothing": ("", []),
}


@pytest.mark.parametrize("name", ASKED)
def test_questions_are_found(name: str) -> None:
    reply, expected = ASKED[name]
    assert [(item.target, item.question) for item in parse_questions(reply)] == expected


OLD = "A ferry carries 24 cars. How many cars does it carry in 5 trips?"
NEW = "A ferry carries 24 cars a trip, the last of 5 trips half full. How many cars does it carry?"

EDITED = {
    "as wanted": (f"Problem: {NEW}", NEW),
    "next line": (f"Problem:\n{NEW}", NEW),
    "next line after an empty one": (f"**Problem:**\n\n{NEW}", NEW),
    "bold": (f"**Problem:** {NEW}", NEW),
    "heading": (f"### New Problem\n\n{NEW}", NEW),
    "another label": (f"Updated problem: {NEW}", NEW),
    "old one first": (f"Problem: {OLD}\n\nSuggestions:\n1. Half full.\n\nNew problem: {NEW}", NEW),
    "chatter": (f"Certainly! Here is a harder problem.\n\nProblem: {NEW}\n\nI hope this helps!", NEW),
    "chatter that asks": (f"Problem: {NEW}\n\nWould you like another one?", NEW),
    "solution added": (f"Problem: {NEW}\nSolution: 4 * 24 + 12 = 108\n#### 108", NEW),
    "rule": (f"Problem: {NEW}\n---\nThis adds a step.", NEW),
    "two paragraphs": (f"Problem: A ferry crosses a lake.\n\n{NEW}", f"A ferry crosses a lake. {NEW}"),
    "no label": (NEW, NEW),
    "no label, chatter": (f"Here you go:\n\n{NEW}", NEW),
    "quoted": (f'Problem: "{NEW}"', NEW),
    "fenced": (f"```\nProblem: {NEW}\n```", NEW),
    "bullet": (f"• Problem: {NEW}", NEW),
    "instead of a question": ("Problem: Find the sum of 3 and 4.", "Find the sum of 3 and 4."),
    "instead of a question, no label": ("Find the sum of 3 and 4.", "Find the sum of 3 and 4."),
    "empty label": ("Problem:", None),
    "refusal": ("I am sorry, I do not understand this problem.", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize("name", EDITED)
def test_the_edited_problem_is_found(name: str) -> None:
    reply, expected = EDITED[name]
    assert parse_problem(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("1. Add a step.\n2. Use a fraction.", ["Add a step.", "Use a fraction."]),
        ("Sure:\n- **Add a step.**\n* Use a fraction.", ["Add a step.", "Use a fraction."]),
        ("(1) Add a step.\n(2) Use a fraction.", ["Add a step.", "Use a fraction."]),
        ("Add a step.\n\nUse a fraction.", ["Add a step.", "Use a fraction."]),
        ("", []),
    ],
)
def test_suggestions_are_found(reply: str, expected: list[str]) -> None:
    assert parse_suggestions(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Solvable: yes\nReason: all is given.", True),
        ("**Solvable:** No\nReason: a number is missing.", False),
        ("Let me see. 3 + 4 = 7.\n\nSOLVABLE: YES", True),
        ("Yes, it has one answer.", True),
        ("no", False),
        ("Solvable - no", False),
        ("It depends.", None),
        ("Nobody knows.", None),
        ("", None),
    ],
)
def test_the_solvability_verdict_is_found(reply: str, expected: bool | None) -> None:
    assert parse_solvable(reply) is expected


DECORATIONS = st.sampled_from(
    ["Target:", "Question:", "Problem:", "**", "###", "- ", "1. ", "\n", "\n\n", "```", "<question>", '"', ":", "?", "7", "？", "> "]
)
REPLIES = st.lists(st.one_of(st.text(max_size=20), DECORATIONS), max_size=30).map("".join)


@given(REPLIES)
@settings(max_examples=400, deadline=None)
def test_no_reply_breaks_a_parser(reply: str) -> None:
    for item in parse_questions(reply):
        assert item.question
        assert item.question == tidy(item.question)
        assert "\n" not in item.question
    problem = parse_problem(reply)
    assert problem is None or (problem and "\n" not in problem)
    assert all(parse_suggestions(reply))
    assert parse_solvable(reply) in (True, False, None)


QUESTIONS = st.text(st.characters(categories=["Lu", "Ll"]), min_size=3, max_size=30).map(
    lambda word: f"There are 12 {word} here. How many are left?"
)


@given(
    st.lists(QUESTIONS, min_size=1, max_size=5),
    st.sampled_from(["", "**", "### ", "- ", "* ", "> "]),
    st.sampled_from(["\n", "\n\n", "\r\n", "  \n"]),
)
@settings(max_examples=200, deadline=None)
def test_every_labelled_question_comes_back_however_it_is_decorated(questions: list[str], mark: str, end: str) -> None:
    closing = "**" if mark == "**" else ""
    reply = end.join(f"{mark}Target:{closing} x{end}{mark}Question:{closing} {question}" for question in questions)
    assert [item.question for item in parse_questions(reply)] == [tidy(question) for question in questions]


def test_of_several_problems_without_a_label_the_last_is_the_new_one() -> None:
    assert parse_problem(f"You gave me this:\n\n{OLD}\n\nHere it is, harder:\n\n{NEW}") == NEW


def test_of_a_reply_without_end_the_beginning_is_read() -> None:
    late = f"Question: {NEW}"
    assert [item.question for item in parse_questions(f"{late}\n" + "x\n" * MAX_CHARS + late)] == [NEW]
    for parse in (parse_problem, parse_suggestions, parse_solvable):
        assert not parse("\n" * MAX_CHARS + f"Problem: {NEW}\n1. {NEW}\nSolvable: yes"), parse.__name__


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "text",
    [
        "Target: " * 60_000,
        "? 1 " * 100_000,
        "**" * 200_000,
        "\n" * 400_000,
        "Problem:" + " " * 400_000,
        "Question: a\n" + "a\n" * 200_000,
        "1. " * 100_000,
    ],
)
def test_huge_replies_are_read_to_their_end(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser whose work grows with the square of so many characters needs 10^11 steps: it does not come back."""
    monkeypatch.setattr(parsers, "MAX_CHARS", len(text))
    parse_questions(text)
    parse_problem(text)
    parse_suggestions(text)
    parse_solvable(text)


@pytest.mark.parametrize(
    ("question", "fault"),
    [
        ("Tom has 3 apples. How many apples does he have?", None),
        ("Find the sum of 3 and 4.", None),
        ("12 + 7?", "empty"),
        ("", "empty"),
        ("What now?", "empty"),
        ("每盘12个面包,共48个。有多少盘？", None),
        ("Tom has 3 apples. How many are left? How many are gone?", "several_questions"),
        ("Tom has 3 apples. How many are left and how many are gone?", "several_questions"),
        ("Tom has 3 apples. What is the price and what is the change?", "several_questions"),
        ("盘子有多少？面包有多少个？一共12个。", "several_questions"),
        ('Tom asks: "How are you?" He has 3 apples and buys 4. How many has he now?', None),
        ("How many apples and pears does Tom have if he has 3 of each?", None),
        ("Tom has 3 apples. How many are left??", None),
    ],
)
def test_what_cannot_be_a_problem_is_told(question: str, fault: str | None) -> None:
    assert question_fault(question) == fault


def test_duplicates_are_told_whatever_case_and_punctuation() -> None:
    seen = SeenProblems([OLD])
    assert not seen.add(OLD.upper())
    assert seen.add(NEW)
    assert not seen.add(f"  {NEW.rstrip('?')} ")
