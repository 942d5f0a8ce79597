"""The three checks, as pairs of a benchmark problem and a training problem, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from components.contamination.nearest import Nearest
from components.contamination.options import Action, ContaminationOptions
from components.contamination.texts import content_tokens, exact_form, jaccard, masked_form
from components.core.records import ContaminationMatch, Problem

CHECKS = ("exact", "masked", "jaccard")
REPORTED_N = (1, 2, 3)
SEVERITY: dict[Action, int] = {"off": 0, "report": 1, "remove": 2, "fail": 3}
DONE = {"report": "reported", "remove": "removed", "fail": "failed"}

Pair = tuple[int, int]
"""Position of the benchmark problem, position of the training problem."""


@dataclass
class Findings:
    """What the checks found.

    Attributes:
        pairs: Per check, its pairs with their cosine (None where the check has none).
        best_jaccard: For n = 1, 2, 3: the best Jaccard of each benchmark problem among its candidates.
    """

    pairs: dict[str, dict[Pair, float | None]] = field(default_factory=dict)
    best_jaccard: dict[int, list[float]] = field(default_factory=dict)


def equal_pairs(train_forms: Iterable[str], test_forms: Sequence[str]) -> Iterator[Pair]:
    """Pairs of equal, non-empty texts.

    Of a group of equal texts every member is in at least one pair, not every combination: thousands of training problems may share
    the masked form of hundreds of benchmark problems.
    """
    tests: dict[str, list[int]] = {}
    for position, form in enumerate(test_forms):
        if form:
            tests.setdefault(form, []).append(position)
    trains: dict[str, list[int]] = {}
    for position, form in enumerate(train_forms):
        if form in tests:
            trains.setdefault(form, []).append(position)
    for form, left in tests.items():
        right = trains.get(form, [])
        for turn in range(max(len(left), len(right)) if right else 0):
            yield left[turn % len(left)], right[turn % len(right)]


def find(
    train: Sequence[str], tests: Sequence[str], options: ContaminationOptions, progress: Callable[[int], None] = lambda done: None
) -> Findings:
    """Run the checks that are not off.

    Args:
        train: Distinct training questions.
        tests: Benchmark questions.
        options: Actions, k, n and threshold.
        progress: Called with the number of benchmark questions compared.
    """
    findings = Findings()
    train_forms, test_forms = [exact_form(text) for text in train], [exact_form(text) for text in tests]
    if options.exact != "off":
        findings.pairs["exact"] = dict.fromkeys(equal_pairs(train_forms, test_forms))
    if options.masked != "off":
        findings.pairs["masked"] = dict.fromkeys(equal_pairs(map(masked_form, train), [masked_form(text) for text in tests]))
    if options.jaccard != "off":
        _find_similar(train_forms, test_forms, options, findings, progress)
    return findings


def _find_similar(
    train: Sequence[str], tests: Sequence[str], options: ContaminationOptions, findings: Findings, progress: Callable[[int], None]
) -> None:
    """Steps 1 to 4 of the article's check (arXiv 2402.14830), with more candidates where all k of them match."""
    pairs: dict[Pair, float | None] = {}
    best = findings.best_jaccard = {n: [0.0] * len(tests) for n in REPORTED_N}
    index = Nearest(train, tests)
    k, pending = options.k, list(range(len(tests)))
    while pending:
        saturated = []
        for test, (positions, cosines) in zip(
            pending, index.find(pending, k, progress if k == options.k else lambda done: None), strict=True
        ):
            tokens = content_tokens(tests[test])
            matched = 0
            for position, cosine in zip(positions.tolist(), cosines.tolist(), strict=True):
                candidate = content_tokens(train[position])
                if jaccard(tokens, candidate, options.n) > options.threshold:
                    pairs[test, position] = cosine
                    matched += 1
                for n in REPORTED_N:
                    best[n][test] = max(best[n][test], jaccard(tokens, candidate, n))
            if matched == k:
                saturated.append(test)
        k, pending = 4 * k, saturated
    findings.pairs["jaccard"] = pairs


def match_rows(
    findings: Findings, train_ids: Sequence[str], train: Sequence[str], tests: Sequence[Problem], options: ContaminationOptions
) -> list[ContaminationMatch]:
    """One report row per pair, under the check with the gravest action (of equals, the strictest check), ordered by benchmark problem.

    Args:
        findings: What the checks found.
        train_ids: Problem ids of the training problems.
        train: Their questions.
        tests: The benchmark problems.
        options: The actions.
    """
    decided: dict[Pair, str] = {}
    for check in CHECKS:
        for pair in findings.pairs.get(check, {}):
            if pair not in decided or SEVERITY[getattr(options, check)] > SEVERITY[getattr(options, decided[pair])]:
                decided[pair] = check
    cosines = findings.pairs.get("jaccard", {})
    rows = []
    for (test, position), check in sorted(decided.items()):
        left, right = content_tokens(exact_form(tests[test].question)), content_tokens(exact_form(train[position]))
        rows.append(
            ContaminationMatch(
                benchmark=tests[test].source,
                test_id=tests[test].id,
                train_id=train_ids[position],
                test_question=tests[test].question,
                train_question=train[position],
                check=check,
                cosine=cosines.get((test, position)),
                jaccard=[round(jaccard(left, right, n), 4) for n in REPORTED_N],
                action=DONE[getattr(options, check)],
            )
        )
    return rows


def removals(findings: Findings, options: ContaminationOptions) -> dict[int, str]:
    """Positions of the training problems to remove, with the first check that asks for it."""
    reasons: dict[int, str] = {}
    for check in CHECKS:
        if getattr(options, check) == "remove":
            for _, position in findings.pairs[check]:
                reasons.setdefault(position, check)
    return reasons


def counts(findings: Findings, tests: Sequence[Problem], options: ContaminationOptions) -> dict[str, float]:
    """How many benchmark and training problems each check matched, in all and per benchmark, and how many have a best Jaccard
    above the threshold for n = 1, 2 and 3."""
    figures: dict[str, float] = {}
    for check, pairs in findings.pairs.items():
        matched = {test for test, _ in pairs}
        figures[f"{check}_tests"] = len(matched)
        figures[f"{check}_train"] = len({position for _, position in pairs})
        for benchmark in dict.fromkeys(problem.source for problem in tests):
            figures[f"{check}_tests_{benchmark}"] = sum(tests[test].source == benchmark for test in matched)
    for n, best in findings.best_jaccard.items():
        figures[f"jaccard_n{n}_tests"] = sum(value > options.threshold for value in best)
    return figures
