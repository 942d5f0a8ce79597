"""Reads what agents reply. Models decorate, relabel and chat; nothing here raises, whatever the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_CHARS = 100_000
"""A reply beyond this is runaway text; only its beginning is read."""

_QUOTES = "\"'“”„«»‘’`*_ \t"
# Possessive quantifiers: a model that repeats one mark for pages must not make the matching quadratic.
_LINE_START = r"[\s>#*_\-–—•·+]*+(?:\(?\d{1,3}[.):]\)?\s*+)?+[\s*_]*+"
_LABEL_END = r"[\s*_]*+(?:\(?#?\d{1,3}\)?)?+[\s*_]*+[:：][\s*_]*+"
_TARGET = re.compile(rf"{_LINE_START}(?:<target>|(?:new )?(?:target|unknown)(?: quantity)?{_LABEL_END})(.*)", re.IGNORECASE)
_QUESTION = re.compile(
    rf"{_LINE_START}(?:<question>|(?:the )?(?:new |updated |harder |rewritten |revised |final )?(?:question|problem){_LABEL_END})(.*)",
    re.IGNORECASE,
)
_OTHER_NAMES = r"suggestions?|objective|solution|(?:final |reference )?answer|explanation|notes?|hint|reasoning|changes(?: made)?"
_OTHER_LABEL = re.compile(rf"{_LINE_START}(?:(?:{_OTHER_NAMES}){_LABEL_END}|####|</?\w+>\s*$)", re.IGNORECASE)
_ANY_LABEL = re.compile(rf"{_LINE_START}[^\W\d]{{2,20}}(?: [^\W\d]{{2,20}})?{_LABEL_END}(?=\S)")
_ITEM = re.compile(r"[\s>]*+(?:[*_#]{0,3}\(?\d{1,3}[.):]\)?(?=[\s*_])|[-–—•·+*](?=\s))[\s*_]++(?=\S)(.*)")
_FENCE = re.compile(r"[\s>*•·+-]*```")
_RULE = re.compile(r"\s*+(?:[-–—*_=]\s*+){3,}+$")
_INLINE_QUESTION = re.compile(r"(?:<question>|\bquestion\s*+[:：])[\s*_]*+", re.IGNORECASE)
_TAG = re.compile(r"</?(?:question|target|problem)>", re.IGNORECASE)
_QUESTION_MARKS = ("?", "？", "؟")
_HEADING_CHARS = 60


@dataclass(frozen=True)
class TargetedQuestion:
    """One question of an Ask-Me-Anything reply.

    Attributes:
        target: What is asked, in the agent's words; empty when it did not say.
        question: The new problem.
    """

    target: str
    question: str


def parse_questions(reply: str) -> list[TargetedQuestion]:
    """The questions of an Ask-Me-Anything reply, in order.

    Labels may be decorated, numbered or missing; a question may go over several lines, up to the one that asks.
    Without any label, every paragraph or list item that ends in a question mark is taken.
    """
    found: list[TargetedQuestion] = []
    target = ""
    lines: list[str] | None = None

    def finish() -> None:
        nonlocal target, lines
        question = tidy(" ".join(lines or []))
        if question:
            found.append(TargetedQuestion(target, question))
        target, lines = "", None

    for line in _lines(reply):
        if match := _TARGET.match(line):
            finish()
            # Both labels on one line: "Target: the trays Question: How many ...".
            before, inline, after = _split_inline(match[1])
            target, lines = tidy(before), [after] if inline else None
        elif match := _QUESTION.match(line):
            if lines is not None:
                finish()
            lines = [match[1]]
        elif _OTHER_LABEL.match(line) or (lines is not None and ((lines and _asks(lines[-1])) or (not line.strip() and any(lines)))):
            finish()
        elif lines is not None:
            lines.append(line)
    finish()
    return found or [TargetedQuestion("", question) for question in _unlabelled_questions(reply)]


def parse_problem(reply: str) -> str | None:
    """The problem that an Editor's reply holds; None when there is none.

    The last labelled problem counts (some editors repeat the old one first), up to the next label or the line
    that asks. Without a label it is the last paragraph that ends in a question mark, or the whole reply if that is one paragraph with
    a number in it.
    """
    problem: list[str] | None = None
    inside = False
    for line in _lines(reply):
        if match := _QUESTION.match(line):
            problem, inside = [match[1]], True
        elif _OTHER_LABEL.match(line) or _RULE.match(line) or (inside and problem and _asks(problem[-1])):
            inside = False
        elif inside and problem is not None and line.strip():
            problem.append(line)
    labelled = tidy(" ".join(problem or []))
    if labelled:
        return labelled
    asked = _unlabelled_questions(reply)
    if asked:
        return asked[-1]
    paragraphs = [text for text in map(tidy, "\n".join(_lines(reply)).split("\n\n")) if text]
    return paragraphs[0] if len(paragraphs) == 1 and problem is None and _has_digit(paragraphs[0]) else None


def parse_suggestions(reply: str) -> list[str]:
    """The items of a Suggester's list; its paragraphs when it made no list."""
    lines = _lines(reply)
    items = [tidy(match[1]) for line in lines if (match := _ITEM.match(line))]
    paragraphs = [tidy(text) for text in "\n".join(lines).split("\n\n")]
    return [text for text in items or paragraphs if text]


def parse_solvable(reply: str) -> bool | None:
    """Whether the checking agent confirmed the problem; None when it said neither yes nor no."""
    text = re.sub(r"[*_`#>]", "", reply[:MAX_CHARS])
    labelled = re.findall(r"(?im)^[^\w\n]*+solvable[ \t]*+[:：=-]?[ \t]*+(yes|no|true|false)\b", text)
    bare = re.match(r"(?i)\W*+(yes|no)\b", text)
    word = labelled[-1] if labelled else bare[1] if bare else ""
    return word.lower() in ("yes", "true") if word else None


def tidy(text: str) -> str:
    """One line, single spaces, without the decoration and the quotation marks around it."""
    line = " ".join(_TAG.sub(" ", text).replace("**", "").split())
    stripped = line.strip("`*_ ")
    while len(stripped) > 1 and stripped[0] in "\"“„«‘'" and stripped[-1] in "\"”“»’'":
        stripped = stripped[1:-1].strip(_QUOTES)
    return stripped


def _lines(reply: str) -> list[str]:
    return [line for line in reply[:MAX_CHARS].splitlines() if not _FENCE.match(line)]


def _split_inline(rest: str) -> tuple[str, bool, str]:
    match = _INLINE_QUESTION.search(rest)
    return (rest[: match.start()].rstrip(" \t.;,|*_-"), True, rest[match.end() :]) if match else (rest, False, "")


def _asks(text: str) -> bool:
    """Whether a text ends by asking; a question quoted at its end belongs to the story, unless the whole text is quoted."""
    return tidy(text).endswith(_QUESTION_MARKS)


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _unlabelled_questions(reply: str) -> list[str]:
    """Paragraphs and list items that end in a question mark and hold a number, without what labels or heads them."""
    found = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(_lines(reply))):
        lines = paragraph.splitlines()
        separate = sum(bool(_ITEM.match(line)) or _asks(line) for line in lines) > 1
        for piece in lines if separate else [_without_heading(lines)]:
            item = _ITEM.match(piece)
            text = item[1] if item else piece
            label = _ANY_LABEL.match(text)
            text = tidy(text[label.end() :] if label else text)
            if _asks(text) and _has_digit(text):
                found.append(text)
    return found


def _without_heading(lines: list[str]) -> str:
    """A paragraph without its first line when that is a short line that is no sentence, as a target without its label is."""
    if len(lines) > 1:
        first, second = tidy(lines[0]), tidy(lines[1])
        if len(first) < _HEADING_CHARS and first[-1:].isalnum() and not second[:1].islower():
            lines = lines[1:]
    return " ".join(lines)
