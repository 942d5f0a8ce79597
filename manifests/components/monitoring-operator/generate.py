"""``python manifests/components/monitoring-operator/generate.py``: rules.yaml, the PrometheusRule, from the files that Prometheus reads."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
RULES = HERE.parent / "monitoring" / "rules"
TARGET = HERE / "rules.yaml"
HEAD = "# Made by generate.py from ../monitoring/rules; change those.\n"


def render() -> str:
    """The text that rules.yaml should have."""
    groups = [group for path in sorted(RULES.glob("*.yaml")) for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "tutorloop", "namespace": "tutorloop"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(resource, sort_keys=False, width=140)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"wrote {TARGET}", file=sys.stderr)
