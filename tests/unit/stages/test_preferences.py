"""Preference pairs and labelled rows from judged samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.core.errors import InputError, ParameterError
from components.core.ledger.task_records import read_record
from components.core.options import parse_options
from components.core.records import Demonstration, JudgedSample, LabelledResponse, PreferencePair, read_records, write_records
from components.core.stage import StageRun
from components.preferences.options import PreferenceOptions
from components.preferences.pairing import choose_pairs
from components.preferences.stage import run
from components.preferences.steps import arithmetic_steps, cut_pair, first_wrong_step


def demonstration(name: str, sample: int = 0, solution: str = "") -> Demonstration:
    return Demonstration(
        id=f"t-{name}-{sample}", problem_id=name, source="own", question=f"question {name}",
        solution=solution or f"teacher {name} {sample}", answer="1", licence="Apache-2.0", method="seed", maker="teacher", sample=sample,
    )  # fmt: skip


def judged(name: str, sample: int, correct: bool, text: str = "") -> JudgedSample:
    return JudgedSample(
        id=f"s-{name}-{sample}", problem_id=name, question=f"question {name}", model="M1",
        sample=sample, text=text or f"{'right' if correct else 'wrong'} {name} {sample}",
        tokens=3, reference="1", answer="1", correct=correct, decided_by="rule",
    )  # fmt: skip


def build(
    folder: Path, samples: list[JudgedSample], solutions: list[Demonstration], seed: int = 0, **options: Any
) -> tuple[list[PreferencePair], list[LabelledResponse], StageRun]:
    half = len(samples) // 2
    files = [folder / "judged0.jsonl", folder / "judged1.jsonl"]
    write_records(files[0], samples[:half])
    write_records(files[1], samples[half:])
    write_records(folder / "train.jsonl", solutions)
    stage = StageRun("preferences")
    parsed = parse_options(PreferenceOptions, options, "preferences")
    run(files, folder / "train.jsonl", folder / "pairs.jsonl", folder / "labelled.jsonl", parsed, stage, seed=seed)
    return (
        list(read_records(folder / "pairs.jsonl", PreferencePair)),
        list(read_records(folder / "labelled.jsonl", LabelledResponse)),
        stage,
    )


def with_correct(name: str, correct: int, of: int = 4) -> list[JudgedSample]:
    return [judged(name, index, index < correct) for index in range(of)]


OTHERS = [f"other{index}" for index in range(6)]


@pytest.mark.parametrize(
    ("correct", "positives", "negatives", "pairs", "rows"),
    [(0, 1, 4, 4, 5), (1, 2, 3, 6, 5), (2, 3, 2, 6, 5), (3, 4, 1, 4, 5), (4, 5, 4, 20, 9)],
)
def test_counts_per_number_of_correct_responses(
    tmp_path: Path, correct: int, positives: int, negatives: int, pairs: int, rows: int
) -> None:
    samples = with_correct("p", correct) + [row for name in OTHERS for row in with_correct(name, 2)]
    all_pairs, all_rows, stage = build(tmp_path, samples, [demonstration(name) for name in ["p", *OTHERS]])
    own = [pair for pair in all_pairs if pair.problem_id == "p"]
    labelled = [row for row in all_rows if row.problem_id == "p"]
    assert len(own) == pairs
    assert len(labelled) == rows
    assert (sum(row.label for row in labelled), sum(not row.label for row in labelled)) == (positives, negatives)
    assert len({(pair.chosen, pair.rejected) for pair in own}) == pairs
    assert {pair.rejected_from for pair in own} == ({"synthetic"} if correct == 4 else {"student"})
    assert Counter(pair.chosen_from for pair in own)["teacher"] == negatives
    assert stage.counts["pairs"] == len(all_pairs)
    assert stage.counts["synthetic_pairs"] == (20 if correct == 4 else 0)
    assert stage.counts["synthetic_share"] == round(stage.counts["synthetic_pairs"] / len(all_pairs), 4)
    assert stage.counts["labelled"] == len(all_rows) == stage.counts["desirable"] + stage.counts["undesirable"]
    assert stage.counts["problems_all_correct"] == (correct == 4)
    assert stage.counts["problems_all_wrong"] == (correct == 0)
    assert stage.examples["pair"]


def test_synthetic_negatives_come_from_four_different_other_problems(tmp_path: Path) -> None:
    samples = with_correct("p", 4) + [row for name in OTHERS for row in with_correct(name, 1)]
    pairs, _, _ = build(tmp_path, samples, [demonstration(name) for name in ["p", *OTHERS]])
    lent = {pair.rejected_id for pair in pairs if pair.problem_id == "p"}
    assert len(lent) == 4
    assert len({name.split("-")[1] for name in lent}) == 4
    assert not any(name.startswith("s-p-") for name in lent)


def test_ablations(tmp_path: Path) -> None:
    samples = with_correct("p", 4) + with_correct("q", 2) + with_correct("r", 0)
    solutions = [demonstration(name) for name in "pqr"]
    pairs, _, stage = build(tmp_path, samples, solutions, student_positives=False)
    assert {pair.chosen_from for pair in pairs} == {"teacher"}
    assert Counter(pair.problem_id for pair in pairs) == {"p": 2, "q": 2, "r": 4}
    pairs, _, stage = build(tmp_path, samples, solutions, synthetic_negatives=0)
    assert stage.dropped == {"no_negative": 1}
    assert Counter(pair.problem_id for pair in pairs) == {"q": 6, "r": 4}
    assert stage.counts["synthetic_share"] == 0
    pairs, _, stage = build(tmp_path, samples, solutions, teacher_positives=False)
    assert stage.dropped == {"no_positive": 1}
    assert {pair.chosen_from for pair in pairs} == {"student"}


def test_same_input_in_another_order_gives_the_same_files(tmp_path: Path) -> None:
    samples = with_correct("p", 4) + [row for name in OTHERS for row in with_correct(name, 1)]
    solutions = [demonstration(name) for name in ["p", *OTHERS]]
    first = build(tmp_path, samples, solutions, max_pairs_per_problem=3)
    again = build(tmp_path, samples[::-1], solutions[::-1], max_pairs_per_problem=3)
    assert first[0] == again[0]
    assert first[1] == again[1]
    other_seed = build(tmp_path, samples, solutions, seed=1, max_pairs_per_problem=3)
    assert other_seed[0] != first[0]
    for rows in first[:2]:
        order = [row.problem_id for row in rows]
        assert order != sorted(order)


def test_a_text_is_never_both_right_and_wrong_nor_repeated(tmp_path: Path) -> None:
    samples = [judged("p", 0, True, "same"), judged("p", 1, False, "same "), judged("p", 2, False, "bad"), judged("p", 3, False, "bad")]
    pairs, rows, stage = build(tmp_path, [*samples, judged("p", 4, True, "teacher p 0")], [demonstration("p")])
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {("teacher p 0", "bad"), ("same", "bad")}
    assert len(pairs) == 2
    assert sorted((row.response, row.label) for row in rows) == [("bad", False), ("same", True), ("teacher p 0", True)]
    assert stage.counts["contradicting_negatives"] == 1
    assert {row.origin for row in rows if row.response == "teacher p 0"} == {"teacher"}


@pytest.mark.parametrize(
    ("correct", "options", "reason", "dropped", "labelled"),
    [
        ({"p": 4, "q": 4}, {}, "the student solved all 2 problems in all 4 samples", {"no_negative": 2}, 10),
        ({"p": 4, "q": 4}, {"synthetic_negatives": 0}, "the student solved all 2 problems in all 4 samples", {"no_negative": 2}, 0),
        (
            {"p": 0, "q": 0},
            {"teacher_positives": False},
            "the student solved none of the 2 problems in any of 4 samples",
            {"no_positive": 2},
            0,
        ),
        (
            {"p": 4, "q": 4, "r": 0},
            {"teacher_positives": False, "synthetic_negatives": 0},
            "of 3 problems the student solved 2 in every sample and 1 in none, and under these options no right response has a wrong one "
            "beside it (dropped: 2 no_negative and 1 no_positive)",
            {"no_negative": 2, "no_positive": 1},
            0,
        ),
        ({}, {}, "no response of the student was judged", {}, 0),
    ],
)
def test_a_round_without_pairs_says_why(
    tmp_path: Path, correct: dict[str, int], options: dict[str, Any], reason: str, dropped: dict[str, int], labelled: int
) -> None:
    samples = [row for name, count in correct.items() for row in with_correct(name, count)]
    pairs, rows, stage = build(tmp_path, samples, [demonstration(name) for name in correct], **options)
    assert (pairs, len(rows), stage.record().left_out, stage.dropped) == ([], labelled, reason, dropped)
    assert all(row.label for row in rows)
    assert (stage.rows_in, stage.rows_kept) == (len(correct), 0)
    assert (stage.counts["pairs"], stage.counts["synthetic_share"], stage.counts["labelled"]) == (0, 0, labelled)


def test_samples_of_different_number_and_contradictions_are_told_as_they_are(tmp_path: Path) -> None:
    samples = with_correct("p", 4) + with_correct("q", 2, of=2)
    assert (
        build(tmp_path, samples, [demonstration(name) for name in "pq"])[2].left_out
        == "the student solved all 2 problems in all their samples"
    )
    contradicting = [judged("p", 0, True, "same"), judged("p", 1, False, "same")]
    _, _, stage = build(tmp_path, contradicting, [demonstration("p")])
    assert stage.left_out.startswith("of 1 problems the student solved 0 in every sample and 0 in none")


def test_options_under_which_nothing_is_right_are_refused() -> None:
    with pytest.raises(ParameterError, match="at least one of teacher_positives and student_positives"):
        parse_options(PreferenceOptions, {"teacher_positives": False, "student_positives": False}, "preferences")


def test_sample_without_demonstration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="problem q has judged samples but no demonstration"):
        build(tmp_path, with_correct("p", 1) + with_correct("q", 1), [demonstration("p")])


@settings(deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 60), st.integers(0, 5))
def test_chosen_pairs_are_distinct_and_spread(positives: int, negatives: int, limit: int, seed: int) -> None:
    pairs = choose_pairs(positives, negatives, limit, seed, "p")
    assert len(pairs) == len(set(pairs)) == min(limit or 60, positives * negatives)
    for side, size in ((0, positives), (1, negatives)):
        used = Counter(pair[side] for pair in pairs)
        assert len(used) == min(size, len(pairs))
        if len(used) == size:
            assert max(used.values()) - min(used.values()) <= max(1, len(pairs) // size)


RIGHT = "First 3 * 4 = 12. So 12 + 5 = 17. #### 17"


@pytest.mark.parametrize(
    ("response", "step", "chosen", "rejected"),
    [
        ("First 3 * 4 = 12. So 12 + 6 = 18. #### 18", 2, RIGHT, "First 3 * 4 = 12. So 12 + 6 = 18."),
        ("First 3 * 4 = 11. So 11 + 5 = 16. #### 16", 1, RIGHT, "First 3 * 4 = 11."),
        ("First 3 + 4 = 7. So 7 + 5 = 12. #### 12", 1, RIGHT, "First 3 + 4 = 7."),
        ("Say 4 * 3 = 12, so 12 + 5 = 18. #### 18", 2, "Say 4 * 3 = 12, So 12 + 5 = 17. #### 17", "Say 4 * 3 = 12, so 12 + 5 = 18."),
        ("First 3 * 4 = 12. So 12 + 5 = 17. #### 12", 3, RIGHT, "First 3 * 4 = 12. So 12 + 5 = 17. #### 12"),
        ("So 3 * 4 = 12. #### 12", 2, "So 3 * 4 = 12. So 12 + 5 = 17. #### 17", "So 3 * 4 = 12. #### 12"),
        ("First 3 * 5 = 12. So 12 + 5 = 17. #### 16", 1, RIGHT, "First 3 * 5 = 12."),
        ("First 3 * 4 = 12. Then 6 * 2 = 12. #### 12", 2, RIGHT, "First 3 * 4 = 12. Then 6 * 2 = 12."),
        ("#### 9", None, None, None),
    ],
)  # fmt: skip
def test_cut_at_first_wrong_step(response: str, step: int | None, chosen: str | None, rejected: str | None) -> None:
    assert first_wrong_step(response, RIGHT) == step
    pair = cut_pair(RIGHT, response)
    assert ((pair.chosen, pair.rejected) if pair else (None, None)) == (chosen, rejected)


def test_steps_may_come_in_another_order() -> None:
    solution = "Red: 2 * 3 = 6.\nBlue: 4 * 5 = 20.\nTogether 6 + 20 = 26.\n#### 26"
    response = "Blue: 5 x 4 = 20.\nTogether 20 + 7 = 27.\n#### 27"
    pair = cut_pair(solution, response)
    assert pair is not None
    assert pair.shared == 1
    assert pair.chosen == "Blue: 5 x 4 = 20.\nRed: 2 * 3 = 6.\nTogether 6 + 20 = 26.\n#### 26"
    assert pair.rejected == "Blue: 5 x 4 = 20.\nTogether 20 + 7 = 27."


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("He sold 48/2 = <<48/2=24>>24 clips. Then 48+24 = <<48+24=72>>72.", [(24, True), (72, True)]),
        ("It costs $1,200 + $300 = $1,500. Half is 1500 / 2 = 700.", [(1500, True), (700, False)]),
        ("(2 + 3) * 4 = 20 and 10 / 3 = 3.33", [(20, True), (3.33, True)]),
        ("7 − 9 = -2, 2 × 3 = 6, 8 ÷ 4 = 2", [(-2, True), (6, True), (2, True)]),
        ("5 / 0 = 3 and x = 4", []),
        ("((((1 + = 2", []),
    ],
)
def test_steps_are_recomputed(text: str, values: list[tuple[float, bool]]) -> None:
    assert [(float(step.value), step.holds) for step in arithmetic_steps(text)] == values


@settings(deadline=None)
@given(st.text(alphabet="0123456789+-*/=().,$ \nxabc", max_size=80), st.text(alphabet="0123456789+-*/=() \n.", max_size=80))
def test_steps_never_raise_and_cover_the_text(response: str, solution: str) -> None:
    steps = arithmetic_steps(response)
    assert [step.start for step in steps] == [0, *(step.end for step in steps[:-1])][: len(steps)]
    pair = cut_pair(solution, response)
    assert (pair is None) == (not steps)
    if pair is not None:
        assert response.startswith(pair.rejected)


def test_cut_pairs_through_the_stage(tmp_path: Path) -> None:
    texts = ["First 3 * 4 = 12. So 12 + 6 = 18. #### 18", "First 3 * 4 = 12. So 12 + 6 = 18. #### 1", "no idea", RIGHT]
    samples = [judged("p", index, text == RIGHT, text) for index, text in enumerate(texts)]
    pairs, rows, stage = build(tmp_path, samples, [demonstration("p", solution=RIGHT)], negatives="cut_at_first_wrong_step")
    assert sorted((pair.chosen, pair.rejected) for pair in pairs) == [(RIGHT, "First 3 * 4 = 12. So 12 + 6 = 18."), (RIGHT, "no idea")]
    assert (stage.counts["cut_pairs"], stage.counts["repeated_pairs"]) == (1, 1)
    cut = "First 3 * 4 = 12. So 12 + 6 = 18."
    assert {pair.rejected: pair.rejected_cut for pair in pairs} == {cut: True, "no idea": False}
    assert {row.response: row.cut for row in rows} == {RIGHT: False, cut: True, "no idea": False}
    assert sorted(row.response for row in rows if not row.label) == ["First 3 * 4 = 12. So 12 + 6 = 18.", "no idea"]


def test_a_lent_response_is_never_cut(tmp_path: Path) -> None:
    """Its steps are those of another problem: where they differ from this one's solution says nothing."""
    lent = "First 2 * 3 = 6. So 6 + 1 = 8. #### 8"
    samples = [judged("p", index, True, RIGHT) for index in range(4)] + [
        judged("q", index, index < 3, text) for index, text in enumerate([RIGHT] * 3 + [lent])
    ]
    solutions = [demonstration(name, solution=RIGHT) for name in "pq"]
    pairs, rows, _ = build(tmp_path, samples, solutions, negatives="cut_at_first_wrong_step")
    cut = "First 2 * 3 = 6."
    assert {(pair.problem_id, pair.rejected, pair.rejected_cut) for pair in pairs} == {("p", lent, False), ("q", cut, True)}
    assert {(row.problem_id, row.response, row.cut) for row in rows if not row.label} == {("p", lent, False), ("q", cut, True)}


def test_component_runs(tmp_path: Path) -> None:
    component = pytest.importorskip("components.preferences.component")

    class Artifact:
        def __init__(self, name: str) -> None:
            self.path = str(tmp_path / name)
            self.metadata: dict[str, Any] = {}

    write_records(tmp_path / "judged", with_correct("p", 2))
    write_records(tmp_path / "train", [demonstration("p")])
    inputs, outputs = ([Artifact("judged")], Artifact("train")), (Artifact("pairs"), Artifact("labelled"))
    reference = component.build_preferences.python_func(*inputs, {"max_pairs_per_problem": 4.0}, 1, 0, str(tmp_path), *outputs)
    assert read_record(reference).task == "preferences M1"
    assert outputs[0].metadata["pairs"] == 4
