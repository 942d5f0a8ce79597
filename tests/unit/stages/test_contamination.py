"""The contamination checks find what was planted, remove or refuse it, and leave the rest alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.contamination import nearest as nearest_module
from components.contamination.checks import equal_pairs
from components.contamination.nearest import Nearest
from components.contamination.options import ContaminationOptions
from components.contamination.stage import run
from components.contamination.texts import content_tokens, exact_form, jaccard, masked_form
from components.core.errors import EmptyOutputError, GateError, InputError, ParameterError
from components.core.options import parse_options
from components.core.records import ContaminationMatch, Demonstration, Problem, problem_id, read_records, row_id, write_records
from components.core.stage import StageRun

TEST = "Mirela packs 48 jars of plum jam into crates that hold 6 jars each. How many crates does she fill by noon?"
REWORDED = "Mirela packs 48 jars of plum jam into crates that hold 6 jars each. How many crates does she fill on Monday evening?"
RENUMBERED = "Mirela packs ninety-one jars of plum jam into crates that hold 7 jars each. How many crates does she fill by noon?"
SHOUTED = "  MIRELA packs 48 jars of plum jam  into crates, that hold 6 jars each; how many crates does she fill by noon"
CLEAN = "A ferry leaves the harbour every 25 minutes. How long do passengers wait when they miss two of them?"
SHORT = "What is 17 plus 5?"


def problem(question: str, source: str = "bench", split: str = "test") -> Problem:
    return Problem(id=problem_id(question), source=source, split=split, question=question, answer="1", licence="MIT")


def demonstration(question: str, solution: str = "So it is 1.\n#### 1") -> Demonstration:
    identifier = problem_id(question)
    return Demonstration(
        id=row_id(identifier, solution),
        problem_id=identifier,
        source="seeds",
        question=question,
        solution=solution,
        answer="1",
        licence="MIT",
        method="seed",
        maker="gold",
    )


class Outcome:
    """Runs the stage on rows in memory."""

    def __init__(
        self,
        folder: Path,
        train: list[Demonstration],
        tests: list[Problem],
        pretraining: list[Problem] | None = None,
        shards: int = 1,
        **options: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"shard-{index}.jsonl" for index in range(shards)]
        for index, path in enumerate(paths):
            write_records(path, train[index::shards])
        write_records(folder / "tests.jsonl", tests)
        write_records(folder / "corpus.jsonl", pretraining or [])
        self.folder = folder
        self.stage = StageRun("contamination")
        parsed = parse_options(ContaminationOptions, options, "contamination")
        files = folder / "tests.jsonl", folder / "corpus.jsonl", folder / "train.jsonl", folder / "matches.jsonl"
        run(paths, *files, parsed, self.stage)

    @property
    def kept(self) -> list[str]:
        return [row.question for row in read_records(self.folder / "train.jsonl", Demonstration)]

    @property
    def matches(self) -> list[ContaminationMatch]:
        return read_matches(self.folder)


def read_matches(folder: Path) -> list[ContaminationMatch]:
    return list(read_records(folder / "matches.jsonl", ContaminationMatch))


def test_planted_rows_are_found_by_their_check_and_removed(tmp_path: Path) -> None:
    train = [demonstration(text) for text in (SHOUTED, REWORDED, RENUMBERED, CLEAN)]
    outcome = Outcome(tmp_path, train, [problem(TEST)], masked="remove")
    assert outcome.kept == [CLEAN]
    found = {match.train_question: match for match in outcome.matches}
    assert {text: match.check for text, match in found.items()} == {SHOUTED: "exact", REWORDED: "jaccard", RENUMBERED: "masked"}
    assert all(match.action == "removed" and match.test_id == problem_id(TEST) for match in found.values())
    assert found[SHOUTED].jaccard == [1.0, 1.0, 1.0]
    assert 0.5 < found[REWORDED].jaccard[0] < 1
    assert found[REWORDED].cosine is not None
    assert outcome.stage.dropped == {"contaminated_exact": 1, "contaminated_masked": 1, "contaminated_jaccard": 1}
    assert (outcome.stage.rows_in, outcome.stage.rows_kept) == (4, 1)
    assert len(outcome.stage.examples["match"]) == 3


def test_the_defaults_remove_exact_and_similar_and_report_masked(tmp_path: Path) -> None:
    at_the_threshold = "Ann has 3 cats."
    train = [demonstration(text) for text in (SHOUTED, REWORDED, at_the_threshold, CLEAN)]
    outcome = Outcome(tmp_path, train, [problem(TEST), problem("Ann has 8 cats.")])
    assert set(outcome.kept) == {at_the_threshold, CLEAN}
    found = {match.train_question: (match.check, match.action, match.jaccard[0]) for match in outcome.matches}
    assert found[SHOUTED] == ("exact", "removed", 1.0)
    assert found[REWORDED][:2] == ("jaccard", "removed")
    assert found[at_the_threshold] == ("masked", "reported", 0.5)


@pytest.mark.parametrize("jaccard_action", ["off", "report"])
def test_a_reported_match_stays_in_the_training_rows(jaccard_action: str, tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, [demonstration(RENUMBERED), demonstration(CLEAN)], [problem(TEST)], jaccard=jaccard_action)
    assert set(outcome.kept) == {RENUMBERED, CLEAN}
    assert [(match.check, match.action) for match in outcome.matches] == [("masked", "reported")]
    assert not outcome.stage.dropped


@pytest.mark.parametrize("text", [SHORT, "Why?", "Is it so?", "3 + 4 = ?"])
def test_texts_shorter_than_any_n_gram_are_found(text: str, tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, [demonstration(text.upper()), demonstration(CLEAN)], [problem(text)], n=8)
    assert outcome.kept == [CLEAN]
    assert [match.check for match in outcome.matches] == ["exact"]


def test_all_solutions_of_a_matched_problem_go(tmp_path: Path) -> None:
    train = [demonstration(TEST, f"Way {way}.\n#### 8") for way in range(15)] + [demonstration(REWORDED), demonstration(CLEAN)]
    outcome = Outcome(tmp_path, train, [problem(TEST)], k=2)
    assert outcome.kept == [CLEAN]
    assert outcome.stage.dropped == {"contaminated_exact": 15, "contaminated_jaccard": 1}
    assert outcome.stage.counts["train_problems"] == 3


def test_training_rows_do_not_depend_on_the_shards(tmp_path: Path) -> None:
    train = [demonstration(f"{CLEAN} Number {number}.") for number in range(20)]
    outcomes = [
        Outcome(tmp_path / "one", train, [problem(TEST)]),
        Outcome(tmp_path / "three", train[::-1] + train[:5], [problem(TEST)], shards=3),
    ]
    first, second = ((outcome.folder / "train.jsonl").read_bytes() for outcome in outcomes)
    assert first == second
    assert outcomes[1].stage.dropped == {"duplicate": 5}
    assert outcomes[1].stage.rows_in == 25


def test_no_match_hides_behind_the_first_k(tmp_path: Path) -> None:
    train = [demonstration(f"{TEST} Name the {place} crate.") for place in ("red", "blue", "green", "black", "white", "pink", "grey")]
    outcome = Outcome(tmp_path, [*train, demonstration(CLEAN)], [problem(TEST)], k=2)
    assert outcome.kept == [CLEAN]
    assert outcome.stage.counts["jaccard_train"] == len(train)


def test_which_of_equal_candidates_are_taken_does_not_depend_on_the_order(tmp_path: Path) -> None:
    # One candidate of the three with equal cosine fits beside the one that does not match, and only that one is removed.
    train = [demonstration(text) for text in ("plum jam", "plum jam crate jar", "plum jam crate lid", "plum jam crate box", CLEAN)]
    tests = [problem("plum jam crate day night")]
    orders = {"forth": train, "back": train[::-1]}
    kept = [Outcome(tmp_path / name, rows, tests, k=2, threshold=0.45).kept for name, rows in orders.items()]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 4


@pytest.mark.parametrize(
    ("options", "train", "reason"),
    [
        ({"exact": "fail"}, SHOUTED, "check 'exact', whose action is 'fail'"),
        ({"masked": "fail"}, RENUMBERED, "check 'masked'"),
        ({"jaccard": "fail"}, REWORDED, "check 'jaccard'"),
        ({"max_matches": 0}, SHOUTED, "more than max_matches = 0"),
    ],
)
def test_the_gate_fails_after_writing_the_report(options: dict[str, Any], train: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=reason):
        Outcome(tmp_path, [demonstration(train), demonstration(CLEAN)], [problem(TEST)], **options)
    assert [match.train_question for match in read_matches(tmp_path)] == [train]
    assert not (tmp_path / "train.jsonl").exists()


def test_matches_up_to_the_limit_pass(tmp_path: Path) -> None:
    assert Outcome(tmp_path, [demonstration(SHOUTED), demonstration(CLEAN)], [problem(TEST)], max_matches=1).kept == [CLEAN]


def test_a_pair_is_reported_under_the_gravest_action(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path, [demonstration(SHOUTED), demonstration(CLEAN)], [problem(TEST)], exact="report", masked="remove")
    assert [(match.check, match.action) for match in outcome.matches] == [("masked", "removed")]
    assert outcome.kept == [CLEAN]


@pytest.mark.parametrize("shown_by", ["train", "test"])
def test_options_shown_on_one_side_do_not_hide_a_match(shown_by: str, tmp_path: Path) -> None:
    options = "\nOptions: A) 8, B) 9, C) 10, D) 12, E) none of these"
    train, test = (TEST + options, TEST) if shown_by == "train" else (TEST, TEST + options)
    outcome = Outcome(tmp_path, [demonstration(train), demonstration(CLEAN)], [problem(test)], jaccard="off")
    assert [match.check for match in outcome.matches] == ["exact"]
    assert outcome.kept == [CLEAN]


def test_nothing_left_to_train_on_says_why(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutputError, match="1 rows in; dropped: 1 contaminated_exact"):
        Outcome(tmp_path, [demonstration(SHOUTED)], [problem(TEST)])


def test_no_solution_from_any_shard_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutputError, match=r"none of \d+ shards brought a solution[\s\S]*pays for none of them again"):
        Outcome(tmp_path, [], [problem(TEST)])


def test_no_benchmark_is_an_error_not_a_pass(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark problem"):
        Outcome(tmp_path, [demonstration(CLEAN)], [])


def test_the_pretraining_corpus_fails_or_reports(tmp_path: Path) -> None:
    corpus = [problem(CLEAN, "pretraining", "train"), problem(SHOUTED, "pretraining", "train")]
    with pytest.raises(GateError, match="check 'corpus'"):
        Outcome(tmp_path / "fail", [demonstration(CLEAN)], [problem(TEST)], corpus)
    assert [(match.check, match.action) for match in read_matches(tmp_path / "fail")] == [("corpus", "failed")]
    reported = Outcome(tmp_path / "report", [demonstration(CLEAN)], [problem(TEST)], corpus, corpus="report")
    assert [(match.check, match.action) for match in reported.matches] == [("corpus", "reported")]
    assert (reported.stage.counts["corpus_tests"], reported.stage.counts["corpus_problems"]) == (1, 2)
    assert reported.kept == [CLEAN]
    assert Outcome(tmp_path / "off", [demonstration(CLEAN)], [problem(TEST)], corpus, corpus="off").matches == []


def test_counts_per_check_and_benchmark(tmp_path: Path) -> None:
    tests = [problem(TEST, "one"), problem(TEST, "two"), problem("Where does the 9 o'clock train to Brno stop first?", "two")]
    counts = Outcome(tmp_path, [demonstration(SHOUTED), demonstration(REWORDED), demonstration(CLEAN)], tests).stage.counts
    assert (counts["test_problems"], counts["train_problems"]) == (3, 3)
    assert (counts["exact_tests"], counts["exact_train"], counts["exact_tests_one"], counts["exact_tests_two"]) == (2, 1, 1, 1)
    assert (counts["jaccard_tests"], counts["jaccard_train"]) == (2, 2)
    assert (counts["jaccard_n1_tests"], counts["jaccard_n3_tests"]) == (2, 2)


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("n", 0), ("threshold", 1.5), ("exact", "drop"), ("corpus", "remove"), ("limit", 3)])
def test_wrong_options_are_named(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=rf"contamination\.{name}"):
        parse_options(ContaminationOptions, {name: value}, "contamination")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (TEST, RENUMBERED, True),
        ("Ann has 3 cats.", "ANN has 1,203.5 cats", True),
        ("Ann has twenty-three cats.", "Ann has 3 cats.", True),
        ("Ann has one hundred and two cats.", "Ann has 3 cats.", True),
        ("Pay $5.50 now", "Pay $7 now", True),
        ("It was -5 degrees", "It was 12 degrees", True),
        ("a 24-pack", "a 6-pack", True),
        ("Ann has 3 cats.", "Eve has 3 cats.", False),
        ("Ann has 3 cats.", "Ann has 3 dogs.", False),
        ("What is 5 + 3?", "What is 5 * 3?", False),
        ("What is 5 - 3?", "What is 5 + 3?", False),
        ("often", "#", False),
        ("Ann has 3 of 4", "Ann has 3 or 4", False),
        ("between two and three", "between 5 and 7", True),
        ("two hundred and five cats", "9 cats", True),
        ("pages 3-4", "pages 3 4", False),
        ("a hundred and more", "3 and more", False),
        ("one", "and", False),
    ],
)
def test_numbers_and_nothing_else_are_masked(left: str, right: str, same: bool) -> None:
    assert (masked_form(left) == masked_form(right)) is same


def test_number_words_are_content_and_stop_words_are_not() -> None:
    assert content_tokens(exact_form("How many of the three boys' kites have flown away from 12 of them?")) == [
        "three",
        "boys",
        "kites",
        "flown",
        "away",
        "12",
    ]


WORDS = st.lists(st.sampled_from("abcde"), max_size=8)


@given(WORDS, WORDS)
def test_jaccard_is_symmetric_and_within_bounds(left: list[str], right: list[str]) -> None:
    for n in (1, 2, 3):
        value = jaccard(left, right, n)
        assert 0 <= value <= 1
        assert value == jaccard(right, left, n)
        assert jaccard(left, left, n) == (1.0 if len(left) >= n else 0.0)


def test_jaccard_of_a_worked_example() -> None:
    assert jaccard(["a", "b", "c", "d"], ["a", "b", "c", "e"], 1) == 3 / 5
    assert jaccard(["a", "b", "c", "d"], ["a", "b", "c", "e"], 2) == 2 / 4
    assert jaccard(["a", "b", "c", "d"], ["a", "b", "c", "e"], 3) == 1 / 3


def test_every_member_of_a_group_of_equal_texts_is_paired() -> None:
    pairs = list(equal_pairs(["x", "y", "x", "x", ""], ["x", "z", "x", ""]))
    assert {position for _, position in pairs} == {0, 2, 3}
    assert {test for test, _ in pairs} == {0, 2}
    assert len(pairs) == 3


def test_candidates_are_those_of_the_full_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    train = [" ".join(rng.choices([f"w{number}" for number in range(60)], k=12)) for _ in range(500)]
    tests = [" ".join(rng.choices([f"w{number}" for number in range(60)], k=12)) for _ in range(70)]
    places = list(range(len(tests)))
    whole = Nearest(train, tests).find(places, 10)
    monkeypatch.setattr(nearest_module, "TRAIN_BLOCK", 37)
    monkeypatch.setattr(nearest_module, "TEST_BLOCK", 9)
    for one, other in zip(whole, Nearest(train, tests).find(places, 10), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    from sklearn.feature_extraction.text import TfidfVectorizer

    matrix = TfidfVectorizer(analyzer=content_tokens).fit_transform(train + tests).toarray()
    reference = matrix[len(train) :] @ matrix[: len(train)].T
    for row, (positions, cosines) in zip(reference, whole, strict=True):
        np.testing.assert_allclose(cosines, np.sort(row)[::-1][:10], atol=1e-5)
        np.testing.assert_allclose(row[positions], cosines, atol=1e-5)


def test_ties_go_to_the_first_and_strangers_are_no_candidates() -> None:
    positions, cosines = Nearest(["red kite"] * 5 + ["green boat"], ["red kite"]).find([0], 3)[0]
    assert positions.tolist() == [0, 1, 2]
    np.testing.assert_allclose(cosines, 1.0, atol=1e-6)
    assert Nearest(["green boat"], ["red kite"]).find([0], 3)[0][0].tolist() == []
    assert Nearest(["of the"], ["of it"]).find([0], 3)[0][0].tolist() == []


def test_real_test_problems_are_all_found_among_many(shared_data: Path, tmp_path: Path) -> None:
    import json

    texts = {
        name: [json.loads(line)["question"] for line in (shared_data / "gsm8k" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("train", "test")
    }
    planted = texts["test"][:50]
    train = [demonstration(text) for text in texts["train"][:1500] + [text.upper() for text in planted]]
    outcome = Outcome(tmp_path, train, [problem(text, "gsm8k") for text in texts["test"][:400]])
    assert outcome.stage.counts["exact_tests"] == 50
    assert outcome.stage.dropped["contaminated_exact"] == 50
    assert not {text.upper() for text in planted} & set(outcome.kept)
    assert outcome.stage.counts["jaccard_tests"] < 55
