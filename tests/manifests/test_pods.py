"""Rules that every pod of ours keeps; and that each rule notices when it is broken."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.objects import Cluster, Object
from tests.manifests.policies import POLICIES, quantity
from tests.manifests.sample import REMOVED, changed, cluster

POD = "spec/template/spec"
MAIN = f"{POD}/containers/0"
TASK = "spec/jobTemplate/spec"

BROKEN: list[tuple[str, str, str, Any]] = [
    ("non_root", "Deployment", f"{POD}/securityContext/runAsNonRoot", REMOVED),
    ("non_root", "Deployment", f"{POD}/securityContext/runAsUser", 0),
    ("non_root", "Deployment", f"{POD}/securityContext/runAsUser", "nobody"),
    ("non_root", "Deployment", f"{MAIN}/securityContext/runAsUser", 0),
    ("read_only_root", "Deployment", f"{MAIN}/securityContext/readOnlyRootFilesystem", False),
    ("no_escalation", "Deployment", f"{MAIN}/securityContext/allowPrivilegeEscalation", REMOVED),
    ("no_escalation", "Deployment", f"{MAIN}/securityContext/privileged", True),
    ("no_capabilities", "Deployment", f"{MAIN}/securityContext/capabilities/drop", ["NET_RAW"]),
    ("no_capabilities", "Deployment", f"{MAIN}/securityContext/capabilities/add", ["SYS_ADMIN"]),
    ("seccomp", "Deployment", f"{POD}/securityContext/seccompProfile", REMOVED),
    ("seccomp", "Deployment", f"{MAIN}/securityContext/seccompProfile", {"type": "Unconfined"}),
    ("resources", "Deployment", f"{MAIN}/resources", {}),
    ("resources", "Deployment", f"{MAIN}/resources/requests/memory", "1Gi"),
    ("watched", "Deployment", f"{MAIN}/livenessProbe", REMOVED),
    ("watched", "Deployment", f"{MAIN}/readinessProbe", REMOVED),
    ("watched", "CronJob", f"{TASK}/activeDeadlineSeconds", REMOVED),
    ("watched", "CronJob", f"{TASK}/backoffLimit", REMOVED),
    ("schedule", "CronJob", "spec/concurrencyPolicy", "Allow"),
    ("schedule", "CronJob", "spec/startingDeadlineSeconds", REMOVED),
    ("no_host", "Deployment", f"{POD}/hostNetwork", True),
    ("no_host", "Deployment", f"{POD}/volumes/0", {"name": "tmp", "hostPath": {"path": "/"}}),
    ("no_host", "Deployment", f"{MAIN}/ports/0/hostPort", 80),
    ("pinned_images", "Deployment", f"{MAIN}/image", "registry:5000/example/server"),
    ("pinned_images", "Deployment", f"{MAIN}/image", "example/server:latest"),
    ("pinned_images", "Deployment", f"{MAIN}/image", "tutorloop/sync-python:symbolic"),
    ("no_token", "Deployment", f"{POD}/automountServiceAccountToken", REMOVED),
    ("no_token", "Deployment", f"{POD}/serviceAccountName", REMOVED),
    ("bounded_scratch", "Deployment", f"{POD}/volumes/0", {"name": "tmp", "emptyDir": {}}),
    ("patient", "Deployment", f"{MAIN}/startupProbe", {"failureThreshold": 60}),
    ("patient", "Deployment", "spec/progressDeadlineSeconds", 30),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_pod_of_ours_keeps_the_rule(overlay: Cluster, policy: str) -> None:
    assert overlay.ours
    complaints = [f"{work.identity}: {text}" for work in overlay.ours for text in POLICIES[policy](work)]
    assert not complaints, "\n".join(complaints)


def _complaints(policy: str, items: list[Object]) -> list[str]:
    return [text for work in Cluster(items).ours for text in POLICIES[policy](work)]


@pytest.mark.parametrize(("policy", "kind", "path", "value"), BROKEN)
def test_a_broken_rule_is_noticed(policy: str, kind: str, path: str, value: Any) -> None:
    assert not _complaints(policy, cluster())
    assert _complaints(policy, changed(cluster(), kind, path, value))


def test_every_rule_is_broken_once() -> None:
    assert {policy for policy, *_ in BROKEN} == set(POLICIES)


def test_init_containers_are_containers() -> None:
    items = changed(cluster(), "Deployment", f"{POD}/initContainers", [{"name": "first", "image": "example/first"}])
    for policy in ("read_only_root", "no_capabilities", "resources", "pinned_images"):
        assert any(text.startswith("first") for text in _complaints(policy, items))


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), ("2", 2), ("1Gi", 2**30), ("5M", 5e6), ("1k", 1000)])
def test_quantities_are_read(text: str, number: float) -> None:
    assert quantity(text) == number
