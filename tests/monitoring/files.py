"""What the monitoring folder holds, as the tests read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "manifests" / "components" / "monitoring"
PROMETHEUS = FOLDER / "prometheus.yml"
ALERTMANAGER = FOLDER / "alertmanager.yml"
DASHBOARD = FOLDER / "dashboards" / "tutorloop.json"
RUNBOOK = ROOT / "docs" / "runbook.md"


@dataclass(frozen=True)
class Query:
    """An expression and where it stands."""

    where: str
    expression: str


def rules() -> list[dict[str, Any]]:
    """All rules of all files."""
    files = sorted((FOLDER / "rules").glob("*.yaml"))
    return [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The rules that alert."""
    return [rule for rule in rules() if "alert" in rule]


def dashboard() -> dict[str, Any]:
    """The dashboard's JSON."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """All panels but the rows that hold them."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[Query]:
    """Every expression of every panel, with Grafana's variables as Grafana puts them in when all is chosen."""
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$pipeline", ".*").replace("$run", ".*").replace("$__rate_interval", "5m")
            yield Query(f"panel {panel['title']!r}", expression)
