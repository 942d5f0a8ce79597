"""Requests for GPUs, on a node that only says it has one: no device is touched, the scheduler and the quota are real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.runs import record as run_record
from tests.kind.commands import WaitError, wait_until
from tests.kind.kubeflow import ENDED, Pod
from tests.kind.lab import Lab

GPU = "nvidia.com/gpu"
PATHS = [f"/status/{name}/nvidia.com~1gpu" for name in ("capacity", "allocatable")]
NEW_WORK = "evaluation.max_new_tokens=39"
"""Differs from the runs of other modules: a task from the cache has no pod."""
KEEPER_S = 90.0
"""The keeper of records closes those of failed runs within half a minute."""
REFUSED = {
    2: ["a pod of generation needs a node with 2 nvidia.com/gpu, and there is none"],
    64: ["asks for 64 nvidia.com/gpu", "the quota"],
}
"""More GPUs than a node has, and more than the quota allows; and the words of the refusal."""


@pytest.fixture(scope="module")
def gpu_node(lab: Lab) -> Iterator[str]:
    """Name of a node that offers one GPU; nothing here has any of its own."""
    kubectl = lab.deployment.kubectl
    nodes = kubectl.get("nodes")
    if any(GPU in node["status"]["capacity"] for node in nodes):
        pytest.skip("this cluster has real GPUs: nothing is pretended here")
    workers = [node for node in nodes if "node-role.kubernetes.io/control-plane" not in node["metadata"].get("labels", {})]
    name = str((workers or nodes)[0]["metadata"]["name"])
    kubectl.patch_status("node", name, [{"op": "add", "path": path, "value": "1"} for path in PATHS])
    try:
        # The kubelet counts what the node offers anew, from the capacity.
        wait_until("the node to offer a GPU", lambda: kubectl.get("node", name=name)["status"]["allocatable"].get(GPU) == "1", 120, every=2)
        yield name
    finally:
        kubectl.patch_status("node", name, [{"op": "remove", "path": path} for path in PATHS])


@pytest.fixture(scope="module")
def runs(lab: Lab, gpu_node: str) -> dict[int, str]:
    """GPUs that pods ask for, and the id of a run; all are at work, and those that are refused go on for seconds only."""
    packages = {gpus: lab.package(f"{gpus}-gpus", f"cluster.pods.generation.gpus={gpus}", NEW_WORK) for gpus in (1, *REFUSED)}
    return {gpus: lab.start(package, f"{gpus} GPUs") for gpus, package in packages.items()}


def test_a_pod_that_asks_for_a_gpu_lands_on_the_node_that_has_one(lab: Lab, runs: dict[int, str], gpu_node: str) -> None:
    run = runs[1]

    def placed() -> Pod | None:
        pods = lab.kubeflow.pods(run, "evaluate")
        if (state := lab.kubeflow.state(run)) in ENDED:
            raise WaitError(f"the run ended as {state} before a pod asked for a GPU\n{lab.kubeflow.describe(run)}")
        return next((pod for pod in pods if pod.node and pod.phase in ("Running", "Succeeded")), None)

    pod = wait_until("a pod with a GPU", placed, lab.run_seconds, describe=lambda: lab.kubeflow.describe(run))
    lab.kubeflow.terminate(run)
    assert pod.node == gpu_node
    found = lab.deployment.kubectl.get("pod", "kubeflow", name=pod.name)
    [main] = [container for container in found["spec"]["containers"] if container["name"] == "main"]
    assert main["resources"]["limits"][GPU] == main["resources"]["requests"][GPU] == "1"


@pytest.mark.parametrize("gpus", REFUSED)
def test_a_run_that_could_never_get_its_gpus_is_refused_by_its_first_task(lab: Lab, runs: dict[int, str], gpus: int) -> None:
    run, words = runs[gpus], REFUSED[gpus]
    lab.kubeflow.wait(run, lab.run_seconds, wanted="FAILED")
    pods = lab.kubeflow.pods(run, "preflight")
    assert len(pods) == 1, f"a refusal is no reason to try again: {pods}"
    said = lab.kubeflow.log(pods[0].name)
    assert all(word in said for word in words), said
    assert set(lab.kubeflow.executed(run)) == {"preflight"}, "something was begun in spite of the refusal"
    record = wait_until(
        "the run's record to be closed",
        lambda: found if (found := lab.store.record(run)).status != run_record.RUNNING else None,
        KEEPER_S * lab.deployment.settings.patience,
    )
    assert record.status == run_record.FAILED and all(word in record.error for word in words), record.error

    wait_until(
        "the alert about the failed run",
        lambda: [labels for labels in lab.alertmanager.alerts("TutorLoopRunFailed") if labels.get("run") == run],
        420,
        every=5,
    )
