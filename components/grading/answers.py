"""Is this answer right? Rules that decide quickly, exactly and reproducibly, and say None where they cannot.

The order is cheap before dear and exact before approximate: equal text, numbers and units, lists and tuples, choice letters,
words, and only then symbolic algebra in a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from components.grading.extraction import extract_answer, last_sentence_numbers, marked_answer
from components.grading.numbers import PLAIN, Quantity, bare_value, compare_quantities, parse_quantity, plain_quantity
from components.grading.symbols import symbolically_equal
from components.grading.text import last_boxed, split_items, tidy

__all__ = ["Verdict", "canonical", "compare", "extract_answer", "is_correct"]

TIME_LIMIT_S = 5.0
MAX_LENGTH = 5000
"""Longer answers are compared literally only; characters."""
MAX_ITEMS = 12
"""Lists with more items are left undecided."""

_CHOICE = re.compile(r"(?:(?:option|choice|answer)\s+)?\(?\s*([A-Ja-j])\s*(?:\)|(?=[.):]|$))[.):]*\s*(.*)", re.DOTALL | re.IGNORECASE)
_NAMED = re.compile(r"\(?\s*([a-zA-Z](?:_\{?\w+\}?)?|[A-Za-z][a-z]+(?: [a-z]+)?)\s*(?:[=:]|\\in(?![a-z]))\s*(?![=:])(.+)", re.DOTALL)
_WORDS = re.compile(r"[A-Za-z][A-Za-z '’\-]*")
_CLOSED = frozenset(
    {
        "yes",
        "no",
        "true",
        "false",
        "even",
        "odd",
        "none",
        "undefined",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    }
)
_YES = {"yes": "true", "no": "false"}


class Verdict(NamedTuple):
    """What the rules found.

    Attributes:
        correct: True, False, or None when undecided.
        answer: The short answer of the response, None when it has none.
    """

    correct: bool | None
    answer: str | None


class _Parsed(NamedTuple):
    text: str
    """Tidied text."""
    key: str
    """Literal form: lower case, no spaces or braces."""
    kind: Literal["empty", "quantity", "list", "tuple", "words", "other"]
    quantity: Quantity | None = None
    items: tuple[_Parsed, ...] = ()
    names: tuple[str, ...] = ()
    """Variable names of the items of a list, when every item has one."""
    brackets: str = ""
    letter: str = ""
    """The letter of a multiple-choice answer."""
    rest: str = ""
    """What follows the letter."""
    name: str = ""


def is_correct(reference: str, response_text: str, alternatives: Sequence[str] = (), time_limit_s: float = TIME_LIMIT_S) -> Verdict:
    """Extract the final answer of a response and compare it with the reference.

    Args:
        reference: Short reference answer.
        response_text: A whole response.
        alternatives: Other accepted forms, for example a choice letter.
        time_limit_s: Seconds for a symbolic comparison.

    Returns:
        The verdict. Undecided when the rules cannot compare the two, or when an answer without any marker only looks wrong while
        the sentence it stands in also holds the reference.
    """
    answer = extract_answer(response_text)
    if answer is None:
        silent = not response_text.strip() or (_parse(reference).kind == "quantity" and not re.search(r"[A-Za-z]{3}", response_text))
        return Verdict(False if silent else None, None)
    verdict = compare(reference, answer, alternatives, time_limit_s)
    if verdict is False and marked_answer(response_text) is None and last_boxed(response_text) is None:
        others = last_sentence_numbers(response_text)
        if any(_compare(_parse(reference), _parse(number), time_limit_s) for number in others):
            return Verdict(None, answer)
    return Verdict(verdict, answer)


def compare(reference: str, answer: str, alternatives: Sequence[str] = (), time_limit_s: float = TIME_LIMIT_S) -> bool | None:
    """Compare two short answers.

    Integers and fractions must agree exactly, decimals within a relative 1e-3, units are converted within their family, lists are
    compared without regard to order and tuples with it, expressions symbolically.

    Args:
        reference: Short reference answer.
        answer: Short answer to check.
        alternatives: Other accepted forms of the reference.
        time_limit_s: Seconds after which a symbolic comparison is given up.

    Returns:
        True or False, or None when the rules cannot decide.
    """
    if not alternatives:
        if PLAIN.fullmatch(reference) and PLAIN.fullmatch(answer) and "." not in reference and "." not in answer:
            return int(reference) == int(answer)
        return _compare(_parse(reference), _parse(answer), time_limit_s)
    accepted = [_parse(reference), *map(_parse, alternatives)]
    given = _parse(answer)
    letters = {form.letter for form in accepted if form.letter and not form.rest}
    if letters and given.letter:
        return _compare_choice(letters, [form for form in accepted if not form.letter], given, time_limit_s)
    verdicts = [_compare(form, given, time_limit_s) for form in accepted if not form.letter or given.kind == "words"]
    if any(verdicts):
        return True
    return None if None in verdicts or not verdicts else False


def canonical(answer: str) -> str:
    """One text for all spellings of an answer, for majority voting: ``$1,200.00`` and ``1200`` give ``1200``.

    Numbers that are not integers keep four significant digits; units and the percent sign are dropped, lists sorted.
    """
    return _canonical(_parse(answer))


def _canonical(parsed: _Parsed) -> str:
    if parsed.quantity is not None:
        return _number_text(bare_value(parsed.quantity))
    if parsed.kind == "list":
        return ", ".join(sorted(_canonical(item) for item in parsed.items))
    if parsed.kind == "tuple":
        return f"{parsed.brackets[0]}{', '.join(_canonical(item) for item in parsed.items)}{parsed.brackets[1]}"
    if parsed.letter:
        return parsed.letter
    return parsed.key


def _number_text(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    scale = 0
    while abs(value) * Fraction(10) ** scale < 1000:
        scale += 1
    while abs(value) * Fraction(10) ** scale >= 10000:
        scale -= 1
    rounded = Fraction(round(value * Fraction(10) ** scale)) / Fraction(10) ** scale
    if rounded.denominator == 1:
        return str(rounded.numerator)
    digits = str(abs(round(rounded * Fraction(10) ** scale))).rjust(scale + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-scale]}.{digits[-scale:].rstrip('0')}"


@lru_cache(maxsize=65536)
def _parse(answer: str) -> _Parsed:
    """Read an answer once; the same reference and the usual wrong answers come again and again."""
    if PLAIN.fullmatch(answer):
        return _Parsed(answer, answer, "quantity", plain_quantity(answer))
    if len(answer) > MAX_LENGTH:
        return _Parsed(answer, answer, "other")
    text = tidy(answer)
    key = re.sub(r"(?<!\d)\s|\s(?!\d)|[{}]|(?<=\d),(?=\d{3}(?!\d))", "", text).lower()
    if not key:
        return _Parsed(text, key, "empty")
    quantity = parse_quantity(text)
    if quantity is not None:
        return _Parsed(text, key, "quantity", quantity)
    choice = _CHOICE.fullmatch(text)
    letter, rest = (choice[1].upper(), choice[2].strip()) if choice else ("", "")
    if not (letter and not rest):
        structured = _parse_structure(text, key)
        if structured is not None:
            return structured
    if _WORDS.fullmatch(text):
        return _Parsed(text, key, "words", letter=letter, rest=rest)
    return _Parsed(text, key, "other", letter=letter, rest=rest)


def _parse_structure(text: str, key: str) -> _Parsed | None:
    """Assignments, equation chains, tuples, sets and lists; None when the text is none of them."""
    if "\\begin" in text:
        return None
    text = text.replace("\\{", "{").replace("\\}", "}")
    brackets = text[0] + text[-1]
    inner = _inside_brackets(text)
    if inner is not None:
        items = split_items(inner)
        if brackets == "{}" or (brackets == "()" and len(items) == 1):
            return _parse_items(text, key, items, "list") if len(items) > 1 else _parse(inner)
        if len(items) > 1:
            return _parse_items(text, key, items, "tuple", brackets)
    items = split_items(text)
    if len(items) > 1:
        return _parse_items(text, key, items, "list")
    plus_minus = re.fullmatch(r"(.*?)\\(?:pm|mp)(.*)", text, re.DOTALL)
    if plus_minus and "\\pm" not in plus_minus[2]:
        return _parse_items(text, key, [f"{plus_minus[1]}+{plus_minus[2]}", f"{plus_minus[1]}-{plus_minus[2]}"], "list")
    named = _NAMED.fullmatch(text)
    if named and "=" not in named[2]:
        value = _parse(named[2])
        if value.kind in ("quantity", "tuple") or (value.kind == "other" and len(named[1]) == 1):
            return _Parsed(
                value.text, value.key, value.kind, value.quantity, value.items, value.names, value.brackets, name=named[1].lower()
            )
    if text.count("=") >= 1 and not re.search(r"[<>≤≥]|\\[lg]eq?", text):
        last = parse_quantity(text.rsplit("=", 1)[1].strip())
        if (
            last is not None
            and re.search(r"\d", text.rsplit("=", 1)[0])
            and not re.search(r"[a-zA-Z]\s*=|[a-z]\^|\d[a-z]\b", text.rsplit("=", 1)[0])
        ):
            return _Parsed(text, key, "quantity", last)
    return None


def _parse_items(text: str, key: str, items: list[str], kind: Literal["list", "tuple"], brackets: str = "") -> _Parsed | None:
    if len(items) > MAX_ITEMS or any(len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[a-zA-Z]+", "", item))) > 6 for item in items):
        return None
    parsed = tuple(_parse(item) for item in items)
    if any(item.kind in ("list", "empty") for item in parsed):
        return None
    names = tuple(item.name for item in parsed)
    return _Parsed(text, key, kind, items=parsed, names=names if all(names) and len(set(names)) == len(names) else (), brackets=brackets)


def _inside_brackets(text: str) -> str | None:
    """What one pair of brackets around the whole text holds; half-open intervals count as a pair."""
    if len(text) < 3 or text[0] not in "([{" or text[-1] not in ")]}":
        return None
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and index < len(text) - 1:
            return None
    return text[1:-1]


def _compare(left: _Parsed, right: _Parsed, time_limit_s: float) -> bool | None:
    if left.quantity is not None and right.quantity is not None:
        return True if left.key == right.key else compare_quantities(left.quantity, right.quantity)
    if "empty" in (left.kind, right.kind):
        return False
    if left.key == right.key:
        return True
    if left.kind == right.kind == "list":
        return _compare_lists(left, right, time_limit_s)
    if left.kind == right.kind == "tuple":
        if len(left.items) != len(right.items) or left.brackets != right.brackets:
            return False
        return _all(_compare(a, b, time_limit_s) for a, b in zip(left.items, right.items, strict=True))
    kinds = {left.kind, right.kind}
    if kinds == {"list", "tuple"}:
        bag, ordered = (left, right) if left.kind == "list" else (right, left)
        if ordered.brackets not in ("()", "[]") or len(bag.items) != len(ordered.items):
            return False
        same = _all(_compare(a, b, time_limit_s) for a, b in zip(bag.items, ordered.items, strict=True))
        return True if same else None
    if kinds in ({"list", "quantity"}, {"tuple", "quantity"}):
        single, several = (left, right) if left.kind == "quantity" else (right, left)
        decimal_comma = parse_quantity(several.text.replace(",", ".")) if several.text.count(",") == 1 else None
        return None if decimal_comma and single.quantity and compare_quantities(single.quantity, decimal_comma) else False
    if left.letter and right.letter:
        return left.letter == right.letter if not (left.rest and right.rest) else None
    if kinds == {"words"}:
        return _compare_words(left, right)
    if _is_prose(_expression(left)) or _is_prose(_expression(right)):
        return None
    return symbolically_equal(_expression(left), _expression(right), time_limit_s)


def _expression(parsed: _Parsed) -> str:
    """Text for symbolic algebra: a quantity without its unit."""
    quantity = parsed.quantity
    return parsed.text if quantity is None or not (quantity.unit or quantity.percent) else str(quantity.value)


def _compare_lists(left: _Parsed, right: _Parsed, time_limit_s: float) -> bool | None:
    """Unordered, one to one; by name when both sides name their values."""
    if len(left.items) != len(right.items):
        return False
    if left.names and right.names and set(left.names) == set(right.names):
        by_name = dict(zip(right.names, right.items, strict=True))
        return _all(_compare(item, by_name[name], time_limit_s) for name, item in zip(left.names, left.items, strict=True))
    verdicts = [[_compare(a, b, time_limit_s) for b in right.items] for a in left.items]
    if _can_match(verdicts, lambda verdict: verdict is True):
        return True
    return None if _can_match(verdicts, lambda verdict: verdict is not False) else False


def _can_match(verdicts: list[list[bool | None]], accepts: Callable[[bool | None], bool]) -> bool:
    """Whether the items can be paired one to one by accepted verdicts (augmenting paths)."""
    partner: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, verdict in enumerate(verdicts[row]):
            if accepts(verdict) and column not in seen:
                seen.add(column)
                if column not in partner or place(partner[column], seen):
                    partner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(verdicts)))


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    collected = list(verdicts)
    if False in collected:
        return False
    return None if None in collected else True


def _compare_choice(letters: set[str], values: list[_Parsed], given: _Parsed, time_limit_s: float) -> bool | None:
    """A letter decides; a value beside it that contradicts the letter leaves the matter open."""
    right_letter = given.letter in letters
    if not given.rest or not values:
        return right_letter
    beside = _parse(given.rest)
    verdicts = [_compare(value, beside, time_limit_s) for value in values]
    if right_letter:
        return None if all(verdict is False for verdict in verdicts) else True
    return None if any(verdicts) else False


def _compare_words(left: _Parsed, right: _Parsed) -> bool | None:
    a, b = (re.sub(r"^(?:the|a|an)\s+", "", side.text.lower()) for side in (left, right))
    if a == b or _YES.get(a, a) == _YES.get(b, b):
        return True
    return False if (a in _CLOSED and b in _CLOSED) or (len(a) == 1 and len(b) == 1) else None


def _is_prose(text: str) -> bool:
    """Whether symbolic algebra is hopeless: words that are no functions, or nothing mathematical at all."""
    bare = re.sub(
        r"\\[a-zA-Z]+|\b(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|frac|infty|pmatrix|begin|end|matrix|bmatrix|cup|in|and|or)\b",
        " ",
        text,
    )
    return bool(re.search(r"[A-Za-z]{3,}|[?!]\s*[A-Za-z]|^\W*$", bare)) and not re.fullmatch(r"\W*\\[a-zA-Z]+\W*", text)
