"""The short final answer inside a worked solution."""

from __future__ import annotations

import re
from typing import Literal

from components.grading.numbers import NUMBER
from components.grading.text import last_boxed, tidy

Policy = Literal["strict", "flex"]

_STRONG = re.compile(
    r"####\s*|\b(?:the|my|our|so the|final)\s+(?:(?:final|correct|right)\s+)?answer\s+(?:is|would be|will be|equals)\b\s*:?\s*",
    re.IGNORECASE,
)
_WEAK = re.compile(
    r"(?:^|\n)[ \t*_#>]{0,12}(?:(?:the\s+)?(?:final\s+|short\s+)?answer|a)[*_]{0,3}[ \t]{0,3}[:：][*_]{0,3}\s*", re.IGNORECASE
)
_ANY_NUMBER = re.compile(rf"(?<![\w.])(?:[-+]\s?)?(?:\$\s?)?(?:[-+])?{NUMBER}(?:\s?%)?", re.IGNORECASE)
_FORMULA = re.compile(r"(?<!\\)\$\$?((?:\\.|[^$\n\\]){1,300})\$\$?|\\\((.{1,300}?)\\\)|\\\[(.{1,300}?)\\\]", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<!\b[A-Za-z])[.!?](?=\s+[A-Z\"'(]|\s*$)|\.\s*\*\*")
MAX_ANSWER = 200
"""Longer text after a marker is not a short answer; characters."""


def extract_answer(text: str, policy: Policy = "flex") -> str | None:
    """Find the short final answer of a response.

    After the last occurrence of every marker (``####``, "the answer is", ``A:``, ``Answer:``) stands a candidate; the shortest one
    wins, as in Xwin-Math's evaluator. Under ``flex``, a text without marker gives the content of its last ``\\boxed{}``, else its
    last number or formula.

    Args:
        text: A whole response.
        policy: ``strict`` accepts markers only.

    Returns:
        The answer as written, without decoration, or None when there is none.
    """
    marked = marked_answer(text)
    if policy == "strict":
        return marked
    boxed = last_boxed(text)
    if marked is not None and (boxed is None or re.search(r"[\d\\]", marked)):
        return marked
    if boxed is not None:
        return _strip(boxed) or None
    return _bare_answer(text) or _last_number_or_formula(text)


def marked_answer(text: str) -> str | None:
    """The answer that stands after a marker, None without one."""
    candidates = []
    for index, pattern in enumerate((_STRONG, _WEAK)):
        position = -1
        for match in pattern.finditer(text):
            position = match.end()
        if position < 0 or (index == 1 and last_boxed(text[position:]) is not None and "\n" in text[position:].strip()):
            continue
        candidate = _first_statement(text[position:])
        if candidate and len(candidate) <= MAX_ANSWER:
            candidates.append(candidate)
    return min(candidates, key=len) if candidates else None


def _first_statement(text: str) -> str:
    """The first line after a marker, cut at the end of its first sentence, boxed content preferred."""
    lines = [line.strip() for line in text.lstrip(" :*_\t").split("\n")]
    line = next((line for line in lines if line.strip("*_`$[]\\ ")), "")
    if "\\boxed" in text and "\\boxed" not in line and line in ("\\[", "$$"):
        line = " ".join(lines)
    boxed = last_boxed(line)
    if boxed is not None:
        return _strip(boxed)
    end = _SENTENCE_END.search(line)
    return _shorten(_strip(line[: end.start()] if end else line))


def _strip(text: str) -> str:
    text = re.sub(r"\*\*|__|`", "", text).strip().strip("*_").strip()
    text = re.sub(r"<\|[^|]*\|>.*|</s>.*", "", text, flags=re.DOTALL).strip()
    return re.sub(r"(?<![\d.])\.+$|(?<=\d)\.$|[,;:]+$", "", text).strip()


def _shorten(statement: str) -> str:
    """Prose around a single number gives that number: ``she has 5 apples left`` to ``5``; anything else stays as it is."""
    words = re.findall(r"(?<![\\\w])[A-Za-z]{2,}", statement)
    if len(words) < 3:
        return statement
    after = statement.rsplit("=", 1)[-1]
    found = list(_ANY_NUMBER.finditer(tidy(after)))
    return found[0].group().rstrip(". ") if len(found) == 1 else statement


def _bare_answer(text: str) -> str | None:
    """A response that is nothing but its answer."""
    stripped = _strip(text)
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[a-zA-Z]+", " ", stripped))
    return stripped if stripped and len(stripped) <= 80 and "\n" not in stripped and len(words) <= 1 and "$" not in stripped[1:] else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _last_number_or_formula(text: str) -> str | None:
    formula, number = _last(_FORMULA, text), _last(_ANY_NUMBER, text)
    if formula is not None and (number is None or formula.end() >= number.end()):
        inner = next(group for group in formula.groups() if group is not None)
        if number is None or re.search(r"\d|\\|=", inner):
            return _strip(inner.rsplit("=", 1)[-1]) or None
    return number.group().rstrip(". ") if number else None


def last_sentence_numbers(text: str) -> list[str]:
    """All numbers of the last sentence that holds any."""
    for sentence in reversed(re.split(r"(?<=[.!?])\s+|\n", text)):
        found = [match.group().rstrip(". ") for match in _ANY_NUMBER.finditer(sentence)]
        if found:
            return found
    return []
