"""The statistics against published values and against definitions written out."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from components.core.records import Score
from components.stats.differences import difference
from components.stats.paired import bootstrap_interval, mcnemar_p, paired_interval
from components.stats.pools import best_of_n, majority_at_n, majority_correct, pass_at_n, pass_ratio, sizes
from components.stats.proportions import mean, wilson_interval


def score(model: str, right: int, n: int) -> Score:
    low, high = wilson_interval(right, n)
    return Score(model=model, benchmark="set", n=n, pass_at_1=right / n, low=low, high=high)


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1120, 1319, 0.8287, 0.8675), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(right: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(right, trials) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_holds_the_share_exactly() -> None:
    for trials in range(1, 60):
        for right in range(trials + 1):
            low, high = wilson_interval(right, trials)
            assert 0 <= low <= right / trials <= high <= 1


@given(st.integers(1, 7).flatmap(lambda pool: st.tuples(st.lists(st.booleans(), min_size=pool, max_size=pool), st.integers(1, pool))))
def test_pass_at_n_is_the_mean_over_all_subsets(case: tuple[list[bool], int]) -> None:
    samples, n = case
    subsets = list(itertools.combinations(samples, n))
    assert pass_at_n(sum(samples), len(samples), n) == pytest.approx(sum(any(subset) for subset in subsets) / len(subsets))


@pytest.mark.parametrize("n", [0, 9])
def test_pass_at_n_needs_n_within_the_pool(n: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        pass_at_n(3, 8, n)


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["3", "4", "3"], [True, False, True], True),
        (["3", "4", "4"], [True, False, False], False),
        (["4", "3", None, None, None], [False, True, False, False, False], False),
        (["3", "4"], [True, False], True),
        ([None, None], [False, False], False),
        ([], [], False),
    ],
)
def test_majority(answers: list[str | None], correct: list[bool], expected: bool) -> None:
    assert majority_correct(answers, correct) is expected


def test_majority_of_one_is_the_pass_ratio_on_average() -> None:
    pools = [(["3", "4", "5", "3"], [True, False, False, True])] * 50
    assert majority_at_n(pools, 1, 40) == pytest.approx(0.5, abs=0.05)
    assert majority_at_n(pools, 4, 1) == 1.0


def test_sizes_and_pass_ratio() -> None:
    assert [sizes(pool) for pool in (0, 1, 8, 20)] == [[], [1], [1, 2, 4, 8], [1, 2, 4, 8, 16, 20]]
    assert pass_ratio([[True, False], [True, True]]) == 0.75


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_sign_test(first: int, second: int) -> None:
    n, smaller = first + second, min(first, second)
    tail = sum(math.comb(n, count) for count in range(smaller + 1)) / 2**n
    assert mcnemar_p(first, second) == pytest.approx(min(1.0, 2 * tail) if n else 1.0)


def test_bootstrap_interval_agrees_with_resampling_problem_by_problem() -> None:
    import numpy as np

    differences = np.array([1] * 40 + [-1] * 15 + [0] * 145)
    drawn = np.random.default_rng(1).choice(differences, size=(20_000, len(differences))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert bootstrap_interval(40, 15, 200, 20_000) == pytest.approx((low, high), abs=0.006)


@pytest.mark.parametrize(
    ("first", "second", "n1", "n2", "low", "high"),
    [
        # Newcombe 1998, table II, method 10, examples (a), (b), (e) and (g).
        (56, 48, 70, 80, 0.0524, 0.3339),
        (9, 3, 10, 10, 0.1705, 0.8090),
        (5, 0, 56, 29, -0.0381, 0.1926),
        (10, 0, 10, 10, 0.6075, 1.0000),
    ],
)
def test_interval_of_a_difference(first: int, second: int, n1: int, n2: int, low: float, high: float) -> None:
    change = difference(score("a", first, n1), score("b", second, n2))
    assert change.low == pytest.approx(low, abs=5e-4)
    assert change.high == pytest.approx(high, abs=5e-4)


def test_interval_of_a_difference_on_the_same_problems() -> None:
    """130 both, 40 the first only, 20 the second only, 110 neither: for so many problems close to the simple paired interval."""
    one = msgspec.structs.replace(score("a", 170, 300), correct="1" * 130 + "1" * 40 + "0" * 20 + "0" * 110)
    other = msgspec.structs.replace(score("b", 150, 300), correct="1" * 130 + "0" * 40 + "1" * 20 + "0" * 110)
    change = difference(one, other)
    error = math.sqrt(60 - 20**2 / 300) / 300
    assert change.method == "paired"
    assert change.low == pytest.approx(20 / 300 - 1.96 * error, abs=5e-3)
    assert change.high == pytest.approx(20 / 300 + 1.96 * error, abs=5e-3)
    unpaired = difference(score("a", 170, 300), score("b", 150, 300))
    assert unpaired.method == "independent" and unpaired.low < change.low < change.high < unpaired.high


def test_paired_interval_is_students_t_on_the_differences() -> None:
    mean, low, high = paired_interval([0.5, 0.6, 0.7], [0.4, 0.55, 0.55])
    assert mean == pytest.approx(0.1)
    half = 4.302653 * 0.05 / math.sqrt(3)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)


def test_one_seed_has_no_interval() -> None:
    assert paired_interval([0.5], [0.4])[1:] == (-math.inf, math.inf)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(case: tuple[int, int]) -> None:
    bounds = binomtest(*case).proportion_ci(method="wilson")
    assert wilson_interval(*case) == pytest.approx((bounds.low, bounds.high), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        # 2 * (C(10,0) + C(10,1)) / 2^10, and so on.
        (9, 1, 22 / 1024),
        (1, 9, 22 / 1024),
        (6, 0, 2 / 64),
    ],
)
def test_mcnemar_by_hand(first: int, second: int, p: float) -> None:
    assert mcnemar_p(first, second) == pytest.approx(p)


def test_the_mean_of_nothing_is_zero() -> None:
    assert (mean([]), mean([1.0, 2.0])) == (0.0, 1.5)


def test_what_generates_needs_no_scipy() -> None:
    """The images of training and of generation hold all of this folder, and no scipy."""
    code = (
        "import sys; sys.modules['scipy'] = None; import components.stats.paired, components.stats.differences, components.stats.pools; "
        "print(components.stats.pools.pass_at_n(1, 4, 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.5"


def test_best_of_n_is_the_mean_over_all_draws() -> None:
    scores, correct = [0.3, 0.9, 0.1, 0.9, -2.0], [True, False, True, True, False]
    for n in range(1, 6):
        draws = list(itertools.combinations(range(5), n))
        expected = sum(correct[max(draw, key=lambda place: scores[place])] for draw in draws) / len(draws)
        assert best_of_n([(scores, correct)], n) == pytest.approx(expected)
    assert best_of_n([(scores, correct), ([1.0] * 5, [True] * 5)], 5) == 0.5
    assert best_of_n([], 3) == 0.0


@pytest.mark.parametrize(("scores", "n"), [([1.0, 2.0], 0), ([1.0, 2.0], 3), ([1.0], 1), ([1.0, math.nan], 1)])
def test_best_of_n_refuses_what_is_no_pool(scores: list[float], n: int) -> None:
    with pytest.raises(ValueError):
        best_of_n([(scores, [True, False])], n)
