"""What the tests know of Kubernetes objects: who they are, their pods, their selectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Object = dict[str, Any]

CLUSTER_SCOPED = {
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
    "StorageClass",
    "RuntimeClass",
    "ClusterSecretStore",
    "ClusterQueue",
    "ResourceFlavor",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
}
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
"""Kind to where its pod template is."""

SERVERS = {"Deployment", "StatefulSet", "DaemonSet"}
PART_OF = "app.kubernetes.io/part-of"


@dataclass(frozen=True, order=True)
class Identity:
    """What makes an object that one.

    Attributes:
        kind: Its kind.
        namespace: Its namespace; empty for cluster-scoped kinds.
        name: Its name.
    """

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True)
class Workload:
    """Something that makes pods.

    Attributes:
        identity: Who it is.
        controller: The whole object.
        labels: Of its pods.
        pod: The pod's spec.
    """

    identity: Identity
    controller: Object
    labels: dict[str, str]
    pod: Object

    @property
    def is_server(self) -> bool:
        """Whether its pods are meant to run for ever."""
        return self.identity.kind in SERVERS

    @property
    def job(self) -> Object:
        """The spec of the Job that it is or makes."""
        spec: Object = self.controller["spec"]
        return spec["jobTemplate"]["spec"] if self.identity.kind == "CronJob" else spec

    @property
    def containers(self) -> list[Object]:
        """All containers, those for initialization first."""
        return [*self.pod.get("initContainers", []), *self.pod.get("containers", [])]

    @property
    def account(self) -> str:
        """Name of the service account that its pods have."""
        return str(self.pod.get("serviceAccountName", "default"))


def read_yaml(text: str) -> list[Any]:
    """The documents in YAML, empty ones left out; with the parser in C where there is one, which is ten times as fast."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(text, Loader=loader) if document]


def identify(item: Object) -> Identity:
    """Who an object is."""
    kind = str(item["kind"])
    namespace = "" if kind in CLUSTER_SCOPED else str(item["metadata"].get("namespace", ""))
    return Identity(kind, namespace, str(item["metadata"]["name"]))


def workload(item: Object) -> Workload | None:
    """An object as a maker of pods; None when it is none."""
    path = TEMPLATES.get(item["kind"])
    if path is None:
        return None
    template: Object = item
    for key in path:
        template = template[key]
    return Workload(identify(item), item, template.get("metadata", {}).get("labels", {}), template["spec"])


def is_ours(item: Object) -> bool:
    """Whether an object is TutorLoop's own, not one that comes with Kubeflow Pipelines."""
    return bool(item["metadata"].get("labels", {}).get(PART_OF) == "tutorloop")


def matches(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a label selector chooses labels.

    Args:
        selector: With matchLabels and matchExpressions; an empty one chooses everything, None nothing.
        labels: Of an object.
    """
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    tests = {
        "In": lambda rule: labels.get(rule["key"]) in rule["values"],
        "NotIn": lambda rule: labels.get(rule["key"]) not in rule["values"],
        "Exists": lambda rule: rule["key"] in labels,
        "DoesNotExist": lambda rule: rule["key"] not in labels,
    }
    return all(tests[rule["operator"]](rule) for rule in selector.get("matchExpressions", []))


class Cluster:
    """The objects of one build, as a cluster would hold them."""

    def __init__(self, items: Iterable[Object]) -> None:
        self.items = list(items)
        self.by_identity = {identify(item): item for item in self.items}

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """The object of that identity, or None."""
        return self.by_identity.get(Identity(kind, namespace, name))

    def of(self, *kinds: str) -> Iterator[Object]:
        """All objects of some kinds."""
        return (item for item in self.items if item["kind"] in kinds)

    @property
    def workloads(self) -> list[Workload]:
        """Everything that makes pods."""
        return [found for item in self.items if (found := workload(item)) is not None]

    @property
    def ours(self) -> list[Workload]:
        """Everything of TutorLoop's own that makes pods."""
        return [found for found in self.workloads if is_ours(found.controller)]

    def namespace_labels(self, name: str) -> dict[str, str]:
        """Labels of a namespace, with the one that Kubernetes gives each."""
        found = self.get("Namespace", "", name) or {"metadata": {}}
        return {"kubernetes.io/metadata.name": name, **found["metadata"].get("labels", {})}


def strings(value: Any) -> Iterator[str]:
    """Every string in a structure of mappings and lists, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
