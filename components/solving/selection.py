"""Which solutions of one problem are kept, and why the others are not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from components.core.records import Demonstration, Problem, row_id
from components.grading.answers import canonical, compare, extract_answer, is_correct
from components.grading.text import last_boxed
from components.solving.options import SolvingOptions

GOLD = "gold"


@dataclass(frozen=True)
class Solution:
    """A worked solution as it came from the teacher.

    Attributes:
        sample: Index among the solutions of its problem.
        text: The solution.
        complete: False when the reply was cut off.
    """

    sample: int
    text: str
    complete: bool = True


@dataclass
class Selection:
    """Solutions of one problem.

    Attributes:
        kept: Solution and its short answer.
        dropped: Reason for each that is not kept.
        rejected: These solutions, in the same order.
        checked: Solutions compared with a gold answer.
        wrong: Those among them that did not reach it.
    """

    kept: list[tuple[Solution, str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    rejected: list[Solution] = field(default_factory=list)
    checked: int = 0
    wrong: int = 0

    def drop(self, reason: str, solution: Solution) -> None:
        """Leave a solution out."""
        self.dropped.append(reason)
        self.rejected.append(solution)


def select(problem: Problem, solutions: list[Solution], options: SolvingOptions) -> Selection:
    """Choose among the teacher's solutions of one problem.

    A gold answer, where there is one, decides alone; the vote serves problems that nobody vouches for.

    Args:
        problem: The problem.
        solutions: In the order of their index.
        options: The stage's options.
    """
    selection = Selection()
    texts: set[str] = set()
    for solution in solutions:
        answer = _stated_answer(solution.text)
        if not solution.complete or (options.max_solution_chars and len(solution.text) > options.max_solution_chars):
            selection.drop("too_long", solution)
        elif answer is None:
            selection.drop("no_answer", solution)
        elif solution.text in texts:
            selection.drop("duplicate_solution", solution)
        else:
            texts.add(solution.text)
            selection.kept.append((solution, answer))
    if problem.answer is not None:
        _compare_with_gold(problem, problem.answer, selection, options)
    elif votes(problem, options):
        _vote(selection)
    return selection


def votes(problem: Problem, options: SolvingOptions) -> bool:
    """Whether the solutions of a problem vote."""
    return problem.answer is None and options.majority_vote and options.n > 1


def _stated_answer(text: str) -> str | None:
    """The answer that a solution states; a bare word without a mark (a greeting, a refusal) is none to learn from."""
    answer = extract_answer(text)
    if answer is None or any(character.isdigit() for character in answer):
        return answer
    return answer if extract_answer(text, "strict") is not None or last_boxed(text) is not None else None


def _compare_with_gold(problem: Problem, gold: str, selection: Selection, options: SolvingOptions) -> None:
    kept = []
    for solution, answer in selection.kept:
        verdict = is_correct(gold, solution.text, problem.alternatives).correct
        if verdict is not None:
            selection.checked += 1
            selection.wrong += not verdict
        if verdict or not options.gold_filter:
            kept.append((solution, answer))
        else:
            selection.drop("gold_undecided" if verdict is None else "not_gold", solution)
    selection.kept = kept


def _vote(selection: Selection) -> None:
    """Keep the solutions of the most frequent answer; none when two answers share the first place."""
    groups: dict[str, str] = {}
    labels = []
    for _, answer in selection.kept:
        form = canonical(answer)
        # Different spellings that the comparison takes for equal vote together.
        label = form if form in groups else next((known for known, text in groups.items() if compare(text, answer)), form)
        groups.setdefault(label, answer)
        labels.append(label)
    ranking = Counter(labels).most_common(2)
    if not ranking:
        return
    if len(ranking) == 2 and ranking[0][1] == ranking[1][1]:
        for solution, _ in selection.kept:
            selection.drop("vote_tied", solution)
        selection.kept = []
        return
    for (solution, _), label in zip(selection.kept, labels, strict=True):
        if label != ranking[0][0]:
            selection.drop("outvoted", solution)
    selection.kept = [pair for pair, label in zip(selection.kept, labels, strict=True) if label == ranking[0][0]]


def demonstration(problem: Problem, solution: str, answer: str, maker: str, prompt: str = "", sample: int = 0) -> Demonstration:
    """A row of the SFT set."""
    return Demonstration(
        id=row_id(problem.id, solution),
        problem_id=problem.id,
        source=problem.source,
        question=problem.question,
        solution=solution,
        answer=answer,
        alternatives=problem.alternatives,
        steps=problem.steps,
        licence=problem.licence,
        method=problem.method,
        parents=problem.parents,
        maker=maker,
        prompt=prompt,
        sample=sample,
    )
