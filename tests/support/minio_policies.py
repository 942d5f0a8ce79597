"""Whether MinIO takes a policy, as ``policy/statement.go`` of github.com/minio/pkg v3.1.3 decides."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FACTS = Path(__file__).with_name("minio_actions.yaml")
ARN = "arn:aws:s3:::"
VERSION = "2012-10-17"


@cache
def facts() -> dict[str, Any]:
    """Actions, the condition keys that they know, and where MinIO says so."""
    found: dict[str, Any] = yaml.safe_load(FACTS.read_text())
    return found


def refusal(document: dict[str, Any]) -> str | None:
    """Why MinIO refuses a policy.

    Args:
        document: The policy, each Action and Resource a list.

    Returns:
        What MinIO's error says, without its code; None for a policy that it takes.
    """
    if document.get("Version") != VERSION:
        return f"invalid version '{document.get('Version', '')}'"
    refused = (_refusal_of(statement) for statement in document["Statement"])
    return next((reason for reason in refused if reason), None)


def _refusal_of(statement: dict[str, Any]) -> str | None:
    if statement.get("Effect") not in ("Allow", "Deny"):
        return f"invalid Effect {statement.get('Effect', '')}"
    if not statement.get("Action"):
        return "empty actions not allowed"
    if not statement.get("Resource"):
        return "Resource must not be empty"
    for resource in statement["Resource"]:
        if resource != "*" and (not resource.startswith(ARN) or resource.removeprefix(ARN)[:1] in ("", "/")):
            return f"invalid resource '{resource}'"
    used = {key.partition("/")[0] for keys in statement.get("Condition", {}).values() for key in keys}
    for action in statement["Action"]:
        if action not in facts()["actions"]:
            return f"unsupported action '{action}' (or one that {FACTS.name} does not list yet: look it up)"
        unknown = {key for key in used if not key.startswith("jwt:")} - {*facts()["common"], *facts()["actions"][action]["keys"]}
        if unknown:
            return f"unsupported condition keys '[{' '.join(sorted(unknown))}]' used for action '{action}'"
    return None
