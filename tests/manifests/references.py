"""Whether everything that an object names is there: one function a kind of reference, each yields what is not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.manifests.objects import Cluster, Identity, Object, Workload, identify, matches, strings

Check = Callable[[Cluster], Iterator[str]]

GIVEN_ACCOUNTS = {"default"}
CLUSTER_DOMAIN = r"(?:\.svc(?:\.cluster\.local)?)?"
IN_NAMESPACE = re.compile(
    r"(?<![\w.-])(?P<service>[a-z][a-z0-9-]*)\.(?P<namespace>[a-z][a-z0-9-]*)" + CLUSTER_DOMAIN + r"(?::(?P<port>\d+))?(?![\w.-])"
)
"""An address with a namespace; counts only where that namespace is one of ours."""

LOCAL = re.compile(r"(?:(?<=://)|(?<=[\"'\s=]))(?P<service>[a-z][a-z0-9-]*):(?P<port>\d{2,5})(?![\w.-])")
"""An address without one: `http://name:port`, or `name:port` as a word."""

NOT_SERVICES = {"localhost"}


def _configuration(cluster: Cluster, work: Workload) -> Iterator[tuple[str, str, set[str], bool]]:
    """ConfigMaps and Secrets that a workload names: kind, name, needed keys, whether it may be missing."""
    for volume in work.pod.get("volumes", []):
        parts = [volume, *volume.get("projected", {}).get("sources", [])]
        for part in parts:
            for key, kind, name in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
                if key in part:
                    source = part[key]
                    keys = {item["key"] for item in source.get("items", [])}
                    yield kind, source.get(name) or source["name"], keys, source.get("optional", False)
    for container in work.containers:
        for variable in container.get("env", []):
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if source := variable.get("valueFrom", {}).get(key):
                    yield kind, source["name"], {source["key"]}, source.get("optional", False)
        for source in container.get("envFrom", []):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in source:
                    yield kind, source[key]["name"], set(), source[key].get("optional", False)
    for secret in work.pod.get("imagePullSecrets", []):
        yield "Secret", secret["name"], set(), False


def secret_keys(cluster: Cluster, namespace: str, name: str) -> set[str] | None:
    """Keys of a Secret that is in the build or that External Secrets or cert-manager makes; None when there is none."""
    if item := cluster.get("Secret", namespace, name):
        return {*item.get("data", {}), *item.get("stringData", {})}
    for item in cluster.of("ExternalSecret"):
        target = item["spec"]["target"]
        if (item["metadata"]["namespace"], target["name"]) == (namespace, name):
            return {*target.get("template", {}).get("data", {})} or {entry["secretKey"] for entry in item["spec"].get("data", [])}
    for item in cluster.of("Certificate"):
        if (item["metadata"]["namespace"], item["spec"]["secretName"]) == (namespace, name):
            return {"tls.crt", "tls.key", "ca.crt"}
    return None


def configuration(cluster: Cluster) -> Iterator[str]:
    """ConfigMaps and Secrets of volumes and environments, with the keys that are asked for."""
    for work in cluster.workloads:
        for kind, name, keys, optional in _configuration(cluster, work):
            namespace = work.identity.namespace
            if kind == "Secret":
                found = secret_keys(cluster, namespace, name)
            else:
                item = cluster.get(kind, namespace, name)
                found = None if item is None else {*item.get("data", {}), *item.get("binaryData", {})}
            if found is None and not optional:
                yield f"{work.identity}: {kind} {namespace}/{name} is not there"
            elif found is not None and not optional and (missing := keys - found):
                yield f"{work.identity}: {kind} {namespace}/{name} has no {', '.join(sorted(missing))}"


def accounts(cluster: Cluster) -> Iterator[str]:
    """Service accounts of pods."""
    for work in cluster.workloads:
        if work.account not in GIVEN_ACCOUNTS and cluster.get("ServiceAccount", work.identity.namespace, work.account) is None:
            yield f"{work.identity}: ServiceAccount {work.account} is not there"


def claims(cluster: Cluster) -> Iterator[str]:
    """Volume claims of pods, and volumes behind mounts."""
    for work in cluster.workloads:
        names = {template["metadata"]["name"] for template in work.controller["spec"].get("volumeClaimTemplates", [])}
        for volume in work.pod.get("volumes", []):
            names.add(volume["name"])
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and cluster.get("PersistentVolumeClaim", work.identity.namespace, claim) is None:
                yield f"{work.identity}: PersistentVolumeClaim {claim} is not there"
        for container in work.containers:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in names:
                    yield f"{work.identity}: {container['name']} mounts {mount['name']}, which is no volume"


def _container_ports(work: Workload) -> set[object]:
    ports = [port for container in work.containers for port in container.get("ports", [])]
    return {port["containerPort"] for port in ports} | {port["name"] for port in ports if "name" in port}


def _selected(cluster: Cluster, namespace: str, selector: Object | None) -> list[Workload]:
    return [work for work in cluster.workloads if work.identity.namespace == namespace and matches(selector, work.labels)]


def services(cluster: Cluster) -> Iterator[str]:
    """Pods behind services, and the ports that they listen on; the service of a StatefulSet."""
    for item in cluster.of("Service"):
        name = identify(item)
        if item["spec"].get("type") == "ExternalName" or not item["spec"].get("selector"):
            continue
        behind = _selected(cluster, name.namespace, {"matchLabels": item["spec"]["selector"]})
        if not behind:
            yield f"{name}: no pod has the labels {item['spec']['selector']}"
        for port in item["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            for work in behind:
                if target not in _container_ports(work):
                    yield f"{name}: {work.identity} has no port {target}"
    for item in cluster.of("StatefulSet"):
        name = identify(item)
        if cluster.get("Service", name.namespace, item["spec"].get("serviceName", "")) is None:
            yield f"{name}: its Service {item['spec'].get('serviceName')} is not there"


def probes(cluster: Cluster) -> Iterator[str]:
    """Ports that probes ask."""
    for work in cluster.workloads:
        for container in work.containers:
            own = {value for port in container.get("ports", []) for value in (port.get("name"), port["containerPort"])}
            for key in ("startupProbe", "readinessProbe", "livenessProbe"):
                for action in container.get(key, {}).values():
                    if isinstance(action, dict) and "port" in action and action["port"] not in own:
                        yield f"{work.identity}: {key} of {container['name']} asks port {action['port']}, which it does not have"


def own_selectors(cluster: Cluster) -> Iterator[str]:
    """Labels of the pods that Deployments and StatefulSets make, and of those that budgets and scalers speak of."""
    for work in cluster.workloads:
        selector = work.controller["spec"].get("selector")
        if work.is_server and not matches(selector, work.labels):
            yield f"{work.identity}: its selector does not choose its own pods"
    for item in cluster.of("PodDisruptionBudget"):
        if not _selected(cluster, item["metadata"]["namespace"], item["spec"]["selector"]):
            yield f"{identify(item)}: no pod has these labels"
    for item in cluster.of("HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        if cluster.get(target["kind"], item["metadata"]["namespace"], target["name"]) is None:
            yield f"{identify(item)}: {target['kind']} {target['name']} is not there"


def bindings(cluster: Cluster) -> Iterator[str]:
    """Roles and accounts of role bindings."""
    for item in cluster.of("RoleBinding", "ClusterRoleBinding"):
        name, role = identify(item), item["roleRef"]
        namespace = name.namespace if role["kind"] == "Role" else ""
        if cluster.get(role["kind"], namespace, role["name"]) is None:
            yield f"{name}: {Identity(role['kind'], namespace, role['name'])} is not there"
        for subject in item.get("subjects", []):
            home = subject.get("namespace", name.namespace)
            if subject["kind"] == "ServiceAccount" and cluster.get("ServiceAccount", home, subject["name"]) is None:
                yield f"{name}: ServiceAccount {home}/{subject['name']} is not there"


def monitors(cluster: Cluster) -> Iterator[str]:
    """Services that ServiceMonitors choose, and the names of their ports."""
    for item in cluster.of("ServiceMonitor"):
        name, spec = identify(item), item["spec"]
        homes = spec.get("namespaceSelector", {}).get("matchNames", [name.namespace])
        chosen = [
            service
            for service in cluster.of("Service")
            if service["metadata"]["namespace"] in homes and matches(spec["selector"], service["metadata"].get("labels", {}))
        ]
        if not chosen:
            yield f"{name}: no Service has these labels"
        for endpoint in spec["endpoints"]:
            for service in chosen:
                if endpoint["port"] not in {port.get("name") for port in service["spec"]["ports"]}:
                    yield f"{name}: {identify(service)} has no port named {endpoint['port']}"


def _texts(cluster: Cluster) -> Iterator[tuple[Identity, str]]:
    for work in cluster.workloads:
        for container in work.containers:
            for text in strings([container.get(key) for key in ("command", "args", "env")]):
                yield work.identity, text
    for item in cluster.of("ConfigMap"):
        for key, text in item.get("data", {}).items():
            if not key.endswith((".json", ".py")):
                yield identify(item), text


def addresses(cluster: Cluster) -> Iterator[str]:
    """Services, with their ports, whose addresses stand in arguments, environments and configuration."""
    namespaces = {item["metadata"]["name"] for item in cluster.of("Namespace")}
    for name, text in _texts(cluster):
        found: list[tuple[str, str, str | None]] = [
            (match["namespace"], match["service"], match["port"])
            for match in IN_NAMESPACE.finditer(text)
            if match["namespace"] in namespaces
        ]
        found += [
            (name.namespace, match["service"], match["port"]) for match in LOCAL.finditer(text) if match["service"] not in NOT_SERVICES
        ]
        for namespace, service, port in found:
            item = cluster.get("Service", namespace, service)
            if item is None:
                yield f"{name}: Service {namespace}/{service} is not there"
            elif port and int(port) not in {entry["port"] for entry in item["spec"]["ports"]}:
                yield f"{name}: Service {namespace}/{service} has no port {port}"


def kubeflow_stores(cluster: Cluster) -> Iterator[str]:
    """Secrets that Kubeflow's launcher is told to read its keys from."""
    for item in cluster.of("ConfigMap"):
        for text in item.get("data", {}).values():
            for secret, access, key in re.findall(
                r"secretName: *\"?([\w-]+)\"?[,\s]+accessKeyKey: *\"?([\w-]+)\"?[,\s]+secretKeyKey: *\"?([\w-]+)", text
            ):
                found = secret_keys(cluster, item["metadata"]["namespace"], secret)
                if found is None or not {access, key} <= found:
                    yield f"{identify(item)}: Secret {secret} with {access} and {key} is not there"


def network_peers(cluster: Cluster) -> Iterator[str]:
    """Pods that network policies are for, and those that they speak of."""
    for item in cluster.of("NetworkPolicy"):
        name, spec = identify(item), item["spec"]
        if not _selected(cluster, name.namespace, spec["podSelector"]):
            yield f"{name}: it is for no pod"
        for direction, key in (("ingress", "from"), ("egress", "to")):
            for peer in (peer for rule in spec.get(direction, []) for peer in rule.get(key, [])):
                homes: Any = [name.namespace]
                if "namespaceSelector" in peer:
                    known = [entry["metadata"]["name"] for entry in cluster.of("Namespace")]
                    homes = [home for home in known if matches(peer["namespaceSelector"], cluster.namespace_labels(home))]
                    if (
                        not homes
                        and peer["namespaceSelector"].get("matchLabels", {}).get("kubernetes.io/metadata.name") not in OTHER_NAMESPACES
                    ):
                        yield f"{name}: no namespace has the labels {peer['namespaceSelector']}"
                if homes and "podSelector" in peer and not any(_selected(cluster, home, peer["podSelector"]) for home in homes):
                    yield f"{name}: no pod in {', '.join(homes)} has the labels {peer['podSelector']}"


OTHER_NAMESPACES = {"kube-system", "monitoring", "ingress-nginx"}
"""Namespaces of the cluster that policies may name: DNS, an operator's Prometheus, an ingress controller."""

CHECKS: dict[str, Check] = {
    function.__name__: function
    for function in (
        configuration,
        accounts,
        claims,
        services,
        probes,
        own_selectors,
        bindings,
        monitors,
        addresses,
        kubeflow_stores,
        network_peers,
    )
}
