"""Options of the offline teacher and of the faults that it plays."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from components.core.options import Options, RandomSeed

Rate = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0)]
Mode = Literal[
    "rejects_n",
    "ignores_seed",
    "rejects_seed",
    "rejects_stream_options",
    "no_usage",
    "single_user_message",
    "stream_only",
    "always_streams",
    "reasoning",
    "think_tags",
    "content_parts",
    "wants_max_completion_tokens",
    "no_models_list",
]
"""Ways in which other servers differ; see :attr:`OfflineTeacherOptions.modes`."""


class FaultPlan(Options, frozen=True, kw_only=True):
    """Which faults to play, and how often. Every default is "none"."""

    latency_s: Seconds = 0.0
    """Median time before a reply."""
    latency_sigma: Seconds = 0.0
    """Standard deviation of the logarithm of the latency: 0 gives a fixed latency, 1 a long tail."""
    http_500_rate: Rate = 0.0
    """Share of requests that are answered 500."""
    http_429_rate: Rate = 0.0
    """Share of requests that are answered 429."""
    retry_after_s: Seconds = 1.0
    """Value of the Retry-After header of every 429."""
    garbage_json_rate: Rate = 0.0
    """Share of replies whose body is no JSON."""
    truncated_rate: Rate = 0.0
    """Share of replies whose body is cut in the middle, the connection with it."""
    sloppy_rate: Rate = 0.0
    """Share of replies with chatter, Markdown or missing labels around the text."""
    requests_per_minute: Annotated[int, Meta(ge=0)] = 0
    """More requests than this within any minute are answered 429; 0 for no limit."""


class OfflineTeacherOptions(Options, frozen=True, kw_only=True):
    """How the offline teacher answers."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """0 lets the system choose."""
    model: str = "offline-teacher"
    """Name in /v1/models; requests may name any model."""
    answer_key: tuple[str, ...] = ()
    """JSON Lines files of Problem rows (paths or ``s3://bucket/key``), whose solutions are served as they are."""
    max_steps: Annotated[int, Meta(ge=1, le=4)] = 4
    """Largest number of steps of the problems that it writes."""
    max_number: Annotated[int, Meta(ge=20)] = 60
    """Largest number in the problems that it writes."""
    error_rate: Rate = 0.0
    """Share of solutions that are wrong on purpose, the same ones for the same requests."""
    seed: RandomSeed = 0
    """Seed of everything that looks like chance."""
    modes: tuple[Mode, ...] = ()
    """Plays servers that differ from the protocol; ``POST /admin/modes`` with a JSON list changes it. Any number of:

    - ``rejects_n``: ``n`` above 1 is answered 400.
    - ``ignores_seed``: replies at a temperature above 0 are others each time.
    - ``rejects_seed``: a request with ``seed`` is answered 400, as by servers that refuse unknown parameters.
    - ``rejects_stream_options``: so is one with ``stream_options``.
    - ``no_usage``: replies do not tell their tokens, whole or streamed.
    - ``single_user_message``: more than one user message is answered 400, as by strict chat templates.
    - ``stream_only``: a request without ``stream`` is answered 400.
    - ``always_streams``: server-sent events, whatever was asked.
    - ``reasoning``: the model thinks first; its thinking comes as ``reasoning_content`` and counts against the reply's limit.
    - ``think_tags``: likewise, but the thinking is in the content, between ``<think>`` and ``</think>``.
    - ``content_parts``: the content is a list of parts instead of a text.
    - ``wants_max_completion_tokens``: a request with ``max_tokens`` is answered 400.
    - ``no_models_list``: ``/v1/models`` is answered 404.

    A key that is asked for is not a mode but the variable TUTORLOOP_OFFLINE_TEACHER_KEY.
    """
    faults: FaultPlan = FaultPlan()
    """Faults that it plays."""
