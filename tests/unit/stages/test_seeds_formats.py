"""Every adapter against tiny rows of our own in the published format, and against the real files where they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.core.records import Problem, read_records
from components.core.stage import StageRun
from components.seeds import formats
from components.seeds.files import read_rows
from components.seeds.formats import FormatError, number_text, operators, tidy
from components.seeds.options import SeedsOptions, SourceOptions
from components.seeds.splits import named_split
from components.seeds.stage import collect_benchmarks

ASDIV = """<?xml version="1.0" encoding="UTF-8" ?>
<Machine-Reading-Corpus-File>
  <ProblemSet>
    <Problem ID="own-1" Grade="1" Source="own">
      <Body>Nia planted six tulips and three daisies.</Body>
      <Question>How many flowers did she plant?</Question>
      <Solution-Type>Addition</Solution-Type>
      <Answer>9 (flowers)</Answer>
      <Formula>6+3=9</Formula>
    </Problem>
    <Problem ID="own-2" Grade="4" Source="own">
      <Body>A ribbon of 1,200 cm is cut into pieces of 500 cm.</Body>
      <Question>How many pieces are there, and how much is left?</Question>
      <Solution-Type>Algebra</Solution-Type>
      <Answer>2 (pieces); 200 (cm)</Answer>
      <Formula>1200-500-500=200</Formula>
    </Problem>
  </ProblemSet>
</Machine-Reading-Corpus-File>
"""

MAWPS_ROW = {
    "iIndex": 7,
    "sQuestion": " Ola had 12.0 stamps . She gave away 3.5 of them ,  then bought 2 . How many has she now ? ",
    "lEquations": ["X=((12.0-3.5)+2)"],
    "lSolutions": ["10.5"],
    "lAlignments": [8, 30],
}


def parsed(adapter: str, row: dict[str, Any], tmp_path: Path, **options: Any) -> Problem:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    return collected(SourceOptions(adapter=adapter, uri=str(path), split="test", **options), tmp_path)[0]  # type: ignore[arg-type]


def collected(source: SourceOptions, tmp_path: Path) -> list[Problem]:
    output = tmp_path / "problems.jsonl"
    collect_benchmarks(output, SeedsOptions(sources=[source]), 0, StageRun("seeds"))
    return list(read_records(output, Problem))


def test_gsm8k_answer_solution_and_steps(tmp_path: Path) -> None:
    row = {"question": "Q one?", "answer": "He has 40*25 = <<40*25=1000>>1000 g.\n\nThat is <<1000+70000=71000>>71,000 g.\n#### 71,000"}
    problem = parsed("gsm8k", row, tmp_path)
    assert (problem.answer, problem.steps, problem.licence, problem.source) == ("71000", 2, "MIT", "gsm8k")
    assert problem.solution == "He has 40*25 = 1000 g.\nThat is 71,000 g.\n#### 71000"


@pytest.mark.parametrize(
    ("body", "question"),
    [("Lea has 3 pens", "Lea has 3 pens, How many?"), ("Lea has 3 pens.", "Lea has 3 pens. How many?")],
)
def test_svamp_joins_body_and_question(body: str, question: str, tmp_path: Path) -> None:
    row = {"ID": "x", "Body": body, "Question": "How many?", "Equation": "( 3.0 - 1.0 )", "Answer": 2.0, "Type": "Subtraction"}
    problem = parsed("svamp", row, tmp_path)
    assert (problem.question, problem.answer, problem.steps) == (question, "2", 1)


@pytest.mark.parametrize("adapter", ["addsub", "singleeq", "multiarith"])
@pytest.mark.parametrize("solutions", [["10.5"], [10.5], "10.5"])
def test_the_mawps_family(adapter: str, solutions: Any, tmp_path: Path) -> None:
    problem = parsed(adapter, {**MAWPS_ROW, "lSolutions": solutions}, tmp_path)
    assert problem.question == "Ola had 12.0 stamps. She gave away 3.5 of them, then bought 2. How many has she now?"
    assert (problem.answer, problem.steps, problem.licence) == ("10.5", 2, "unstated (MAWPS)")


def test_singleop_has_one_step(tmp_path: Path) -> None:
    problem = parsed("singleop", {"input": "7 and 7?", "target": 14.0}, tmp_path)
    assert (problem.answer, problem.steps) == ("14", 1)


def test_asdiv_xml(tmp_path: Path) -> None:
    (tmp_path / "ASDiv.xml").write_text(ASDIV, encoding="utf-8")
    first, second = collected(SourceOptions(adapter="asdiv", uri=str(tmp_path / "ASDiv.xml")), tmp_path)
    assert first.question == "Nia planted six tulips and three daisies. How many flowers did she plant?"
    assert (first.answer, first.steps, first.licence) == ("9", 1, "CC-BY-NC-4.0")
    assert (second.answer, second.steps) == ("2, 200", 2)


def test_draw_accepts_two_answers_in_either_order(tmp_path: Path) -> None:
    inner = {"sQuestion": "Two numbers sum to 34 . Which ?", "lSolutions": [12.0, 2.14285714286], "iIndex": 1}
    for row in ({"original": inner, "set": "draw_test"}, inner):
        problem = parsed("draw", row, tmp_path)
        assert (problem.answer, problem.alternatives) == ("12, 2.14285714286", ["2.14285714286, 12"])
        assert problem.question == "Two numbers sum to 34. Which?"


@pytest.mark.parametrize(
    "listing", ["a ) 1,200 , b ) 3 : 2 , c ) x , y , d ) none , e ) 5", "['a ) 1,200', 'b ) 3 : 2', 'c ) x , y', 'd ) none', 'e ) 5']"]
)
@pytest.mark.parametrize(("letter", "answer"), [("a", "1200"), ("b", "3 : 2"), ("c", "x , y"), ("e", "5")])
def test_mathqa_options(listing: str, letter: str, answer: str, tmp_path: Path) -> None:
    row = {
        "Problem": "what ?",
        "Rationale": '"so it is"',
        "options": listing,
        "correct": letter,
        "linear_formula": "add(n0,n1)|divide(#0,n2)|",
    }
    problem = parsed("mathqa", row, tmp_path)
    assert (problem.question, problem.answer, problem.steps, problem.alternatives) == ("what?", answer, 2, [])
    assert problem.solution == f"so it is\n#### {answer}"


def test_shown_choices_make_the_letter_an_answer(tmp_path: Path) -> None:
    row = {"question": "Which?", "options": ["A)$61", "B) 7", "C)8", "D)9", "E)10"], "rationale": "Thus", "correct": "B"}
    problem = parsed("aqua", row, tmp_path, choices=True)
    assert problem.question == "Which?\nOptions: A) $61, B) 7, C) 8, D) 9, E) 10"
    assert (problem.answer, problem.alternatives) == ("7", ["B"])


def test_jsonl_maps_fields_and_reaches_into_objects(tmp_path: Path) -> None:
    row = {"text": {"body": "How far?"}, "gold": 3.0, "forms": ["three", 3], "n": 2, "terms": "CC0-1.0"}
    fields = {"question": "text.body", "answer": "gold", "alternatives": "forms", "steps": "n", "licence": "terms"}
    problem = parsed("jsonl", row, tmp_path, fields=fields, name="mine")
    assert (problem.source, problem.question, problem.answer, problem.alternatives) == ("mine", "How far?", "3", ["three", "3"])
    assert (problem.steps, problem.licence, problem.solution) == (2, "CC0-1.0", None)


@pytest.mark.parametrize(
    ("adapter", "row", "reason"),
    [
        ("gsm8k", {"question": "Q?", "answer": "no mark"}, "no '####'"),
        ("gsm8k", {"question": "Q?", "answer": "x\n####  "}, "the answer is empty"),
        ("gsm8k", {"question": " ", "answer": "#### 1"}, "'question' is empty"),
        ("gsm8k", {"prompt": "Q?"}, r"no field 'answer' \(the row has: prompt\)"),
        ("svamp", {"Body": "b", "Question": "q", "Equation": "1", "Answer": None}, "no field 'Answer'"),
        ("addsub", {**MAWPS_ROW, "lSolutions": []}, "list of answers is empty"),
        ("addsub", {**MAWPS_ROW, "lSolutions": [[1]]}, "should be a number or text, found list"),
        ("draw", {"original": "x"}, "'original' should be an object"),
        ("mathqa", {"problem": "p", "options": "a ) 1 , b ) 2", "correct": "c", "rationale": "r"}, "'c' is not among the options A, B"),
        ("aqua", {"question": "q", "options": ["1", "2"], "correct": "A", "rationale": "r"}, "begin with a letter"),
        ("jsonl", {"question": "q", "answer": True}, "found bool"),
        ("jsonl", {"question": "q", "answer": 1, "steps": "two"}, "not a whole number"),
    ],
)
def test_rows_that_are_not_in_the_format(adapter: str, row: dict[str, Any], reason: str) -> None:
    parsers: dict[str, Callable[[dict[str, Any]], formats.Draft]] = {
        "gsm8k": formats.gsm8k,
        "svamp": formats.svamp,
        "addsub": formats.mawps,
        "draw": formats.draw,
        "mathqa": lambda row: formats.mathqa(row, False),
        "aqua": lambda row: formats.aqua(row, False),
        "jsonl": lambda row: formats.generic(row, {}),
    }
    with pytest.raises(FormatError, match=reason):
        parsers[adapter](row)


@pytest.mark.parametrize(
    ("value", "text"),
    [(51.0, "51"), (9.43, "9.43"), (-3, "-3"), ("70,000", "70000"), ("3.00", "3"), (" 1/2 ", "1/2"), ("x, y", "x, y"), ("1,23", "1,23")],
)
def test_short_answers(value: Any, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [1], "", "  "])
def test_no_short_answer(value: Any) -> None:
    with pytest.raises(FormatError):
        number_text(value)


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_number_keeps_its_value_as_text(value: float) -> None:
    assert float(number_text(value)) == float(value)


@pytest.mark.parametrize(
    ("equation", "steps"),
    [("X = 70 - 27", 1), ("( 76.0 - 25.0 )", 1), ("X=(36.0*(4.0+-2))", 2), ("7+2=9", 1), ("5", None), ("-5", None), ("", None)],
)
def test_operators_are_counted(equation: str, steps: int | None) -> None:
    assert operators(equation) == steps


@given(st.text(alphabet="ab .,?!5\n", max_size=40))
def test_tidy_changes_only_white_space(text: str) -> None:
    assert re.sub(r"\s", "", tidy(text)) == re.sub(r"\s", "", text)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("draw_dev.orig.jsonl", "dev"),
        ("train.jsonl", "train"),
        ("VALIDATION.json", "dev"),
        ("test_socratic.jsonl", "test"),
        ("latest.jsonl", ""),
        ("SVAMP.json", ""),
        ("train_and_test.jsonl", ""),
    ],
)
def test_split_in_a_name(name: str, split: str) -> None:
    assert named_split(name) == split


@pytest.mark.parametrize(
    ("adapter", "folder", "split", "rows", "distinct"),
    [
        ("gsm8k", "gsm8k", "test", 1319, 1319),
        ("svamp", "svamp", "test", 1000, 1000),
        ("addsub", "addsub", "test", 395, 395),
        ("singleop", "singleop", "test", 562, 531),
        ("draw", "draw", "dev", 200, 199),
        ("draw", "draw", "test", 200, 200),
        ("mathqa", "mathqa", "test", 1000, 1000),
        ("aqua", "aqua", "dev", 254, 254),
        ("aqua", "aqua", "test", 254, 254),
    ],
)
def test_real_sets_are_read_whole(
    adapter: str, folder: str, split: str, rows: int, distinct: int, shared_data: Path, tmp_path: Path
) -> None:
    source = SourceOptions(adapter=adapter, uri=str(shared_data / folder), split=split)  # type: ignore[arg-type]
    stage = StageRun("seeds")
    collect_benchmarks(tmp_path / "out.jsonl", SeedsOptions(sources=[source]), 0, stage)
    problems = list(read_records(tmp_path / "out.jsonl", Problem))
    assert (stage.rows_in, len(problems), stage.rows_kept) == (rows, distinct, distinct)
    assert sum(stage.dropped.values()) == rows - distinct
    assert all(problem.split == split and problem.source == adapter and problem.answer for problem in problems)


@pytest.mark.parametrize(
    ("adapter", "folder", "pattern"),
    [
        ("gsm8k", "gsm8k", r"-?\d+"),
        ("svamp", "svamp", r"\d+"),
        ("addsub", "addsub", r"\d+(\.\d+)?"),
        ("singleop", "singleop", r"\d+(\.\d+)?"),
        ("draw", "draw", r"-?\d+(\.\d+)?(, -?\d+(\.\d+)?)?"),
    ],
)
def test_real_answers_have_their_form(adapter: str, folder: str, pattern: str, shared_data: Path, tmp_path: Path) -> None:
    source = SourceOptions(adapter=adapter, uri=str(shared_data / folder), split="test")  # type: ignore[arg-type]
    for problem in collected(source, tmp_path):
        assert re.fullmatch(pattern, problem.answer or ""), problem.answer
        assert "<<" not in (problem.solution or "")


def test_gsm8k_answers_agree_with_the_release_that_splits_them_out(shared_data: Path, tmp_path: Path) -> None:
    ours = collected(SourceOptions(adapter="gsm8k", uri=str(shared_data / "gsm8k")), tmp_path)
    theirs = [row.data for row in read_rows(shared_data / "gsm8k_xwin" / "gsm8k.json")]
    assert [problem.answer for problem in ours] == [number_text(row["answer"]) for row in theirs]
    assert [len(problem.solution.splitlines()) - 1 for problem in ours if problem.solution] == [problem.steps for problem in ours]


def test_any_set_can_be_read_as_json_lines(shared_data: Path, tmp_path: Path) -> None:
    source = SourceOptions(
        adapter="jsonl", uri=str(shared_data / "math500"), split="test", name="math500", licence="MIT", fields={"question": "problem"}
    )
    problems = collected(source, tmp_path)
    assert len(problems) == 500
    assert all("\\boxed" in (problem.solution or "") for problem in problems)
