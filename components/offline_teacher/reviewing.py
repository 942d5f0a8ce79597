"""Solutions, verdicts and step feedback."""

from __future__ import annotations

import re
from fractions import Fraction

from components.grading.answers import canonical, extract_answer
from components.offline_teacher.knowledge import CANNOT_SOLVE, Knowledge
from components.word_problems.problems import WordProblem, noisy_solution, parse, solution_text
from components.word_problems.solutions import calculation_verdicts, calculations, stated_answer

_NUMBER = r"(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"
_SUM = re.compile(
    # Not in the middle of a word, a number, a mixed number or an equation with letters: those are no calculations of plain numbers.
    rf"(?<![\w.,/%$])(?<!\d\s)(?<![-+*/×÷x]\s)(?<![-+*/×÷])({_NUMBER}(?:\s*[-+*/×÷]\s*{_NUMBER})+)"
    rf"\s*=\s*\$?\s*(-?{_NUMBER})(?![.,]?\d|[A-Za-z%]|\s*[-+*/×÷=])"
)
_STEP_NUMBER = re.compile(r"^\s*(?:step\s*)?\d+\s*[.):]\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_FINAL = re.compile(r"####.*", re.DOTALL)
_MARK = re.compile(r"(####\s*)(-?)(\d[\d,]*)")


def solve(problem: str, knowledge: Knowledge, sample: int) -> str:
    """A worked solution that ends with ``#### <answer>``; a refusal without that mark when the problem is not understood.

    The first sample has the canonical wording, others vary it.
    """
    entry = knowledge.key.find(problem)
    read = None if entry else parse(problem)
    chance = knowledge.chance("solve", problem, sample)
    wrong = knowledge.options.error_rate > 0 and chance.random() < knowledge.options.error_rate
    if entry:
        return _misstated(entry.solution) if wrong else entry.solution
    if read is None:
        return CANNOT_SOLVE
    if wrong:
        while stated_answer(text := noisy_solution(read, chance, 0.25, 0.5)) == read.answer:
            pass
        return text
    return solution_text(read, chance if sample else None)


def _misstated(solution: str) -> str:
    return _MARK.sub(lambda match: f"{match[1]}{match[2]}{int(match[3].replace(',', '')) + 1}", solution)


def judge(reference: str, student: str) -> str:
    """Three lines: the extracted answers and the verdict."""
    expected = extract_answer(reference)
    given = extract_answer(student)
    same = expected is not None and given is not None and canonical(expected) == canonical(given)
    return f"Reference: {expected or 'none'}\nStudent: {given or 'none'}\nVerdict: {'Correct' if same else 'Incorrect'}"


def solvable(problem: str, knowledge: Knowledge) -> str:
    """``Solvable:`` yes or no, and the reason."""
    if knowledge.key.find(problem) or parse(problem):
        return "Solvable: yes\nReason: Every number that is needed is given, and one answer follows."
    if "?" not in problem:
        return "Solvable: no\nReason: Nothing is asked."
    return "Solvable: no\nReason: The numbers do not lead to one sensible answer in a story that I understand."


def steps_of(solution: str) -> list[str]:
    """The steps of a solution: its lines, or its sentences when it has only one line; the line with the final answer is none."""
    lines = [line.strip() for line in _FINAL.sub("", solution).splitlines() if line.strip()]
    if len(lines) == 1:
        lines = [part for part in _SENTENCE_END.split(lines[0]) if part]
    return [_STEP_NUMBER.sub("", line) for line in lines]


def explain(problem: str, solution: str, reference: str, knowledge: Knowledge) -> str:
    """One line for each step, whose last word is the verdict on it."""
    steps = steps_of(solution)
    if not steps:
        return "There is no step to explain."
    entry = knowledge.key.find(problem)
    read = None if entry else parse(problem)
    reasons = _by_true_steps(read, steps, solution) if read else _by_arithmetic(steps)
    expected = str(read.answer) if read else entry.answer if entry else reference
    if not any(reasons) and not _reaches(expected, solution):
        reasons[-1] = f"The solution should end with {expected}, but it does not."
    return "\n".join(
        f"Step {number}: {reason + ' Incorrect' if reason else 'This follows, and the arithmetic holds. Correct'}"
        for number, reason in enumerate(reasons, start=1)
    )


def _reaches(expected: str, solution: str) -> bool:
    wanted = extract_answer(expected) if expected else None
    given = extract_answer(solution)
    return wanted is None or (given is not None and canonical(given) == canonical(wanted))


def _by_true_steps(problem: WordProblem, steps: list[str], solution: str) -> list[str]:
    verdicts = iter(calculation_verdicts(problem, solution))
    expected = "; ".join(step.text for step in problem.steps)
    reasons = []
    for step in steps:
        own = [(item, next(verdicts)) for item in calculations(step)]
        wrong = next((item for item, right in own if not right), None)
        reasons.append(
            f"{wrong[0]} {wrong[1]} {wrong[2]} = {wrong[3]} is not right here; the calculations needed are {expected}." if wrong else ""
        )
    return reasons


def _by_arithmetic(steps: list[str]) -> list[str]:
    reasons = []
    for step in steps:
        wrong = next((match for match in _SUM.finditer(step) if not _holds(match[1], match[2])), None)
        reasons.append(f"{wrong[1]} is not {wrong[2]}." if wrong else "")
    return reasons


def _holds(expression: str, result: str) -> bool:
    """Whether a chain of calculations gives the result, to the places that it is written with; * and / go before + and -."""
    plain = expression.replace(",", "").replace("×", "*").replace("÷", "/").replace(" ", "")
    total = Fraction(0)
    for sign, product in re.findall(r"(^|[+-])([\d.]+(?:[*/][\d.]+)*)", plain):
        first, *others = re.findall(r"(?:[*/])?[\d.]+", product)
        term = Fraction(first)
        for other in others:
            number = Fraction(other[1:])
            if other[0] == "/" and number == 0:
                return False
            term = term * number if other[0] == "*" else term / number
        total += -term if sign == "-" else term
    written = Fraction(result.replace(",", ""))
    places = len(result.partition(".")[2])
    return abs(total - written) <= Fraction(1, 2 * 10**places) if places else total == written
