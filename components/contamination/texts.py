"""The forms of a question that the checks compare."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from components.core.records import normalise_question

_SMALL_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety"
)
_LARGE_NUMBERS = frozenset({"hundred", "thousand", "million", "billion"})
NUMBER_WORDS = _LARGE_NUMBERS.union(_SMALL_NUMBERS.split())

STOP_WORDS = (ENGLISH_STOP_WORDS | {"s", "t", "d", "m", "ll", "ve"}) - NUMBER_WORDS
"""Common English stop words and what apostrophes leave behind. Number words stay: in a math problem they are content."""

PLACEHOLDER = "#"
_MASKED_TOKEN = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|[^\W\d_]+|[+*/^=<>%×÷]|-(?:(?<=[\s)]-)(?=[\s(])|(?<=\d-)(?=\d))")
_SHOWN_OPTIONS = re.compile(r"\n\s*(?:options|answer choices)\s*:.*\Z", re.IGNORECASE | re.DOTALL)


def stem(question: str) -> str:
    """The question without the options of a multiple-choice problem, which one side may show and the other may not."""
    return _SHOWN_OPTIONS.sub("", question) or question


def exact_form(question: str) -> str:
    """Text that two questions share when they are the same but for case, spaces and punctuation."""
    return normalise_question(stem(question))


def masked_form(question: str) -> str:
    """Text that two questions share when only their numbers differ.

    Every number, in digits or in words ("one hundred and two" is one number), becomes a placeholder; words, units and arithmetic
    signs stay.
    """
    masked: list[str] = []
    words: list[str] = _MASKED_TOKEN.findall(stem(question).lower())
    previous = ""
    for place, word in enumerate(words):
        joins = word == "and" and previous in _LARGE_NUMBERS and words[place + 1 : place + 2] and words[place + 1] in NUMBER_WORDS
        if word in NUMBER_WORDS or joins:
            if not previous:
                masked.append(PLACEHOLDER)
            previous = word if word in NUMBER_WORDS else previous
        else:
            masked.append(PLACEHOLDER if word[0].isdigit() else word)
            previous = ""
    return " ".join(masked)


def content_tokens(form: str) -> list[str]:
    """The words of an ``exact_form`` that are no stop words; together the article's preprocessing."""
    return [word for word in form.split() if word not in STOP_WORDS]


def ngrams(tokens: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    """The set of runs of ``n`` tokens; empty for shorter texts."""
    return frozenset(zip(*(tokens[start:] for start in range(n)), strict=False))


def jaccard(left: Sequence[str], right: Sequence[str], n: int) -> float:
    """``|G_n(a) & G_n(b)| / |G_n(a) | G_n(b)|`` over the sets of n-grams; 0 where neither text has any (arXiv 2402.14830)."""
    first, second = ngrams(left, n), ngrams(right, n)
    union = len(first | second)
    return len(first & second) / union if union else 0.0
