"""What the race's server does with a prompt. All of it follows from the prompt, so that every client meets the same."""

from __future__ import annotations

import hashlib
import math
import random
from statistics import NormalDist

import msgspec

FILLER = " ".join(f"Step {number}: the two amounts are added and the sum is written down." for number in range(1, 11))
"""Makes a reply about as long as the solution of a word problem."""


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How the server answers.

    Attributes:
        latency_s: Time to a reply; the median where ``sigma`` is not 0.
        sigma: Of the log-normal distribution of that time.
        longest_s: Cap of that time.
        error_share: Share of the attempts that get ``error_status``.
        error_status: HTTP status of those.
        retry_after_s: Sent with them where it is not 0.
        silent_after: Replies after which the server takes requests but answers no more; 0 for never.
    """

    latency_s: float = 0.05
    sigma: float = 0.0
    longest_s: float = 6.0
    error_share: float = 0.0
    error_status: int = 500
    retry_after_s: int = 0
    silent_after: int = 0


def _share(*parts: object) -> float:
    """A number between 0 and 1, evenly spread, that depends on nothing but the parts."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2**64


def prompt_key(prompt: str) -> str:
    """A short name of a prompt."""
    return hashlib.blake2b(prompt.encode(), digest_size=8).hexdigest()


def latency(behaviour: Behaviour, prompt: str) -> float:
    """Seconds until an attempt at this prompt is answered, with a reply or with an error."""
    if not behaviour.sigma:
        return behaviour.latency_s
    stretched = behaviour.latency_s * math.exp(behaviour.sigma * NormalDist().inv_cdf(_share("latency", prompt)))
    return min(behaviour.longest_s, stretched)


def fails(behaviour: Behaviour, prompt: str, attempt: int) -> bool:
    """Whether the n-th attempt (from 0) at this prompt gets an error."""
    return behaviour.error_share > 0 and _share("fault", prompt, attempt) < behaviour.error_share


def reply_to(prompt: str) -> str:
    """The text that answers a prompt."""
    return f"Reply {prompt_key(prompt)}. {FILLER}"


def make_prompts(count: int, name: str = "row") -> list[str]:
    """Distinct prompts, each about as long as a word problem with its instructions."""
    words = ["apples", "books", "coins", "days", "eggs", "friends", "games", "hours", "jars", "kites", "letters", "miles", "nuts", "pens"]
    prompts = []
    for number in range(count):
        rng = random.Random(f"{name} {number}")
        chosen = " ".join(f"{rng.randint(2, 99)} {rng.choice(words)}" for _ in range(20))
        prompts.append(f"Solve this problem step by step. Problem {name}-{number}: someone has {chosen}. How many is that in all?")
    return prompts
