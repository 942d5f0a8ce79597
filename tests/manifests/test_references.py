"""Everything that an object names is there; and each check notices when it is not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.conftest import OVERLAYS, Build, whole
from tests.manifests.objects import Cluster
from tests.manifests.references import CHECKS
from tests.manifests.run_pods import ENVIRONMENT, environment_keys
from tests.manifests.sample import changed, cluster

POD = "spec/template/spec"
MAIN = f"{POD}/containers/0"
PROVIDER = "secretRef: {secretName: keys, accessKeyKey: accesskey, secretKeyKey: secretkey}"

BROKEN: list[tuple[str, str, str, Any]] = [
    ("configuration", "ConfigMap", "metadata/name", "other"),
    ("configuration", "ConfigMap", "data", {"other": ""}),
    ("configuration", "Secret", "stringData", {"other": ""}),
    ("configuration", "Secret", "metadata/namespace", "elsewhere"),
    ("configuration", "Deployment", f"{POD}/imagePullSecrets", [{"name": "registry"}]),
    ("configuration", "Deployment", f"{MAIN}/envFrom", [{"secretRef": {"name": "more"}}]),
    ("accounts", "ServiceAccount", "metadata/name", "other"),
    ("claims", "PersistentVolumeClaim", "metadata/name", "other"),
    ("claims", "Deployment", f"{MAIN}/volumeMounts", [{"name": "missing", "mountPath": "/x"}]),
    ("services", "Service", "spec/selector", {"app": "other"}),
    ("services", "Service", "spec/ports/0/targetPort", "https"),
    ("services", "Deployment", "kind", "StatefulSet"),
    ("probes", "Deployment", f"{MAIN}/readinessProbe/httpGet/port", 9999),
    ("own_selectors", "Deployment", "spec/selector/matchLabels", {"app": "other"}),
    ("own_selectors", "PodDisruptionBudget", "spec/selector/matchLabels", {"app": "other"}),
    ("bindings", "Role", "metadata/name", "other"),
    ("bindings", "RoleBinding", "subjects/0/name", "other"),
    ("monitors", "ServiceMonitor", "spec/endpoints/0/port", "metrics"),
    ("monitors", "ServiceMonitor", "spec/selector/matchLabels", {"app": "other"}),
    ("addresses", "ConfigMap", "data/peer", "http://other.home:80"),
    ("addresses", "ConfigMap", "data/peer", "http://server.home.svc.cluster.local:81"),
    ("addresses", "ConfigMap", "data/prometheus.yml", 'targets: ["other:9091"]'),
    ("addresses", "Deployment", f"{MAIN}/args/0", "--peer=http://server:81"),
    ("kubeflow_stores", "ConfigMap", "data/providers", PROVIDER),
    ("network_peers", "NetworkPolicy", "spec/podSelector/matchLabels", {"app": "other"}),
    ("network_peers", "NetworkPolicy", "spec/ingress/0/from/0/podSelector/matchLabels", {"app": "other"}),
    ("network_peers", "NetworkPolicy", "spec/ingress/0/from/0/namespaceSelector", {"matchLabels": {"team": "other"}}),
]


@pytest.mark.parametrize("check", sorted(CHECKS.keys() - {"network_peers"}))
def test_everything_that_is_named_is_there(overlay: Cluster, check: str) -> None:
    complaints = list(CHECKS[check](overlay))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("check", sorted(CHECKS.keys() - {"network_peers"}))
def test_options_bring_what_they_name(options: Cluster, check: str) -> None:
    complaints = list(CHECKS[check](options))
    assert not complaints, "\n".join(complaints)


def test_tasks_read_all_of_the_environment(overlay: Cluster) -> None:
    item = overlay.get("ConfigMap", "kubeflow", ENVIRONMENT)
    assert item is not None
    assert item["data"].keys() <= environment_keys()


def test_network_policies_speak_of_pods_that_there_are(build: Build) -> None:
    # Of either overlay: a component's policies also name pods of components that an overlay may leave out.
    complaints = list(CHECKS["network_peers"](whole(build, *OVERLAYS)))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(("check", "kind", "path", "value"), BROKEN)
def test_a_broken_reference_is_noticed(check: str, kind: str, path: str, value: Any) -> None:
    assert not list(CHECKS[check](Cluster(cluster())))
    assert list(CHECKS[check](Cluster(changed(cluster(), kind, path, value))))


def test_every_check_is_broken_once() -> None:
    assert {check for check, *_ in BROKEN} == set(CHECKS)


def test_what_is_optional_may_be_missing() -> None:
    items = changed(cluster(), "Deployment", f"{MAIN}/envFrom", [{"secretRef": {"name": "more", "optional": True}}])
    assert not list(CHECKS["configuration"](Cluster(items)))


def test_a_secret_from_outside_counts() -> None:
    items = changed(cluster(), "Secret", "metadata/name", "other")
    made = {"target": {"name": "keys"}, "data": [{"secretKey": "api-key", "remoteRef": {"key": "x"}}]}
    items.append(
        {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "keys", "namespace": "home"}, "spec": made}
    )
    assert not list(CHECKS["configuration"](Cluster(items)))
    assert list(CHECKS["configuration"](Cluster(changed(items, "ExternalSecret", "spec/data/0/secretKey", "other"))))
    assert list(CHECKS["configuration"](Cluster(changed(items, "ExternalSecret", "spec/target/name", "other"))))


def test_nothing_is_said_of_other_addresses() -> None:
    text = "http://localhost:9000 https://api.example.com:443 /etc/server.conf image:8080-tag server.other"
    assert not list(CHECKS["addresses"](Cluster(changed(cluster(), "ConfigMap", "data/peer", text))))
