"""The published formats of the sets: one function per format from a raw row to question, answer and solution."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OPTIONS_LABEL = "\nOptions: "
"""Goes before the options of a multiple-choice problem where they are shown."""


class FormatError(ValueError):
    """A row is not in the set's format; the text says why."""


@dataclass(frozen=True)
class Draft:
    """What a row says, before it becomes a ``Problem``."""

    question: str
    answer: str | None
    alternatives: tuple[str, ...] = ()
    solution: str | None = None
    steps: int | None = None
    split: str = ""
    licence: str = ""


def field(row: Mapping[str, Any], *names: str) -> Any:
    """The first of the named fields that is there, whatever its case.

    Raises:
        FormatError: None of them is there.
    """
    lowered = {key.lower(): value for key, value in row.items()}
    for name in names:
        if lowered.get(name.lower()) is not None:
            return lowered[name.lower()]
    raise FormatError(f"no field {' or '.join(repr(name) for name in names)} (the row has: {', '.join(row) or 'nothing'})")


def text_field(row: Mapping[str, Any], *names: str) -> str:
    """Like ``field``, for a text that must not be empty."""
    value = field(row, *names)
    if not isinstance(value, str):
        raise FormatError(f"field {names[0]!r} should be text, found {type(value).__name__}")
    if not value.strip():
        raise FormatError(f"field {names[0]!r} is empty")
    return value.strip()


def number_text(value: Any) -> str:
    """A short answer as text: whole floats lose their ``.0``, thousands separators go, other text stays as it is.

    Raises:
        FormatError: Neither text nor a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FormatError(f"the answer should be a number or text, found {type(value).__name__}")
    if isinstance(value, str):
        text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", value.strip())
        if not text:
            raise FormatError("the answer is empty")
        return re.sub(r"\.0+$", "", text) if re.fullmatch(r"-?\d+\.0+", text) else text
    if isinstance(value, float) and not math.isfinite(value):
        raise FormatError(f"the answer {value} is not a finite number")
    return str(int(value)) if float(value).is_integer() else repr(value)


def tidy(text: str) -> str:
    """Undo tokenisation: single spaces, none before a closing punctuation mark."""
    return re.sub(r" +([.,?!])(?=\s|$)", r"\1", " ".join(text.split()))


def operators(equation: str) -> int | None:
    """Number of arithmetic operations on the longer side of an equation; None when there are none."""
    count = max(len(re.findall(r"(?<=[\w.)%])\s*[-+*/]", side)) for side in equation.split("="))
    return count or None


def gsm8k(row: Mapping[str, Any]) -> Draft:
    """``question``, ``answer``: solution lines with calculator annotations, then ``#### <answer>``."""
    worked, mark, final = text_field(row, "answer").rpartition("####")
    if not mark:
        raise FormatError("no '####' before the final answer")
    lines = [line.strip() for line in re.sub(r"<<[^<>]*>>", "", worked).splitlines() if line.strip()]
    answer = number_text(final)
    return Draft(text_field(row, "question"), answer, solution="\n".join([*lines, f"#### {answer}"]), steps=len(lines) or None)


def svamp(row: Mapping[str, Any]) -> Draft:
    """``Body`` (often without an end mark), ``Question``, ``Equation``, ``Answer``."""
    body = text_field(row, "Body")
    joint = " " if body[-1] in ".?!,;:" else ", "
    equation = str(field(row, "Equation"))
    return Draft(body + joint + text_field(row, "Question"), number_text(field(row, "Answer")), steps=operators(equation))


def mawps(row: Mapping[str, Any]) -> Draft:
    """The MAWPS family: ``sQuestion``, ``lEquations``, ``lSolutions``, or a plain question and number in later releases."""
    solutions = field(row, "lSolutions", "target", "final_ans", "answer")
    answer = one_answer(solutions if isinstance(solutions, list) else [solutions])
    equations = next((row[name] for name in ("lEquations", "equation") if row.get(name)), "")
    equation = " ".join(map(str, equations)) if isinstance(equations, list) else str(equations)
    return Draft(tidy(text_field(row, "sQuestion", "input", "question")), answer, steps=operators(equation))


def singleop(row: Mapping[str, Any]) -> Draft:
    """As the MAWPS family; each problem needs one operation, which is what the set is named for."""
    draft = mawps(row)
    return Draft(draft.question, draft.answer, steps=1)


def one_answer(values: list[Any]) -> str:
    """The only answer, or all of them separated by commas.

    Raises:
        FormatError: There is none.
    """
    if not values:
        raise FormatError("the list of answers is empty")
    return ", ".join(number_text(value) for value in values)


def asdiv(row: Mapping[str, Any]) -> Draft:
    """``Body``, ``Question``, ``Answer`` with the unit in brackets (several separated by semicolons), ``Formula``."""
    parts = [re.sub(r"\s*\([^()]*\)", "", part) for part in text_field(row, "Answer").split(";")]
    formula = str(row.get("Formula") or row.get("formula") or "")
    question = f"{text_field(row, 'Body')} {text_field(row, 'Question')}"
    return Draft(question, one_answer(parts), steps=operators(formula))


def draw(row: Mapping[str, Any]) -> Draft:
    """DRAW-1K rows, bare or wrapped in ``original``: one answer, or two in either order."""
    inner = row.get("original", row)
    if not isinstance(inner, Mapping):
        raise FormatError("field 'original' should be an object")
    values = field(inner, "lSolutions")
    if not isinstance(values, list):
        raise FormatError("field 'lSolutions' should be a list")
    reverse = (one_answer(values[::-1]),) if len(values) > 1 else ()
    return Draft(tidy(text_field(inner, "sQuestion")), one_answer(values), reverse, split=str(row.get("set", "")))


def mathqa(row: Mapping[str, Any], choices: bool) -> Draft:
    """``problem``, ``options`` in one string, ``correct`` (a letter), ``rationale``, ``linear_formula``."""
    listing = text_field(row, "options")
    if listing.startswith("["):
        listing = re.sub(r"[\[\]'\"]", "", listing)
    marks = list(re.finditer(r"(?:^|,)\s*([a-e])\s*\)\s*", listing))
    ends = [mark.start() for mark in marks[1:]] + [len(listing)]
    options = {mark[1].upper(): listing[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)}
    formula = row.get("linear_formula")
    steps = len([part for part in formula.split("|") if part.strip()]) if isinstance(formula, str) else None
    rationale = text_field(row, "rationale").strip('"').strip()
    return _multiple_choice(tidy(text_field(row, "problem")), options, text_field(row, "correct"), rationale, steps or None, choices)


def aqua(row: Mapping[str, Any], choices: bool) -> Draft:
    """``question``, ``options`` as a list of ``A)...``, ``correct`` (a letter), ``rationale``."""
    listing = field(row, "options")
    if not isinstance(listing, list) or not all(isinstance(item, str) and re.match(r"\s*[A-E]\)", item) for item in listing):
        raise FormatError("field 'options' should be a list of texts that begin with a letter and a bracket")
    options = {item.strip()[0]: item.strip()[2:].strip() for item in listing}
    return _multiple_choice(text_field(row, "question"), options, text_field(row, "correct"), text_field(row, "rationale"), None, choices)


def _multiple_choice(question: str, options: dict[str, str], letter: str, rationale: str, steps: int | None, choices: bool) -> Draft:
    value = options.get(letter.upper())
    if not value:
        raise FormatError(f"the correct option {letter!r} is not among the options {', '.join(options) or '(none)'}")
    answer = number_text(value)
    shown = question + OPTIONS_LABEL + ", ".join(f"{key}) {text}" for key, text in options.items()) if choices else question
    return Draft(shown, answer, (letter.upper(),) if choices else (), f"{rationale}\n#### {answer}", steps)


def generic(row: Mapping[str, Any], names: Mapping[str, str]) -> Draft:
    """Any object with at least a question, by field names.

    Args:
        row: The row.
        names: Our field names to theirs; what is not named there is looked up under our name and may be missing.
    """

    def lookup(ours: str) -> Any:
        value: Any = row
        for part in names.get(ours, ours).split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None and (ours in names or ours == "question"):
            raise FormatError(f"no field {names.get(ours, ours)!r} for the {ours} (the row has: {', '.join(row) or 'nothing'})")
        return value

    question, answer, others, solution, steps = map(lookup, ("question", "answer", "alternatives", "solution", "steps"))
    if not isinstance(question, str) or not question.strip():
        raise FormatError("the question is empty or not text")
    if solution is not None and not isinstance(solution, str):
        raise FormatError("the solution is not text")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 0):
        raise FormatError(f"the number of steps {steps!r} is not a whole number")
    if others is not None and not isinstance(others, list):
        raise FormatError("the alternatives are not a list")
    return Draft(
        question.strip(),
        None if answer is None else number_text(answer),
        tuple(number_text(other) for other in others or ()),
        solution,
        steps,
        str(lookup("split") or ""),
        str(lookup("licence") or ""),
    )
