"""How other servers differ: what they refuse, and what their replies look like."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from components.offline_teacher.options import Mode
from components.offline_teacher.protocol import ChatRequest

THOUGHTS = "The numbers are in the story. I add and multiply them one after the other, and look at the result once more before I write."


def refusal(modes: Collection[Mode], request: ChatRequest) -> str | None:
    """Why a server of these modes refuses a request; None when it does not."""
    users = sum(message.role == "user" for message in request.messages)
    reasons: dict[Mode, tuple[bool, str]] = {
        "rejects_n": ((request.n or 1) > 1, "n must be 1: only one reply for each request is supported."),
        "rejects_seed": (request.seed is not None, "Unrecognized request argument supplied: seed"),
        "rejects_stream_options": (request.stream_options is not None, "Unrecognized request argument supplied: stream_options"),
        "single_user_message": (users > 1, "Conversation roles must alternate user/assistant/user/assistant/..."),
        "stream_only": (not request.stream, "This model only supports streaming: set stream to true."),
        "wants_max_completion_tokens": (
            request.max_tokens is not None,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        ),
    }
    return next((text for mode, (refused, text) in reasons.items() if refused and mode in modes), None)


def streams(modes: Collection[Mode], request: ChatRequest) -> bool:
    """Whether the reply comes in pieces."""
    return bool(request.stream) or "always_streams" in modes


def counts_tokens(modes: Collection[Mode], request: ChatRequest) -> bool:
    """Whether the reply tells its tokens: in a stream only those who ask for it are told."""
    return "no_usage" not in modes and (not streams(modes, request) or bool((request.stream_options or {}).get("include_usage")))


def written(modes: Collection[Mode], text: str) -> str:
    """What the model writes for a reply: in some modes it thinks first."""
    return f"<think>{THOUGHTS}</think>\n\n{text}" if {"reasoning", "think_tags"}.intersection(modes) else text


def as_sent(modes: Collection[Mode], request: ChatRequest, answer: dict[str, Any]) -> dict[str, Any]:
    """A completion in the form in which a server of these modes sends it.

    Args:
        modes: The modes.
        request: What was asked.
        answer: The completion as :func:`components.offline_teacher.protocol.completion` builds it.
    """
    for choice in answer["choices"]:
        message = choice["message"]
        if "reasoning" in modes:
            thoughts, _, message["content"] = message["content"].removeprefix("<think>").partition("</think>")
            message |= {"content": message["content"].lstrip(), "reasoning_content": thoughts}
        if "content_parts" in modes:
            message["content"] = [{"type": "text", "text": message["content"]}]
    return answer if counts_tokens(modes, request) else {name: value for name, value in answer.items() if name != "usage"}
