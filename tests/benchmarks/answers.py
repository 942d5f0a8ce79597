"""Checks of answers a second, beside those of math-verify in the same process on the same pairs.

    python -m tests.benchmarks.answers

Each contender reads both texts and compares them. Shown is the best of several rounds, since other work on the machine only slows
a round down; what counts is the ratio.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable

from components.grading.answers import compare

ROUNDS = 3
PAIRS = {
    "whole numbers": [(str(number), f"{number + number % 2}") for number in range(2000)],
    "money": [(f"{number}.5", f"${number}.50") for number in range(2000)],
}
Check = Callable[[str, str], object]


def per_second(check: Check, pairs: list[tuple[str, str]]) -> float:
    """Checks a second of processor time, the best of :data:`ROUNDS`."""
    best = 0.0
    for _ in range(ROUNDS):
        started = time.process_time()
        for reference, answer in pairs:
            check(reference, answer)
        best = max(best, len(pairs) / (time.process_time() - started))
    return best


def contenders() -> dict[str, Check]:
    """Name to check; math-verify's only where it is installed."""
    found: dict[str, Check] = {"ours": compare}
    if importlib.util.find_spec("math_verify"):
        from math_verify import parse, verify

        found["math-verify"] = lambda reference, answer: verify(parse(f"${reference}$"), parse(f"${answer}$"))
    return found


def main() -> None:
    """Print a line for each kind of pairs."""
    for kind, pairs in PAIRS.items():
        # A tenth is enough of what takes a millisecond each.
        rates = {name: per_second(check, pairs if name == "ours" else pairs[::10]) for name, check in contenders().items()}
        told = ", ".join(f"{name} {rate:,.0f} a second" for name, rate in rates.items())
        ratio = f"; ratio {rates['ours'] / rates['math-verify']:,.0f}" if len(rates) > 1 else ""
        print(f"{kind}: {told}{ratio}")


if __name__ == "__main__":
    main()
