"""Prometheus metrics of the teacher's client, in the registry of the task."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from components.core.metrics.telemetry import LABELS, bounded, registry, task_labels
from components.core.stage import StageRun

_requests = Counter("tutorloop_teacher_requests", "Attempts sent to the teacher, by outcome", (*LABELS, "outcome"), registry=registry)
_latency = Histogram(
    "tutorloop_teacher_request_seconds",
    "Duration of one attempt",
    LABELS,
    registry=registry,
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
_in_flight = Gauge("tutorloop_teacher_in_flight", "Attempts that wait for the teacher's reply", LABELS, registry=registry)
_tokens = Counter("tutorloop_teacher_tokens", "Tokens paid for", (*LABELS, "kind"), registry=registry)
_dollars = Counter("tutorloop_teacher_usd", "Dollars paid", LABELS, registry=registry)
_cache_hits = Counter("tutorloop_teacher_cache_hits", "Requests answered by the response store", LABELS, registry=registry)
_budget_used = Gauge("tutorloop_teacher_budget_used_ratio", "Share of a limit that is spent", (*LABELS, "limit"), registry=registry)
_budget_left = Gauge(
    "tutorloop_teacher_budget_left", "What a limit leaves, in its unit: tokens or dollars", (*LABELS, "limit"), registry=registry
)
_window = Gauge("tutorloop_teacher_window", "Attempts that may be under way at once, as of now", LABELS, registry=registry)
_circuit = Gauge("tutorloop_teacher_circuit_open", "1 while the endpoint is taken for down", LABELS, registry=registry)
_shared_waits = Counter(
    "tutorloop_teacher_shared_waits",
    "Requests that another process was asking already, and that were not sent again",
    LABELS,
    registry=registry,
)
_retries = Counter("tutorloop_teacher_retries", "Further attempts after a failed one", LABELS, registry=registry)


class TeacherMetrics:
    """The metrics of one task's client.

    Args:
        task: The task; a client outside of any task is labelled ``teacher``.
    """

    def __init__(self, task: StageRun | None) -> None:
        self._labels = task_labels(task or StageRun("teacher"))
        self._outcomes: dict[str, Counter] = {}
        self.latency = _latency.labels(**self._labels)
        self.in_flight = _in_flight.labels(**self._labels)
        self.dollars = _dollars.labels(**self._labels)
        self.cache_hits = _cache_hits.labels(**self._labels)
        self.retries = _retries.labels(**self._labels)
        self.shared_waits = _shared_waits.labels(**self._labels)
        self._window = _window.labels(**self._labels)
        self._circuit = _circuit.labels(**self._labels)
        self.prompt_tokens = _tokens.labels(**self._labels, kind="prompt")
        self.completion_tokens = _tokens.labels(**self._labels, kind="completion")

    def attempt(self, outcome: str) -> None:
        """Count an attempt that ended with ``answered``, ``unusable``, ``timeout``, ``connection`` or an HTTP status."""
        if outcome not in self._outcomes:
            self._outcomes[outcome] = _requests.labels(**self._labels, outcome=bounded("outcome", outcome))
        self._outcomes[outcome].inc()

    def window(self, attempts: int) -> None:
        """Note how many attempts may be under way at once."""
        self._window.set(attempts)

    def circuit(self, open_: bool) -> None:
        """Note whether the endpoint is taken for down."""
        self._circuit.set(open_)

    def budget(self, limit: str, used: float, left: float) -> None:
        """Note how much of a limit is spent.

        Args:
            limit: Its name: ``max_usd``, ``max_tokens``, ``max_usd_per_day`` or ``max_tokens_per_day``.
            used: Share that is spent, 0 to 1.
            left: What is left, in tokens or dollars.
        """
        labels = {**self._labels, "limit": bounded("limit", limit)}
        _budget_used.labels(**labels).set(used)
        _budget_left.labels(**labels).set(left)
