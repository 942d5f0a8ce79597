"""Prometheus, Alertmanager and the offline teacher: their own APIs, through forwarded ports."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from tests.kind.commands import CommandError
from tests.kind.forward import Address

T = TypeVar("T")
AGAIN_S = 90.0


def ask(forward: Address, path: str, patience_s: float = AGAIN_S, **parameters: str) -> Any:
    """The JSON that a service answers; asks again while nobody does.

    Raises:
        CommandError: It refuses, or nobody answers.
    """
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""

    def get() -> Any:
        with urllib.request.urlopen(f"{forward.url()}{path}{query}", timeout=30) as response:
            return json.load(response)

    return _again(forward, get, path + query, patience_s)


def _again(forward: Address, get: Callable[[], T], what: str, patience_s: float) -> T:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return get()
        except urllib.error.HTTPError as error:
            said, lasting = f"{error.code} {error.read().decode(errors='replace')[:1000]}", error.code < 500
        except (OSError, ValueError) as error:
            said, lasting = f"{type(error).__name__}: {error}", False
        if lasting or time.monotonic() > deadline:
            raise CommandError(f"{forward.name}{what}: {said}")
        forward.again()
        time.sleep(1)


class Series(NamedTuple):
    """One series of an answer.

    Attributes:
        labels: Its labels.
        value: Its value now.
    """

    labels: dict[str, str]
    value: float


class Prometheus:
    """The cluster's Prometheus.

    Args:
        forward: Leads to it.
    """

    def __init__(self, forward: Address) -> None:
        self._forward = forward

    def query(self, expression: str) -> list[Series]:
        """What an expression gives now."""
        answer = ask(self._forward, "/api/v1/query", query=expression)["data"]
        return [Series(item["metric"], float(item["value"][1])) for item in answer["result"]]

    def unhealthy_targets(self) -> list[str]:
        """What Prometheus cannot scrape, and why."""
        targets = ask(self._forward, "/api/v1/targets", state="active")["data"]["activeTargets"]
        return [f"{item['scrapePool']} {item['scrapeUrl']}: {item['lastError']}" for item in targets if item["health"] != "up"]

    def broken_rules(self) -> list[str]:
        """Rules that fail to evaluate, and why."""
        groups = ask(self._forward, "/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        if not rules:
            return ["there are no rules at all"]
        return [f"{rule['name']}: {rule.get('lastError', '')}" for rule in rules if rule["health"] == "err"]


class Alertmanager:
    """The cluster's Alertmanager.

    Args:
        forward: Leads to it.
    """

    def __init__(self, forward: Address) -> None:
        self._forward = forward

    def alerts(self, name: str) -> list[dict[str, str]]:
        """Labels of the active alerts of a name."""
        found = ask(self._forward, "/api/v2/alerts", active="true")
        return [alert["labels"] for alert in found if alert["labels"]["alertname"] == name]


class Teacher:
    """The cluster's offline teacher.

    Args:
        forward: Leads to it.
    """

    def __init__(self, forward: Address) -> None:
        self._forward = forward

    def paid(self) -> int:
        """Replies that it has sent out whole since it started."""
        return int(ask(self._forward, "/admin/stats")["paid"])
