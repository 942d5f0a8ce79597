"""Reads a question back by its templates, compiled to regular expressions and indexed by their number of words."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache

from components.word_problems.families import FAMILIES
from components.word_problems.grammar import RESULT, UNKNOWN_WORDS, WORD_SLOTS, Family, Tail
from components.word_problems.reading import Reading, Shape, expansions_of, solve

_NAME = r"(?!He\b|She\b)[A-Z][\w'-]*"
_NOUN = r"[a-z][a-z-]*"
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_MAX_SENTENCES = 12

Match = dict[str, str]


def _compile(template: str) -> re.Pattern[str]:
    pattern, seen = "", set[str]()
    for part in re.split(r"(\{\w+\})", template):
        name = part[1:-1] if part.startswith("{") else ""
        if not name:
            pattern += re.escape(part)
        elif name in ("he", "He"):
            other = "(?P=n)" if "n" in seen else f"(?P<n>{_NAME})"
            seen.add("n")
            pattern += f"(?:{'he|she' if name == 'he' else 'He|She'}|{other})"
        elif name in seen:
            pattern += f"(?P={name})"
        else:
            seen.add(name)
            number = r"\d{1,9}" if name == RESULT else rf"\d{{1,9}}|{'|'.join(UNKNOWN_WORDS)}"
            pattern += f"(?P<{name}>{(_NAME if name in 'nm' else _NOUN) if name in WORD_SLOTS else number})"
    return re.compile(pattern)


def _templates(family: Family) -> Iterator[str]:
    for expansion in expansions_of(family):
        shape = Shape(family, expansion, family.tails)
        for slot in shape.slots:
            yield from slot
        for ask in shape.asks.values():
            yield from ask.questions
    for closing in [family.closing, *(tail.closing for tail in family.tails if tail.closing)]:
        yield from closing.questions
        yield from closing.outcomes


@cache
def _index() -> Mapping[int, list[tuple[str, re.Pattern[str]]]]:
    index: dict[int, list[tuple[str, re.Pattern[str]]]] = defaultdict(list)
    for template in dict.fromkeys(text for family in FAMILIES.values() for text in _templates(family)):
        index[len(template.split())].append((template, _compile(template)))
    return dict(index)


@cache
def _openings() -> Mapping[str, list[Shape]]:
    openings: dict[str, list[Shape]] = defaultdict(list)
    for family in FAMILIES.values():
        for expansion in expansions_of(family):
            shape = Shape(family, expansion)
            for template in shape.slots[0]:
                openings[template].append(shape)
    return dict(openings)


def _matches(sentence: str) -> dict[str, Match]:
    found = {}
    for template, pattern in _index().get(len(sentence.split()), ()):
        if match := pattern.fullmatch(sentence):
            found[template] = {name: text for name, text in match.groupdict().items() if text is not None}
    return found


def read(question: str) -> Reading | None:
    """Take a question apart.

    Returns:
        The reading with all values, the wanted one included; None when no family can have written the question.
    """
    sentences = _SENTENCE_END.split(" ".join(question.split()))
    if not 2 <= len(sentences) <= _MAX_SENTENCES:
        return None
    found = [_matches(sentence) for sentence in sentences]
    if not all(found):
        return None
    for opening in found[0]:
        for shape in _openings().get(opening, ()):
            if reading := _fit(shape, found):
                return reading
    return None


def _pick(options: tuple[str, ...], found: Mapping[str, Match]) -> str:
    return next((template for template in options if template in found), "")


def _tail(shape: Shape, found: Mapping[str, Match]) -> Tail | None:
    if shape.tails and shape.tails[-1].last:
        return None
    return next((tail for tail in shape.family.tails if tail not in shape.tails and _pick(tail.sentences, found)), None)


def _fit(start: Shape, found: list[dict[str, Match]]) -> Reading | None:
    shape = start
    for position in range(len(shape.slots), len(found) - 1):
        tail = _tail(shape, found[position])
        if tail is None:
            break
        shape = Shape(shape.family, shape.expansion, (*shape.tails, tail))
    count = len(shape.slots)
    told = len(found) - count
    if told not in (1, 2):
        return None
    statements = tuple(_pick(slot, found[position]) for position, slot in enumerate(shape.slots))
    outcome = _pick(shape.closing.outcomes, found[count]) if told == 2 else ""
    if not all(statements) or (told == 2 and not outcome):
        return None
    chosen = [*statements, outcome] if outcome else list(statements)
    texts = _merge(shape, [found[position][template] for position, template in enumerate(chosen)])
    if texts is None:
        return None
    unknown = [name for name, text in texts.items() if text in UNKNOWN_WORDS]
    if len(unknown) != told - 1:
        return None
    wanted = unknown[0] if unknown else ""
    asking = _pick(shape.asks[wanted].questions if wanted else shape.closing.questions, found[-1])
    texts = _merge(shape, [texts, found[-1][asking]]) if asking else None
    return _finish(shape, statements, outcome, asking, texts, wanted) if texts else None


def _merge(shape: Shape, parts: list[Match]) -> Match | None:
    merged: Match = {}
    for position, part in enumerate(parts):
        for name, text in part.items():
            full = name if name in WORD_SLOTS else shape.result if name == RESULT else shape.quantity(name, position)
            if merged.setdefault(full, text) != text:
                return None
    return merged


def _finish(shape: Shape, statements: tuple[str, ...], outcome: str, asking: str, texts: Match, wanted: str) -> Reading | None:
    words = {name: text for name, text in texts.items() if name in WORD_SLOTS}
    given = {name: int(text) for name, text in texts.items() if text.isdigit()}
    solved = solve(shape, given, wanted)
    if solved is None or not solved[0] or not _consistent(shape, solved[1]):
        return None
    values = {name: solved[1][name] for name in (*given, wanted or shape.result)}
    return Reading(shape, statements, outcome, asking, words, values, wanted)


def _consistent(shape: Shape, values: Mapping[str, int]) -> bool:
    """Whether the story really runs to its end with these values (no negative counts, no uneven sharing on the way)."""
    given = {name: values[name] for name in shape.asks}
    forward = solve(shape, given, "")
    return forward is not None and forward[1][shape.result] == values[shape.result]
