"""What makes two requests the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

SCHEMA = 1
"""Part of every key: a change of what a request means must change it."""

Parameters = Mapping[str, float | int | str]


def canonical_request(model: str, messages: Sequence[Mapping[str, str]], parameters: Parameters, sample: int) -> bytes:
    """A request in the one form that its key is made of, and that is stored with its reply.

    Args:
        model: Name of the model.
        messages: The chat so far.
        parameters: Sampling parameters by name.
        sample: Index among the samples of the same request.

    Returns:
        JSON on one line, fields sorted.
    """
    canonical = {"schema": SCHEMA, "model": model, "messages": list(messages), "parameters": dict(parameters), "sample": sample}
    return msgspec.json.encode(canonical, order="sorted")


def key_of(request: bytes) -> str:
    """The key of a canonical request: its SHA-256, as hexadecimal digits."""
    return hashlib.sha256(request).hexdigest()


def request_key(model: str, messages: Sequence[Mapping[str, str]], parameters: Parameters, sample: int) -> str:
    """The key of a request; arguments as for :func:`canonical_request`."""
    return key_of(canonical_request(model, messages, parameters, sample))
