"""Counts what was asked and what was paid for."""

from __future__ import annotations

from collections import Counter


class Statistics:
    """Counts of requests. "Paid" is a reply that was sent out whole: what an endpoint would put on the bill."""

    def __init__(self) -> None:
        self._received: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._paid: Counter[str] = Counter()
        self._paid_by_task: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._in_flight = 0
        self._most_in_flight = 0

    def received(self, task: str) -> None:
        """A request came in."""
        self._received[task] += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)

    def answered(self, outcome: str) -> None:
        """A request was answered or dropped; ``outcome`` is the name of the fault, or ``none``."""
        self._outcomes[outcome] += 1
        self._in_flight -= 1

    def paid(self, task: str, digest: str, prompt_tokens: int, completion_tokens: int) -> None:
        """A whole reply was sent."""
        self._paid[digest] += 1
        self._paid_by_task[task] += 1
        self._tokens["prompt"] += prompt_tokens
        self._tokens["completion"] += completion_tokens

    def as_dict(self) -> dict[str, object]:
        """The counts, for ``GET /admin/stats``.

        ``duplicates`` is the number of replies beyond the first to the very same request; ``faults`` counts by kind.
        """
        faults = {name: count for name, count in self._outcomes.items() if name != "none"}
        return {
            "received": sum(self._received.values()),
            "received_by_task": dict(self._received),
            "paid": sum(self._paid.values()),
            "paid_by_task": dict(self._paid_by_task),
            "distinct": len(self._paid),
            "duplicates": sum(self._paid.values()) - len(self._paid),
            "faults": faults,
            "prompt_tokens": self._tokens["prompt"],
            "completion_tokens": self._tokens["completion"],
            "most_in_flight": self._most_in_flight,
        }
