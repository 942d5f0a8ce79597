"""Problems made from problems: Ask-Me-Anything, Suggester, Editor, and problems written from nothing."""

from __future__ import annotations

import random
import re

from components.offline_teacher.knowledge import CANNOT_REWRITE, Knowledge
from components.word_problems.problems import MOVES, WordProblem, generate, harden, parse, retarget

_SUGGESTIONS = {
    "add_step": (
        "Let one more thing happen at the end of the story, so that another calculation is needed.",
        "Add another event after the last one, with a number of its own.",
        "Carry the story on by one more step before the question.",
    ),
    "split_quantity": (
        "Split the first amount: give two numbers that must be combined to get it.",
        "Do not state the first amount outright; split it into groups or into two kinds.",
    ),
    "larger_numbers": (
        "Use larger numbers, so that the calculation takes more care.",
        "Make the numbers larger while keeping the story as it is.",
    ),
    "hide_quantity": (
        "Tell the result and ask for one of the given numbers instead.",
        "Swap what is known with what is asked: hide one of the given numbers.",
    ),
}
_KEYWORDS = {
    "hide_quantity": re.compile(r"\b(hide|swap|unknown|instead|revers\w+|backwards|ask for)\b", re.IGNORECASE),
    "split_quantity": re.compile(r"\b(split|groups?|two kinds|combine\w*|break up)\b", re.IGNORECASE),
    "larger_numbers": re.compile(r"\b(larger|bigger|greater|higher) (numbers?|values?|amounts?)|numbers? larger", re.IGNORECASE),
    "add_step": re.compile(r"\b(add|another|more|also|event|step|then|after)\b", re.IGNORECASE),
}
_ITEM = re.compile(r"^\s*(?:\d+\s*[.):]|[-*•])\s*(.+)$", re.MULTILINE)
_MOVES_AT_ONCE = 2
_SECOND_MOVE = 0.3
"""How often the Editor takes up two suggestions at once (our choice)."""
_MAX_SUGGESTIONS = 4


def ask_me_anything(problem: str) -> str:
    """Blocks of ``Target:`` and ``Question:``, one for each quantity that can become the unknown; a refusal without any block else."""
    read = parse(problem)
    turned = retarget(read) if read else []
    return "\n\n".join(f"Target: {target}\nQuestion: {new.question}" for target, new in turned) or CANNOT_REWRITE


def suggest(problem: str, knowledge: Knowledge, sample: int) -> str:
    """A numbered list of moves that apply to the problem; a refusal without any number else."""
    read = parse(problem)
    if read is None:
        return CANNOT_REWRITE
    chance = knowledge.chance("suggest", problem, sample)
    moves = [move for move in MOVES if _apply(read, move, chance, knowledge)]
    chance.shuffle(moves)
    lines = [f"{number}. {chance.choice(_SUGGESTIONS[move])}" for number, move in enumerate(moves[:_MAX_SUGGESTIONS], start=1)]
    return "\n".join(lines) or CANNOT_REWRITE


def edit(problem: str, suggestions: str, knowledge: Knowledge, sample: int) -> str:
    """``Problem:`` with a harder problem that takes up one or two of the suggestions; a refusal without that label else."""
    read = parse(problem)
    if read is None:
        return CANNOT_REWRITE
    chance = knowledge.chance("edit", problem, suggestions, sample)
    moves = _wanted(suggestions) or list(MOVES)
    chance.shuffle(moves)
    harder = read
    left = _MOVES_AT_ONCE if chance.random() < _SECOND_MOVE else 1
    for move in moves:
        made = _apply(harder, move, chance, knowledge) if left else None
        if made:
            harder, left = made, left - 1
    return CANNOT_REWRITE if harder is read else f"Problem: {harder.question}"


def generate_problem(request: str, knowledge: Knowledge, sample: int) -> str:
    """``Problem:`` with a new problem; the same request and sample always give the same one."""
    chance = knowledge.chance("generate", request, sample)
    return f"Problem: {generate(chance, max_steps=knowledge.options.max_steps, max_number=knowledge.options.max_number).question}"


def _apply(problem: WordProblem, move: str, chance: random.Random, knowledge: Knowledge) -> WordProblem | None:
    return harden(problem, chance, move, max_steps=knowledge.options.max_steps, max_number=knowledge.options.max_number)


def _wanted(suggestions: str) -> list[str]:
    """The moves that the suggestions describe, in our words or, roughly, in anybody's."""
    items = _ITEM.findall(suggestions) or [suggestions]
    moves = [next((move for move, words in _KEYWORDS.items() if words.search(item)), None) for item in items]
    return [move for move in dict.fromkeys(moves) if move]
