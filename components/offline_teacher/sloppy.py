"""Replies as a careless model writes them: chatter around the text, Markdown, bullets, labels lost or changed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_LABEL = re.compile(r"^(Target|Question|Problem|Reference|Student|Verdict|Solvable|Reason|Step \d+)(:)", re.MULTILINE)
_NUMBERED = re.compile(r"^\d+\. ", re.MULTILINE)


def _chatter(text: str, chance: random.Random) -> str:
    before = chance.choice(("Sure! Here you go:", "Of course. Let me help with that.", "Great question!"))
    after = chance.choice(("I hope this helps!", "Let me know if you need anything else.", ""))
    return f"{before}\n\n{text}\n\n{after}".strip()


def _bold(text: str, chance: random.Random) -> str:
    return _LABEL.sub(chance.choice((r"**\1\2**", r"**\1**\2", r"### \1\2")), text)


def _bullets(text: str, chance: random.Random) -> str:
    bullet = chance.choice(("- ", "* ", "• "))
    return "\n".join(bullet + _NUMBERED.sub("", line) if line.strip() else line for line in text.split("\n"))


def _unlabelled(text: str, chance: random.Random) -> str:
    return _LABEL.sub("", text).replace("#### ", chance.choice(("The answer is ", "Answer: ", "")))


def _lower(text: str, chance: random.Random) -> str:
    return _LABEL.sub(lambda match: match[0].lower() if chance.random() < 0.5 else match[0].upper(), text)


def _fenced(text: str, chance: random.Random) -> str:
    return f"```{chance.choice(('', 'text', 'markdown'))}\n{text}\n```"


def _breathless(text: str, chance: random.Random) -> str:
    return re.sub(r"\n+", chance.choice(("\n\n\n", "  \n", "\r\n")), text)


_HABITS: tuple[Callable[[str, random.Random], str], ...] = (_chatter, _bold, _bullets, _unlabelled, _lower, _fenced, _breathless)


def sloppy(text: str, chance: random.Random) -> str:
    """Spoil the form of a reply by one or two bad habits; the words that matter stay.

    Args:
        text: The reply.
        chance: Source of chance.
    """
    wanted = chance.randint(1, 2)
    spoilt = text
    for habit in chance.sample(_HABITS, len(_HABITS)):
        if wanted and (worse := habit(spoilt, chance)) != spoilt:
            spoilt, wanted = worse, wanted - 1
    return spoilt
