"""Stand-ins for the objects that Kubeflow Pipelines brings, for builds without a network.

``kubeflow-2.17.0.yaml`` holds what is known of them: names, labels, ports, keys. It is made by

    KFP_MANIFESTS=... ARGO_MANIFESTS=... python -m tests.manifests.kubeflow

from the release that the manifests name (manifests/build.py says what the folders hold). A stand-in has what patches hold on to and
references point at, not what makes it work.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.manifests.objects import Object, read_yaml, workload

RELEASE = "2.17.0"
FACTS = Path(__file__).with_name(f"kubeflow-{RELEASE}.yaml")


def _workload_facts(item: Object) -> Object:
    found = workload(item)
    assert found is not None
    containers = {
        part["name"]: {
            "image": part["image"],
            # Scripts are no facts.
            "args": [argument for argument in part.get("args", []) if "\n" not in argument],
            "ports": {port.get("name", str(port["containerPort"])): port["containerPort"] for port in part.get("ports", [])},
            "env": {variable["name"]: variable.get("valueFrom", {}) for variable in part.get("env", [])},
            "envFrom": part.get("envFrom", []),
            "mounts": {mount["name"]: mount["mountPath"] for mount in part.get("volumeMounts", [])},
        }
        for part in found.containers
    }
    return {
        "labels": found.labels,
        "account": found.account,
        "containers": {name: {key: value for key, value in facts.items() if value} for name, facts in containers.items()},
        "volumes": found.pod.get("volumes", []),
    }


def _workload_object(facts: Object) -> Object:
    containers = [
        {
            "name": name,
            "image": part["image"],
            # Scripts are no facts.
            "args": [argument for argument in part.get("args", []) if "\n" not in argument],
            "ports": [
                {"containerPort": number} if name == str(number) else {"name": name, "containerPort": number}
                for name, number in part.get("ports", {}).items()
            ],
            "env": [
                {"name": variable, **({"valueFrom": source} if source else {"value": ""})}
                for variable, source in part.get("env", {}).items()
            ],
            "envFrom": part.get("envFrom", []),
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in part.get("mounts", {}).items()],
        }
        for name, part in facts["containers"].items()
    ]
    pod = {"serviceAccountName": facts["account"], "containers": containers, "volumes": facts.get("volumes", [])}
    template = {"metadata": {"labels": facts["labels"]}, "spec": pod}
    return {"spec": {"selector": {"matchLabels": facts["labels"]}, "template": template}}


def _service_facts(item: Object) -> Object:
    spec = item["spec"]
    ports = [{key: port[key] for key in ("name", "port", "targetPort") if key in port} for port in spec["ports"]]
    return {"selector": spec.get("selector", {}), "ports": ports}


def _definition_facts(item: Object) -> Object:
    spec = item["spec"]
    names = {key: spec["names"][key] for key in ("kind", "plural")}
    return {"group": spec["group"], "scope": spec["scope"], "names": names, "versions": [entry["name"] for entry in spec["versions"]]}


def _definition_object(facts: Object) -> Object:
    schema = {"openAPIV3Schema": {"type": "object"}}
    versions = [{"name": name, "served": True, "storage": number == 0, "schema": schema} for number, name in enumerate(facts["versions"])]
    return {"spec": {**facts, "versions": versions}}


def _keep(*keys: str) -> Callable[[Object], Object]:
    return lambda item: {key: item[key] for key in keys if key in item}


def _keys(item: Object) -> Object:
    return {"keys": sorted({**item.get("data", {}), **item.get("stringData", {})})}


def _data(facts: Object) -> Object:
    return {"data": dict.fromkeys(facts["keys"], "")}


def _same(facts: Object) -> Object:
    return facts


KINDS: dict[str, tuple[Callable[[Object], Object], Callable[[Object], Object]]] = {
    "Deployment": (_workload_facts, _workload_object),
    "StatefulSet": (_workload_facts, _workload_object),
    "Service": (_service_facts, lambda facts: {"spec": facts}),
    "ConfigMap": (_keys, _data),
    "Secret": (_keys, _data),
    "CustomResourceDefinition": (_definition_facts, _definition_object),
    "PersistentVolumeClaim": (_keep("spec"), _same),
    "Certificate": (_keep("spec"), _same),
    "PriorityClass": (_keep("value"), _same),
    "NetworkPolicy": (_keep("spec"), _same),
    "RoleBinding": (_keep("roleRef", "subjects"), _same),
    "ClusterRoleBinding": (_keep("roleRef", "subjects"), _same),
    "Role": (_keep(), lambda facts: {"rules": []}),
    "ClusterRole": (_keep(), lambda facts: {"rules": []}),
}
"""Kind to what is noted of an object, and how a stand-in is made of that; any other kind has only its name."""


def describe(items: list[Object]) -> dict[str, Any]:
    """Note what is needed for stand-ins.

    Args:
        items: The objects of a build.

    Returns:
        ``apiVersion kind namespace name`` to facts.
    """
    notes: dict[str, Any] = {}
    for item in items:
        note, _ = KINDS.get(item["kind"], (_keep(), _same))
        key = f"{item['apiVersion']} {item['kind']} {item['metadata'].get('namespace', '-')} {item['metadata']['name']}"
        found = {key: value for key, value in note(item).items() if value}
        notes[key] = {**found, "object-labels": labels} if (labels := item["metadata"].get("labels")) else found
    return notes


def stand_in(key: str, facts: Object) -> Object:
    """Make an object of what is noted of it; see describe."""
    version, kind, namespace, name = key.split()
    _, make = KINDS.get(kind, (_keep(), _same))
    metadata = {"name": name, "labels": facts.get("object-labels", {})} | ({} if namespace == "-" else {"namespace": namespace})
    return {"apiVersion": version, "kind": kind, "metadata": metadata} | make({k: v for k, v in facts.items() if k != "object-labels"})


@cache
def facts() -> dict[str, Any]:
    """Path of each remote base to what is noted of its objects."""
    known: dict[str, Any] = read_yaml(FACTS.read_text())[0]
    return known


def write_stand_ins(base: str, folder: Path) -> None:
    """Write a kustomization with the stand-ins of a remote base.

    Args:
        base: Its path below manifests/kustomize.
        folder: Where to write it.

    Raises:
        KeyError: Nothing is known of this base: make the facts anew.
    """
    objects = [stand_in(key, found) for key, found in facts()[base].items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects.yaml").write_text("\n---\n".join(json.dumps(item) for item in objects))
    (folder / "kustomization.yaml").write_text("resources: [objects.yaml]\n")


def describe_bases(folder: Path) -> dict[str, Any]:
    """Note what is needed for stand-ins of every remote base that the manifests name.

    Args:
        folder: For copies.

    Returns:
        Path of the base below manifests/kustomize to its facts.
    """
    from tests.manifests import kustomize

    kustomize.checkout(folder)
    found = (kustomize.REMOTE.fullmatch(address) for address in kustomize.remote_references(kustomize.MANIFESTS))
    bases = sorted({match["path"] for match in found if match})
    return {base: describe(kustomize.build(folder / "kfp_manifests" / base)) for base in bases}


def main() -> None:
    """Make the facts anew."""
    with tempfile.TemporaryDirectory() as scratch:
        found = describe_bases(Path(scratch))
    head = f"# What Kubeflow Pipelines {RELEASE} brings, noted by tests/manifests/kubeflow.py.\n"
    FACTS.write_text(head + yaml.safe_dump(found, sort_keys=True, width=140, default_flow_style=None))


if __name__ == "__main__":
    main()
