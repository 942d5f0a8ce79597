"""What is sent for a chat: the one place where the options decide on the request's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.teacher.options import TeacherOptions


def request_body(
    options: TeacherOptions, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, float | int | str], sample: int
) -> dict[str, Any]:
    """Body of a chat completion request.

    ``n`` is never in it: many servers refuse it, and a sample that fails would take the others with it.

    Args:
        options: Options of the endpoint: its model, and the fields that it takes.
        messages: ``role`` and ``content`` of each message.
        parameters: ``temperature``, ``top_p`` and ``max_tokens``.
        sample: Index among several replies to the same chat.

    Returns:
        The body, for JSON.
    """
    body: dict[str, Any] = {
        "model": options.model,
        "messages": list(messages),
        "temperature": parameters["temperature"],
        "top_p": parameters["top_p"],
        options.reply_limit_name: parameters["max_tokens"],
    }
    if options.send_seed:
        body["seed"] = sample
    if options.stream:
        body["stream"] = True
        if options.stream_usage:
            body["stream_options"] = {"include_usage": True}
    return body
