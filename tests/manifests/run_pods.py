"""The pods that Kubeflow makes of a run: they are in no manifest, and the manifests are there for them."""

from __future__ import annotations

from tests.manifests.objects import Object

KEYS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
STAGES = {"preflight": "tutorloop-store", "solving": "tutorloop-store", "sft": "tutorloop-store", "promotion": "tutorloop-publisher"}
"""Stages that stand for all, and the Secret that each reads the object store with."""

WITH_TEACHER = {"preflight", "solving"}


def _pod(name: str, labels: dict[str, str], environment: list[Object], account: str) -> Object:
    container = {"name": "main", "env": environment, "envFrom": [{"configMapRef": {"name": "tutorloop-environment"}}]}
    metadata = {"name": name, "namespace": "kubeflow", "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"serviceAccountName": account, "containers": [container]}}


def _from_secret(variable: str, secret: str, key: str) -> Object:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def run_pods() -> list[Object]:
    """A driver of Kubeflow's, a task of several stages, and a node of a training on several."""
    workflow = {"workflows.argoproj.io/workflow": "run-1", "pipeline/runid": "1"}
    pods = [_pod("run-driver", workflow, [], "tutorloop-run")]
    for stage, secret in STAGES.items():
        environment = [_from_secret(variable, secret, key) for key, variable in KEYS.items()]
        if stage in WITH_TEACHER:
            environment.append(_from_secret("TUTORLOOP_TEACHER_API_KEY", "tutorloop-teacher", "api-key"))
        pods.append(_pod(f"run-{stage}", {**workflow, "tutorloop.dev/stage": stage}, environment, "tutorloop-run"))
    nodes = {"jobset.sigs.k8s.io/jobset-name": "sft-1"}
    pods.append(
        _pod("trainjob-node", nodes, [_from_secret(variable, "tutorloop-store", key) for key, variable in KEYS.items()], "tutorloop-run")
    )
    return pods
