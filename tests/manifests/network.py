"""What NetworkPolicies let through: the rules of networking.k8s.io/v1 for connections from pod to pod."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from tests.manifests.objects import Cluster, Object, Workload, matches


@dataclass(frozen=True)
class Peer:
    """One end of a connection.

    Attributes:
        namespace: Of the pod; empty for an address outside of the cluster.
        labels: Of the pod.
        ports: Names of the pod's ports to their numbers.
        address: Of what is no pod of this cluster.
    """

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    address: str = ""


def peer(work: Workload) -> Peer:
    """The pods of a workload as an end of connections."""
    ports = [port for container in work.containers for port in container.get("ports", [])]
    return Peer(work.identity.namespace, work.labels, {port["name"]: port["containerPort"] for port in ports if "name" in port})


def allowed(cluster: Cluster, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection gets through.

    Args:
        cluster: With the policies and the namespaces' labels.
        source: Who opens it.
        target: Who is called.
        port: The number that the target listens on.
        protocol: TCP, UDP or SCTP.
    """
    return _one_way(cluster, "Egress", source, target, target, port, protocol) and _one_way(
        cluster, "Ingress", target, source, target, port, protocol
    )


def _one_way(cluster: Cluster, direction: str, subject: Peer, other: Peer, target: Peer, port: int, protocol: str) -> bool:
    if not subject.namespace:
        return True
    policies = [
        item["spec"]
        for item in cluster.of("NetworkPolicy")
        if item["metadata"]["namespace"] == subject.namespace
        and matches(item["spec"]["podSelector"], subject.labels)
        and direction in _types(item["spec"])
    ]
    if not policies:
        return True
    key, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        _port_fits(rule.get("ports"), target, port, protocol) and _peer_fits(cluster, rule.get(side), subject.namespace, other)
        for spec in policies
        for rule in spec.get(key) or []
    )


def _types(spec: Object) -> list[str]:
    return spec.get("policyTypes") or (["Ingress", "Egress"] if "egress" in spec else ["Ingress"])


def _port_fits(ports: list[Object] | None, target: Peer, port: int, protocol: str) -> bool:
    if not ports:
        return True
    for entry in ports:
        if entry.get("protocol", "TCP") != protocol:
            continue
        wanted = entry.get("port")
        number = target.ports.get(wanted) if isinstance(wanted, str) else wanted
        if wanted is None or (isinstance(number, int) and number <= port <= entry.get("endPort", number)):
            return True
    return False


def _peer_fits(cluster: Cluster, peers: list[Object] | None, home: str, other: Peer) -> bool:
    if not peers:
        return True
    for entry in peers:
        if "ipBlock" in entry:
            block = entry["ipBlock"]
            if (
                other.address
                and _within(other.address, block["cidr"])
                and not any(_within(other.address, x) for x in block.get("except", []))
            ):
                return True
            continue
        if not other.namespace:
            continue
        if "namespaceSelector" in entry:
            if not matches(entry["namespaceSelector"], cluster.namespace_labels(other.namespace)):
                continue
        elif other.namespace != home:
            continue
        if matches(entry.get("podSelector", {}), other.labels):
            return True
    return False


def _within(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block)
