"""From labelled responses to preference pairs and labelled rows (Orca-Math, arXiv 2402.14830, section 2.3)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm

from components.core.records import LabelledResponse, PreferencePair, row_id
from components.preferences.options import PreferenceOptions
from components.preferences.steps import cut_pair


@dataclass(frozen=True, slots=True)
class Response:
    """A text with where it comes from.

    Attributes:
        id: Id of the demonstration or of the sample.
        text: The response.
        origin: ``teacher``, ``student`` or ``synthetic``.
    """

    id: str
    text: str
    origin: str


@dataclass(slots=True)
class Candidates:
    """The positives (q+) and negatives (q-) of one problem."""

    problem_id: str
    question: str
    positives: list[Response] = field(default_factory=list)
    negatives: list[Response] = field(default_factory=list)

    def settle(self) -> int:
        """Remove repeated texts, and negatives whose text is also a positive.

        Returns:
            How many negatives were removed for contradicting a positive.
        """
        self.positives = _distinct(self.positives)
        negatives = _distinct(self.negatives)
        good = {_key(response) for response in self.positives}
        self.negatives = [response for response in negatives if _key(response) not in good]
        return len(negatives) - len(self.negatives)


def lend_negatives(problem: Candidates, lenders: Sequence[Candidates], count: int, seed: int) -> list[Response]:
    """Synthetic negatives: one wrong response from each of ``count`` other problems that have any.

    Args:
        problem: A problem without negatives.
        lenders: Problems with negatives, in a fixed order.
        count: How many are wanted; fewer come back when there are fewer lenders.
        seed: Seed of the choice; it depends on the problem's id too, not on the order of the problems.

    Returns:
        Responses with origin ``synthetic``; none of them has the text of a positive of the problem.
    """
    generator = random.Random(row_id("synthetic", seed, problem.problem_id))
    taken = {_key(response) for response in problem.positives}
    lent: list[Response] = []
    for index in generator.sample(range(len(lenders)), min(len(lenders), 4 * count)):
        if len(lent) == count:
            break
        choice = generator.choice(lenders[index].negatives)
        if _key(choice) not in taken:
            taken.add(_key(choice))
            lent.append(Response(choice.id, choice.text, "synthetic"))
    return lent


def choose_pairs(positives: int, negatives: int, limit: int, seed: int, problem_id: str) -> list[tuple[int, int]]:
    """Indices of the pairs of one problem: the cross product, or a part of it.

    Args:
        positives: Number of positives.
        negatives: Number of negatives.
        limit: Most pairs; 0 for all. The chosen ones run along the diagonals of the product, so every response is used before any is
            used much more often than another.
        seed: Seed of the choice.
        problem_id: The choice depends on it, so that problems do not all choose alike.

    Returns:
        Pairs (index of the positive, index of the negative), each at most once.
    """
    if not limit or positives * negatives <= limit:
        return [(positive, negative) for positive in range(positives) for negative in range(negatives)]
    generator = random.Random(row_id("pairs", seed, problem_id))
    chosen_order, rejected_order = list(range(positives)), list(range(negatives))
    generator.shuffle(chosen_order)
    generator.shuffle(rejected_order)
    pairs: list[tuple[int, int]] = []
    for turn in range(positives * negatives):
        column = turn % negatives
        row = (turn + turn // lcm(positives, negatives)) % positives
        pairs.append((chosen_order[row], rejected_order[column]))
    return pairs[:limit]


def make_pair(problem: Candidates, positive: Response, negative: Response, options: PreferenceOptions) -> PreferencePair:
    """One DPO row, its rejected side cut at the first wrong step where the options say so."""
    chosen, rejected, cut = positive.text, negative.text, False
    if options.negatives == "cut_at_first_wrong_step" and negative.origin == "student":
        spliced = cut_pair(positive.text, negative.text)
        if spliced is not None and spliced.chosen.strip() != spliced.rejected.strip():
            chosen, rejected, cut = spliced.chosen, spliced.rejected, True
    return PreferencePair(
        id=row_id(problem.problem_id, positive.id, negative.id, options.negatives),
        problem_id=problem.problem_id,
        question=problem.question,
        chosen=chosen,
        rejected=rejected,
        chosen_from=positive.origin,
        rejected_from=negative.origin,
        chosen_id=positive.id,
        rejected_id=negative.id,
        rejected_cut=cut,
    )


def labelled_rows(problem: Candidates, options: PreferenceOptions) -> Iterator[LabelledResponse]:
    """The KTO rows of one problem: every positive and every negative once, whatever the number of its pairs."""
    seen: set[str] = set()
    for label, responses in ((True, problem.positives), (False, problem.negatives)):
        for response in responses:
            text, cut = response.text, False
            if not label and options.negatives == "cut_at_first_wrong_step" and response.origin == "student":
                spliced = cut_pair(problem.positives[0].text, response.text)
                if spliced is not None:
                    text, cut = spliced.rejected, True
            if text in seen:
                continue
            seen.add(text)
            yield LabelledResponse(
                id=row_id(problem.problem_id, response.id, label, options.negatives),
                problem_id=problem.problem_id,
                question=problem.question,
                response=text,
                label=label,
                cut=cut,
                origin=response.origin,
                response_id=response.id,
            )


def all_right_or_wrong(correct: Mapping[str, Sequence[bool]]) -> tuple[int, int]:
    """How many problems had only right responses, and how many only wrong ones."""
    return sum(all(flags) for flags in correct.values()), sum(not any(flags) for flags in correct.values())


def why_no_pair(correct: Mapping[str, Sequence[bool]], dropped: Mapping[str, int]) -> str:
    """Why a round has no pair, in words and figures.

    Args:
        correct: Problem to whether each of its responses was right.
        dropped: Reason to number of problems that had nothing to pair.
    """
    problems = len(correct)
    if not problems:
        return "no response of the student was judged"
    right, wrong = all_right_or_wrong(correct)
    sizes = {len(flags) for flags in correct.values()}
    samples = f"{sizes.pop()} samples" if len(sizes) == 1 else "their samples"
    if right == problems and dropped.keys() == {"no_negative"}:
        return f"the student solved all {problems} problems in all {samples}"
    if wrong == problems and dropped.keys() == {"no_positive"}:
        return f"the student solved none of the {problems} problems in any of {samples}"
    reasons = " and ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
    return (
        f"of {problems} problems the student solved {right} in every sample and {wrong} in none, "
        f"and under these options no right response has a wrong one beside it (dropped: {reasons})"
    )


def _key(response: Response) -> str:
    return " ".join(response.text.split())


def _distinct(responses: list[Response]) -> list[Response]:
    kept: dict[str, Response] = {}
    for response in responses:
        kept.setdefault(_key(response), response)
    return list(kept.values())
