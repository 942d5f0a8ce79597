"""What every pod of ours has to be like: one function a rule, each yields what breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from tests.manifests.objects import Object, Workload

Policy = Callable[[Workload], Iterator[str]]

FORBIDDEN_TAGS = {"latest", "symbolic"}
"""`symbolic` is what images are called before an overlay's release names them."""


def _effective(work: Workload, container: Object, key: str) -> object:
    """A field of the security context, of the container or else of its pod."""
    return container.get("securityContext", {}).get(key, work.pod.get("securityContext", {}).get(key))


def non_root(work: Workload) -> Iterator[str]:
    """A numeric user other than root, which a kubelet can check without reading the image."""
    for container in work.containers:
        user = _effective(work, container, "runAsUser")
        if _effective(work, container, "runAsNonRoot") is not True:
            yield f"{container['name']}: runAsNonRoot is not true"
        if not isinstance(user, int) or user < 1:
            yield f"{container['name']}: runAsUser is {user}, not a number above 0"


def read_only_root(work: Workload) -> Iterator[str]:
    """Nothing is written outside of volumes."""
    for container in work.containers:
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']}: readOnlyRootFilesystem is not true"


def no_escalation(work: Workload) -> Iterator[str]:
    """No way to more privileges than it starts with."""
    for container in work.containers:
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{container['name']}: allowPrivilegeEscalation is not false, or it is privileged"


def no_capabilities(work: Workload) -> Iterator[str]:
    """All capabilities dropped, none added."""
    for container in work.containers:
        capabilities = container.get("securityContext", {}).get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{container['name']}: capabilities are {capabilities}, not just drop: [ALL]"


def seccomp(work: Workload) -> Iterator[str]:
    """The runtime's filter of system calls."""
    for container in work.containers:
        profile = _effective(work, container, "seccompProfile")
        if profile != {"type": "RuntimeDefault"}:
            yield f"{container['name']}: seccompProfile is {profile}, not RuntimeDefault"


def resources(work: Workload) -> Iterator[str]:
    """Requests and limits of CPU and memory; a request above its limit is refused."""
    for container in work.containers:
        given = container.get("resources", {})
        for part in ("requests", "limits"):
            for name in ("cpu", "memory"):
                if name not in given.get(part, {}):
                    yield f"{container['name']}: no {name} in resources.{part}"
        for name, request in given.get("requests", {}).items():
            limit = given.get("limits", {}).get(name, request)
            if quantity(request) > quantity(limit):
                yield f"{container['name']}: requests {name} {request}, above its limit {limit}"


def quantity(text: object) -> float:
    """The number in a Kubernetes quantity such as 500m or 2Gi."""
    match = re.fullmatch(r"([0-9.]+)(m|[KMGTPE]i?|k)?", str(text))
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    powers = {"m": 1e-3, "k": 1e3} | {unit: 1000.0 ** (n + 1) for n, unit in enumerate("KMGTPE")}
    powers |= {f"{unit}i": 1024.0 ** (n + 1) for n, unit in enumerate("KMGTPE")}
    return float(match[1]) * powers.get(match[2] or "", 1.0)


def watched(work: Workload) -> Iterator[str]:
    """A server is probed, a job has a deadline and an end to its tries."""
    if not work.is_server:
        for key in ("activeDeadlineSeconds", "backoffLimit"):
            if key not in work.job:
                yield f"no {key}"
        if work.pod.get("restartPolicy") not in ("Never", "OnFailure"):
            yield f"restartPolicy is {work.pod.get('restartPolicy')}"
        return
    for container in work.pod["containers"]:
        for probe in ("readinessProbe", "livenessProbe"):
            if probe not in container:
                yield f"{container['name']}: no {probe}"


def schedule(work: Workload) -> Iterator[str]:
    """A CronJob never piles up, and a missed start is not made up for hours later."""
    if work.identity.kind != "CronJob":
        return
    spec = work.controller["spec"]
    if spec.get("concurrencyPolicy") not in ("Forbid", "Replace"):
        yield f"concurrencyPolicy is {spec.get('concurrencyPolicy', 'Allow')}"
    if "startingDeadlineSeconds" not in spec:
        yield "no startingDeadlineSeconds"


def no_host(work: Workload) -> Iterator[str]:
    """Nothing of the node: its network, processes, ports or files."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if work.pod.get(key):
            yield f"{key} is true"
    for volume in work.pod.get("volumes", []):
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a hostPath"
    for container in work.containers:
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{container['name']}: hostPort"


def pinned_images(work: Workload) -> Iterator[str]:
    """A tag or digest that stays the same."""
    for container in work.containers:
        image = str(container.get("image", ""))
        name, _, digest = image.partition("@")
        _, _, tag = name.rpartition("/")[2].partition(":")
        if not digest and (not tag or tag in FORBIDDEN_TAGS):
            yield f"{container['name']}: image {image!r} has no fixed tag"


def no_token(work: Workload) -> Iterator[str]:
    """The way to the API server is said, and the default account not used."""
    if work.account == "default":
        yield "it runs as the namespace's default service account"
    if not isinstance(work.pod.get("automountServiceAccountToken"), bool):
        yield "automountServiceAccountToken is not given"


def bounded_scratch(work: Workload) -> Iterator[str]:
    """Scratch volumes have a limit: an endless log must not evict its neighbours."""
    for volume in work.pod.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"volume {volume['name']} is an emptyDir without sizeLimit"


def patient(work: Workload) -> Iterator[str]:
    """A Deployment is not called failed while its pods may still be starting: GitOps tools give up on a failed one."""
    if work.identity.kind != "Deployment":
        return
    deadline = work.controller["spec"].get("progressDeadlineSeconds", 600)
    for container in work.pod["containers"]:
        probe = container.get("startupProbe", {})
        longest = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
        if longest >= deadline:
            yield f"{container['name']}: may start for {longest} s, progressDeadlineSeconds is {deadline}"


POLICIES: dict[str, Policy] = {
    function.__name__: function
    for function in (
        non_root,
        read_only_root,
        no_escalation,
        no_capabilities,
        seccomp,
        resources,
        watched,
        schedule,
        no_host,
        pinned_images,
        no_token,
        bounded_scratch,
        patient,
    )
}
