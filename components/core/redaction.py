"""Keeps secrets out of everything that is written for people: cards, reports, run records."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

REDACTED = "[redacted]"

SECRET_NAME = re.compile(
    r"(?i)(^|[_.-])(api_?key|secret|password|passwd|credentials|authorization|access_?key|private_?key|auth_?token|hf_?token|^token)$"
)
"""Names whose values are secrets. Only texts are replaced: ``max_tokens: 512`` is a count."""

CREDENTIALS_IN_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s:@]+(?::[^/\s@]*)?@")

SIGNATURE = re.compile(r"(?i)[?&](x-amz-[a-z-]+|awsaccesskeyid|signature|sig|token|access_token|api_?key|key)=")
"""A query with which a server lets in whoever has the address, as of a presigned URL."""

HIDDEN = re.compile(rb"\\u00[2-7]|\\/")
"""JSON may write any character as an escape, and keys are made of printable ASCII; other escapes of those have one form."""

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


def without_credentials(address: str) -> str:
    """An address without user, password and signed query; one that has none of these as it is.

    Args:
        address: A URI or path.
    """
    text = CREDENTIALS_IN_URL.sub(rf"\1{REDACTED}@", address)
    return f"{text.partition('?')[0]}?{REDACTED}" if SIGNATURE.search(text) else text


def redact_json(raw: bytes, secrets: Sequence[str]) -> bytes:
    """Replace secrets in a JSON text, however it writes them; a text without any is given back as it is, byte for byte.

    Args:
        raw: The text; what is no JSON is searched for the secrets' plain form only.
        secrets: As :func:`environment_secrets` finds them. The search is done for every reply of a teacher, the look into the
            environment once.
    """
    hidden = HIDDEN.search(raw) is not None
    if not secrets or not (hidden or any(msgspec.json.encode(secret)[1:-1] in raw for secret in secrets)):
        return raw
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        for secret in secrets:
            raw = raw.replace(secret.encode(), REDACTED.encode())
        return raw
    clean = _redact_texts(value, secrets)
    return raw if clean == value else msgspec.json.encode(clean)


def _redact_texts(value: Any, secrets: Sequence[str]) -> Any:
    """Replace secrets in all texts, names included; a counter may be called ``token``, so names say nothing here."""
    if isinstance(value, dict):
        return {_redact_texts(key, secrets): _redact_texts(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_redact_texts(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
    return value


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
