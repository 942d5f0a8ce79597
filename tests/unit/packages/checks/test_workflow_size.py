"""The weight of a finished workflow agrees with what a cluster had, and is refused before a run would be lost to it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.packages.checks import workflow_size
from pipelines.packages.checks.argo_nodes import Nodes
from pipelines.packages.checks.argo_spec import Compiled
from pipelines.packages.checks.go_json import dumps
from pipelines.packages.checks.ir import Package
from pipelines.packages.checks.workflow_size import ETCD_REQUEST, MAX_WORKFLOW_SIZE, SHARE, fits, weigh
from tests.unit.packages.checks import samples
from tests.unit.packages.checks.samples import compiled, sharded

SEEN = Path(__file__).parent / "one_round.yaml.gz"
"""The package of tests/kind (one round, 2 + 1 shards) of the day on which a cluster ran it (Kubeflow 2.17.0, Argo 4.0.5)."""


def counted(build: Callable[..., None], **arguments: list[str]) -> tuple[int, int]:
    weight = weigh(Package.parse(compiled(build)), arguments)
    return weight.pods, weight.nodes


def test_nodes_are_counted_as_argo_makes_them() -> None:
    """A task has a driver, a layer and a pod, a layer of its own a driver and a DAG; with retries everywhere each of them twice."""
    package = Package.parse(compiled(samples.two_of_one_component))
    assert (weigh(package).nodes, weigh(package, retries_everywhere=True).nodes) == (3 + 3 * 3, 2 * (3 + 3 * 3))
    assert weigh(package).pods == 1 + 3 * 2


def test_attempts_cost_a_node_for_each_task_that_has_them() -> None:
    once, again = (Package.parse(compiled(samples.retried(times))) for times in (0, 2))
    assert (weigh(again).nodes - weigh(once).nodes, weigh(again).pods - weigh(once).pods) == (1, 0)


def test_each_iteration_of_a_loop_adds_its_nodes() -> None:
    two, four = (counted(sharded("source"), parts=[str(index) for index in range(number)]) for number in (2, 4))
    # The driver of the iteration, its layer, and a task in it.
    assert (four[0] - two[0], four[1] - two[1]) == (2 * 3, 2 * (1 + 1 + 1 + 3))


@pytest.mark.parametrize(
    ("nodes", "packed", "spec"),
    # What the package of this name had on a cluster, a task more than here (a copy of the model): six nodes with retries everywhere.
    [(252 - 6, 351_588, 302_494)],
)
def test_a_run_on_a_cluster_is_found_again(nodes: int, packed: int, spec: int) -> None:
    """Spec and nodes within 5 %, and rather too heavy than too light."""
    package = Package.parse(gzip.decompress(SEEN.read_bytes()).decode())
    weight = weigh(package, retries_everywhere=True)
    assert weight.nodes == nodes
    assert 1.0 <= weight.spec / spec < 1.05
    assert 1.0 <= (weight.packed / weight.nodes) / (packed / (nodes + 6)) < 1.05


def test_a_spec_has_what_kubeflows_compiler_wrote() -> None:
    """Arguments of a workflow: one component and container for all that run the same, and every layer."""
    package = Package.parse(compiled(samples.two_of_one_component))
    arguments = Compiled(package, package.arguments).arguments
    assert sum(name.startswith("implementations-") for name in arguments) == 2
    assert "components-root" in arguments
    assert all(json.loads(value) for value in arguments.values())


def test_every_node_has_what_is_handed_to_it() -> None:
    package = Package.parse(compiled(sharded("source")))
    nodes = Nodes(Compiled(package, package.arguments))
    patches = [
        entry["value"]
        for node in nodes.by_id.values()
        if node["type"] == "Pod"
        for entry in node.get("inputs", {}).get("parameters", [])
        if entry["name"] == "pod-spec-patch"
    ]
    inputs = [json.loads(patch)["containers"][0]["command"] for patch in patches]
    given = [json.loads(command[command.index("--executor_input") + 1]) for command in inputs]
    assert sorted(len(one["inputs"]["artifacts"].get("parts", {}).get("artifacts", [])) for one in given) == [0, 0, 0, 2]
    assert sorted(one["inputs"]["parameterValues"].get("tag", "") for one in given) == ["", "", "a", "b"]
    assert not re.search(r"\{\{(tasks|workflow\.parameters|inputs)", dumps([node.get("inputs") for node in nodes.by_id.values()]))


def test_a_package_whose_run_would_outgrow_the_controller_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = compiled(sharded("source"))
    weight = weigh(Package.parse(text))
    assert list(fits(Package.parse(text), text)) == []
    monkeypatch.setattr(workflow_size, "MAX_WORKFLOW_SIZE", int(weight.total / SHARE) - 1)
    (problem,) = fits(Package.parse(text), text)
    assert "data_shards, sampling_shards" in problem and f"{weight.nodes} nodes" in problem


def test_etcd_takes_what_the_controller_lets_pass() -> None:
    assert MAX_WORKFLOW_SIZE < ETCD_REQUEST * 0.9
