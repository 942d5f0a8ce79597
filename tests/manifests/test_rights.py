"""RBAC grants what somebody uses, to whom uses it, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from tests.manifests.conftest import OVERLAYS, Build, whole
from tests.manifests.objects import Cluster, Identity, Object, identify, is_ours
from tests.manifests.sample import changed, cluster

USES: dict[tuple[str, str, str, str], dict[str, str]] = {
    # (role, group, resource, name or ""): verb -> who needs it
    ("tutorloop-run", "", "configmaps", "kfp-launcher"): {
        "get": "KFP's driver, launcher and importer: default pipeline root and providers",
    },
    ("tutorloop-run", "", "secrets", "tutorloop-launcher"): {
        "get": "KFP's driver, launcher and importer: the keys that kfp-launcher names",
    },
    ("tutorloop-run", "argoproj.io", "workflowtaskresults", ""): {
        "create": "Argo's executor beside every task: outputs and end of its pod",
        "patch": "Argo's executor: the same, when it has reported before",
    },
    ("tutorloop-run", "", "resourcequotas", ""): {
        "list": "our preflight (pipelines/control): GPUs that the namespace may have",
    },
    ("tutorloop-run", "", "nodes", ""): {
        "list": "our preflight (pipelines/control): whether any node has the GPUs that a run wants",
    },
    ("tutorloop-trainjobs", "trainer.kubeflow.org", "trainjobs", ""): {
        "create": "sft and preference_tuning on several nodes",
        "get": "the same: has it ended",
        "delete": "the same: one that failed, before it is started again",
    },
    ("tutorloop-trainjobs", "", "pods", ""): {
        "get": "sft and preference_tuning: their own pod, whose settings the nodes are given",
        "list": "the same: which node failed",
    },
    ("tutorloop-runs", "argoproj.io", "workflows", ""): {
        "list": "the keeper of records (pipelines/kubeflow): which runs there are",
        "watch": "the same: how they end",
    },
    ("tutorloop-runs", "", "pods/log", ""): {"get": "the keeper of records: what the pod that failed said"},
    ("tutorloop-trainjobs", "", "pods/log", ""): {"get": "sft and preference_tuning: what the node that failed said"},
}
"""Every right of ours with its user; a new right needs a line here, and a line without a right goes."""


def rights(items: list[Object]) -> Iterator[tuple[str, str, str, str, str]]:
    """Every single right that roles grant: role, group, resource, name or "", verb."""
    for item in items:
        if item["kind"] not in ("Role", "ClusterRole"):
            continue
        for rule in item.get("rules") or []:
            for group in rule.get("apiGroups", ["*"]):
                for resource in rule.get("resources", ["*"]):
                    for name in rule.get("resourceNames", [""]):
                        for verb in rule["verbs"]:
                            yield item["metadata"]["name"], group, resource, name, verb


def wildcards(items: list[Object]) -> list[str]:
    """Rights to anything, or rights that lead to all others."""
    dangerous = {"escalate", "bind", "impersonate"}
    return [
        f"{role}: {verb} {group}/{resource}"
        for role, group, resource, _, verb in rights(items)
        if "*" in (group, resource, verb) or verb in dangerous
    ]


def idle(found: Cluster) -> list[str]:
    """Accounts of ours that no pod has, and roles of ours that nobody is given."""
    used = {(work.identity.namespace, work.account) for work in found.workloads}
    accounts = [identify(item) for item in found.of("ServiceAccount") if is_ours(item)]
    given = {(item["roleRef"]["kind"], item["roleRef"]["name"]) for item in found.of("RoleBinding", "ClusterRoleBinding")}
    roles = [identify(item) for item in found.of("Role", "ClusterRole") if is_ours(item)]
    return [str(name) for name in accounts if (name.namespace, name.name) not in used] + [
        str(name) for name in roles if (name.kind, name.name) not in given
    ]


def tokens(found: Cluster) -> list[str]:
    """Pods of ours with a token and no right to use it for, or with a right and no token."""
    bound = {
        (subject.get("namespace", item["metadata"].get("namespace")), subject["name"])
        for item in found.of("RoleBinding", "ClusterRoleBinding")
        for subject in item.get("subjects", [])
    }
    return [
        str(work.identity)
        for work in found.ours
        if work.pod.get("automountServiceAccountToken", True) != ((work.identity.namespace, work.account) in bound)
    ]


def test_rights_are_those_that_somebody_uses(build: Build) -> None:
    items = [*whole(build, *OVERLAYS).items, *build("components/multi-node").items]
    found = set(rights([item for item in items if is_ours(item)]))
    expected = {(*key, verb) for key, verbs in USES.items() for verb in verbs}
    assert found == expected
    assert all(reason for verbs in USES.values() for reason in verbs.values())


RESOURCES = {
    "namespaced_pod": ("", "pods"),
    "namespaced_pod_log": ("", "pods/log"),
    "namespaced_resource_quota": ("", "resourcequotas"),
    "node": ("", "nodes"),
}
"""What a method of the Kubernetes client ends in, and what it is called on."""

CUSTOM = {"trainer.kubeflow.org": "trainjobs", "argoproj.io": "workflows"}
"""Groups of custom objects, of which a module of ours uses one, and their resource."""

CALL = re.compile(r"\.(read|get|list|create|delete|patch|replace|watch)_((?:namespaced|cluster)_\w+|node)\b")


def _called() -> set[tuple[str, str, str]]:
    """Group, resource and verb of every call of the Kubernetes client in our code."""
    found = set()
    for path in (path for folder in ("components", "pipelines") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        for verb, target in CALL.findall(text):
            if target == "namespaced_custom_object":
                [group] = [group for group in CUSTOM if f'"{group}"' in text]
                resource = (group, CUSTOM[group])
                # A watch is a list that does not end.
                found |= {(*resource, "watch")} if "watch=True" in text else set()
            else:
                resource = RESOURCES[target]
            found.add((*resource, "get" if verb == "read" else verb))
    return found


def test_our_rights_are_what_our_code_calls() -> None:
    ours = {
        (group, resource, verb)
        for (_, group, resource, _), verbs in USES.items()
        for verb, reason in verbs.items()
        if not reason.startswith(("KFP", "Argo"))
    }
    assert ours == _called()


def test_nobody_may_do_anything(build: Build) -> None:
    assert wildcards([item for item in whole(build, *OVERLAYS).items if is_ours(item)]) == []


def test_secrets_are_read_by_name_alone(build: Build) -> None:
    for role, _, resource, name, _ in rights([item for item in whole(build, *OVERLAYS).items if is_ours(item)]):
        assert resource != "secrets" or name, role


def test_accounts_and_roles_have_users(overlay: Cluster) -> None:
    assert idle(overlay) == []


def test_a_token_is_there_for_a_right(overlay: Cluster) -> None:
    assert tokens(overlay) == []


def test_accounts_give_no_token_by_themselves(overlay: Cluster) -> None:
    bound = {subject["name"] for item in overlay.of("RoleBinding") for subject in item["subjects"]}
    for item in overlay.of("ServiceAccount"):
        if is_ours(item) and item["metadata"]["name"] not in bound:
            assert item.get("automountServiceAccountToken") is False, identify(item)


def test_task_pods_are_given_nothing_beyond(overlay: Cluster) -> None:
    given = {
        identify(item).name
        for item in overlay.of("RoleBinding", "ClusterRoleBinding")
        for subject in item["subjects"]
        if (subject.get("namespace"), subject["name"]) == ("kubeflow", "tutorloop-run")
    }
    assert given == {"tutorloop-run"}
    assert overlay.get("ServiceAccount", "kubeflow", "pipeline-runner") is None


def test_too_much_is_noticed() -> None:
    labels = {"app.kubernetes.io/part-of": "tutorloop"}
    fine = changed(changed(cluster(), "ServiceAccount", "metadata/labels", labels), "Role", "metadata/labels", labels)
    assert not wildcards(fine)
    assert not idle(Cluster(fine))
    assert wildcards(changed(cluster(), "Role", "rules/0/verbs", ["*"]))
    assert wildcards(changed(cluster(), "Role", "rules/0/verbs", ["impersonate"]))
    assert wildcards(changed(cluster(), "Role", "rules/0/resources", ["*"]))
    extra = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "extra", "namespace": "home", "labels": labels}}
    assert idle(Cluster([*fine, extra])) == [str(Identity("ServiceAccount", "home", "extra"))]
    assert idle(Cluster(changed(fine, "RoleBinding", "roleRef/name", "other"))) == [str(Identity("Role", "home", "reader"))]


@pytest.mark.parametrize(
    ("bound", "token", "found"), [(True, True, False), (True, False, True), (False, True, True), (False, False, False)]
)
def test_a_token_without_a_right_is_noticed(bound: bool, token: bool, found: bool) -> None:
    items = changed(cluster(), "Deployment", "spec/template/spec/automountServiceAccountToken", token)
    items = changed(items, "CronJob", "spec/jobTemplate/spec/template/spec/automountServiceAccountToken", token)
    items = changed(items, "RoleBinding", "subjects/0/name", "server" if bound else "other")
    assert bool(tokens(Cluster(items))) is found
