"""Keeps secrets out of everything that is written for people: cards, reports, run records."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[redacted]"

SECRET_NAME = re.compile(
    r"(?i)(^|[_.-])(api_?key|secret|password|passwd|credentials|authorization|access_?key|private_?key|auth_?token|hf_?token|^token)$"
)
"""Names whose values are secrets. Only texts are replaced: ``max_tokens: 512`` is a count."""

CREDENTIALS_IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s:@]+(?::[^/\s@]*)?@")

MIN_SECRET_LENGTH = 8
"""Shorter environment values are not searched for in texts: they would match ordinary words."""


def environment_secrets() -> list[str]:
    """Values of the environment variables whose names say that they hold a secret, longest first."""
    names = [name for name in os.environ if SECRET_NAME.search(name) or name.upper().endswith(("_TOKEN", "_PASSWORD"))]
    return sorted({os.environ[name] for name in names if len(os.environ[name]) >= MIN_SECRET_LENGTH}, key=len, reverse=True)


def redact(value: Any) -> Any:
    """Replace secrets in a JSON-like value.

    Three things are replaced: values under a name such as ``api_key`` or ``password``, user and password within a URL, and any
    text that equals or contains the value of a secret environment variable.

    Args:
        value: Mappings, lists and scalars, nested as JSON is.

    Returns:
        A copy without the secrets; everything else is unchanged.
    """
    return _redact(value, environment_secrets())


def _redact(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: REDACTED if _is_secret(str(key), item) else _redact(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redact(item, secrets) for item in value]
    if isinstance(value, str):
        text = CREDENTIALS_IN_URL.sub(rf"\1{REDACTED}@", value)
        for secret in secrets:
            text = text.replace(secret, REDACTED)
        return text
    return value


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and bool(value) and bool(SECRET_NAME.search(name))
