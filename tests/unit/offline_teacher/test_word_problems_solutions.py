"""Worked solutions of word problems: true, faulty and judged step by step."""

from __future__ import annotations

import random
import re

import pytest

from components.word_problems.problems import WordProblem, first_wrong_step, generate_many, noisy_solution, parse, solution_text
from components.word_problems.solutions import calculations, stated_answer


@pytest.fixture(scope="module")
def problems() -> list[WordProblem]:
    return generate_many(11, 800)


@pytest.fixture(scope="module")
def three_steps() -> WordProblem:
    problem = parse("Ana has 3 boxes of 4 pens. Ana also has 2 bags of 5 pens. How many pens does Ana have in all?")
    assert problem is not None
    return problem


def test_canonical_wording(three_steps: WordProblem) -> None:
    assert solution_text(three_steps) == "First 3 * 4 = 12. Then 2 * 5 = 10. So 12 + 10 = 22. #### 22"
    one = parse("Ana has 30 pens. She gives away 4. How many pens does Ana have now?")
    assert one is not None
    assert solution_text(one) == "So 30 - 4 = 26. #### 26"


def test_wording_varies_only_in_words(problems: list[WordProblem]) -> None:
    rng = random.Random(0)
    texts = {solution_text(problems[0], rng) for _ in range(50)}
    assert len(texts) > 1
    for problem in problems:
        text = solution_text(problem, rng)
        assert calculations(text) == calculations(solution_text(problem))
        assert stated_answer(text) == problem.answer
        assert first_wrong_step(problem, text) is None


def test_noise_rate_and_form(problems: list[WordProblem]) -> None:
    rng = random.Random(5)
    noisy = [noisy_solution(problem, rng) for problem in problems]
    for problem, text in zip(problems, noisy, strict=True):
        assert len(calculations(text)) == len(problem.steps)
        assert re.fullmatch(r"(\w+ \d+ [-+*/] \d+ = \d+\. )+#### \d+", text)
    single = [(p, t) for p, t in zip(problems, noisy, strict=True) if len(p.steps) == 1]
    wrong = sum(first_wrong_step(p, t) is not None for p, t in single) / len(single)
    # 1 - .75 * .875 = .34 of the steps are touched; a swap of + or * operands does no harm.
    assert 0.2 < wrong < 0.4
    assert all(noisy_solution(p, rng, 0.0, 0.0) == solution_text(p) for p in problems[:100])
    assert all(first_wrong_step(p, noisy_solution(p, rng, 0.0, 1.0)) == 1 for p in problems[:100])


def test_faults_are_carried_on(three_steps: WordProblem) -> None:
    for seed in range(50):
        text = noisy_solution(three_steps, random.Random(seed), 0.0, 1.0)
        (_, _, _, first), (_, _, _, second), (left, _, right, last) = calculations(text)
        assert (left, right) == (first, second)
        assert stated_answer(text) == last


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("First 3 * 4 = 12. Then 2 * 5 = 10. So 12 + 10 = 22. #### 22", None),
        ("2 * 5 = 10, 4 × 3 = 12, 10 + 12 = 22", None),
        ("First 3 * 4 = 13. Then 2 * 5 = 10. So 13 + 10 = 23. #### 23", 1),
        ("First 3 * 4 = 12. Then 2 + 5 = 7. So 12 + 7 = 19. #### 19", 2),
        ("First 3 * 4 = 12. Then 2 * 5 = 10. So 12 - 10 = 2. #### 2", 3),
        ("First 3 * 4 = 12. Then 2 * 5 = 10. So 12 + 10 = 22. #### 12", 4),
        ("First 3 * 4 = 12. Then 2 * 5 = 10. #### 10", 3),
        ("First 3 * 4 = 12. So 12 + 10 = 22. #### 22", None),
        ("First 3 * 4 = 12. Then 4 * 3 = 12. So 12 + 10 = 22. #### 24", 2),
        ("First 3 + 4 = 7. So 12 + 10 = 22. #### 2", 1),
        ("I think it is 22.", None),
        ("I think it is 23.", 1),
        ("", 1),
    ],
)
def test_first_wrong_step(three_steps: WordProblem, text: str, wrong: int | None) -> None:
    assert first_wrong_step(three_steps, text) == wrong


def test_order_matters_for_minus(problems: list[WordProblem]) -> None:
    minus = next(p for p in problems if len(p.steps) == 1 and p.steps[0].op == "-")
    step = minus.steps[0]
    assert first_wrong_step(minus, f"So {step.right} - {step.left} = {step.value}. #### {step.value}") == 1
