"""Scrape config, rules, alerts and dashboard: checked by Prometheus's own tools, each alert seen to fire and not to fire."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring import files
from tests.support.prometheus import program

RULE_TESTS = sorted(Path(__file__).parent.glob("*.test.yaml"))


def check(*command: str) -> None:
    """Run a checking tool that must have nothing to say against it."""
    done = subprocess.run([program(command[0]), *command[1:]], capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert done.returncode == 0 and "FAILED" not in output, output


def test_config_and_rules_are_valid() -> None:
    check("promtool", "check", "config", str(files.PROMETHEUS))
    check("promtool", "check", "rules", *map(str, sorted((files.FOLDER / "rules").glob("*.yaml"))))


def test_the_alertmanagers_config_is_valid() -> None:
    check("amtool", "check-config", str(files.ALERTMANAGER))


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.name)
def test_rules_do_what_they_are_for(path: Path) -> None:
    check("promtool", "test", "rules", str(path))


def test_every_alert_is_seen_firing_and_not_firing() -> None:
    seen: dict[tuple[str, str], set[bool]] = {}
    for path in RULE_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for case in test["alert_rule_test"]:
                causes = {alert["exp_labels"].get("cause", "") for alert in case["exp_alerts"]}
                # A case without alerts is one for every cause.
                for cause in causes or {rule["labels"].get("cause", "") for rule in files.alerts() if rule["alert"] == case["alertname"]}:
                    seen.setdefault((case["alertname"], cause), set()).add(bool(case["exp_alerts"]))
    assert seen == {(rule["alert"], rule["labels"].get("cause", "")): {True, False} for rule in files.alerts()}


def test_every_alert_says_what_to_do() -> None:
    headings = {
        re.sub(r"[^a-z0-9-]", "", line[3:].lower().replace(" ", "-"))
        for line in files.RUNBOOK.read_text().splitlines()
        if line[:3] == "## "
    }
    for rule in files.alerts():
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"} and rule["labels"]["severity"] in {
            "critical",
            "warning",
        }
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "docs/runbook.md" and anchor == rule["alert"].lower() and anchor in headings


def test_alerts_compare_recorded_series_only() -> None:
    """So that the very series that an alert watches can be seen to exist while nothing is wrong."""
    recorded = {rule["record"] for rule in files.rules() if "record" in rule}
    for rule in files.alerts():
        names = set(re.findall(r"\b[a-z]+:[\w:]+|\btutorloop_\w+", rule["expr"]))
        assert names and names <= recorded, rule["alert"]


def test_kustomize_brings_every_file() -> None:
    for folder in (path.parent for path in files.FOLDER.rglob("kustomization.yaml")):
        content = yaml.safe_load((folder / "kustomization.yaml").read_text())
        listed = [name for item in content.get("configMapGenerator", []) for name in item["files"]] + content.get("resources", [])
        beside = [path for path in folder.rglob("*") if path.is_file() and path.name != "kustomization.yaml"]
        for path in beside:
            name = path.relative_to(folder)
            assert str(name) in listed or name.parts[0] in listed, path


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    dashboard = files.dashboard()
    assert dashboard["uid"] and dashboard["schemaVersion"] >= 39
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables.keys() == {"datasource", "pipeline", "run"} and variables["datasource"]["type"] == "datasource"
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
    for panel in files.panels():
        assert panel["title"] and panel["description"] and panel["targets"]
        for target in [panel, *panel["targets"]]:
            assert target["datasource"]["uid"] == "${datasource}"


def test_the_dashboard_shows_every_metric_of_the_code() -> None:
    """A figure that nobody sees is not worth exporting: each is on a panel, or behind a recorded series that is."""
    import components.teacher.metrics  # noqa: F401 - the teacher's metrics register when they are imported
    from components.core.metrics import telemetry

    exported = {family.name for content in (telemetry.registry, telemetry.pipeline_registry) for family in content.collect()}
    shown = " ".join([query.expression for query in files.panel_queries()] + [rule["expr"] for rule in files.rules()])
    assert exported and not {name for name in exported if name not in shown}
