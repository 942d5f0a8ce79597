"""The forms of a question that the checks compare."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from components.core.records import normalise_question

_NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion"
).split()

STOP_WORDS = (ENGLISH_STOP_WORDS | frozenset("s t d m ll ve".split())) - frozenset(_NUMBER_WORDS)
"""Common English stop words and what apostrophes leave behind. Number words stay: in a math problem they are content."""

_WORD = "(?:" + "|".join(_NUMBER_WORDS) + ")"
_DIGITS = r"\d+(?:,\d{3})*(?:\.\d+)?"
_NUMBER = re.compile(rf"(?<![^\W\d_])(?:(?:(?<=^)|(?<=[\s(=$]))-)?(?:{_DIGITS})|\b{_WORD}(?:(?:[\s-]+and)?[\s-]+{_WORD})*\b")
_MASKED_TOKEN = re.compile(r"#|[^\W\d_]+|[+*/^=<>%×÷]|(?<=[\s#)])-(?=[\s#(])")
_SHOWN_OPTIONS = re.compile(r"\n\s*(?:options|answer choices)\s*:.*\Z", re.IGNORECASE | re.DOTALL)


def stem(question: str) -> str:
    """The question without the options of a multiple-choice problem, which one side may show and the other may not."""
    return _SHOWN_OPTIONS.sub("", question) or question


def exact_form(question: str) -> str:
    """Text that two questions share when they are the same but for case, spaces and punctuation."""
    return normalise_question(stem(question))


def masked_form(question: str) -> str:
    """Text that two questions share when only their numbers differ.

    Numbers in digits or words become one placeholder; names, units and arithmetic signs stay.
    """
    return " ".join(_MASKED_TOKEN.findall(_NUMBER.sub(" # ", stem(question).lower())))


def content_tokens(question: str) -> list[str]:
    """The article's preprocessing: lower case, no punctuation, words, no stop words."""
    return [word for word in exact_form(question).split() if word not in STOP_WORDS]


def ngrams(tokens: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    """The set of runs of ``n`` tokens; empty for shorter texts."""
    return frozenset(zip(*(tokens[start:] for start in range(n)), strict=False))


def jaccard(left: Sequence[str], right: Sequence[str], n: int) -> float:
    """``|G_n(a) & G_n(b)| / |G_n(a) | G_n(b)|`` over the sets of n-grams; 0 where neither text has any (arXiv 2402.14830)."""
    first, second = ngrams(left, n), ngrams(right, n)
    union = len(first | second)
    return len(first & second) / union if union else 0.0
