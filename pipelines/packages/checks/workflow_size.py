"""How heavy the Argo Workflow of a run is when it ends, and what it may weigh.

Argo keeps everything about a run in one object of Kubernetes: the workflow that Kubeflow compiled, and a node for all that was
carried out, packed (gzip, base64) once the object is large. It grows with what is done: a run that outgrows the limit ends in
Error near its end, with everything paid for, without its exit task. So the finished object is built here, as far as it counts.

Calibrated on a cluster (Kubeflow 2.17.0, Argo 4.0.5; both figures with a Retry node around every template):
one round, 2+1 shards: 252 nodes of 1,395 packed bytes, 302,494 bytes of spec;
two rounds, 8+8 shards, ended by the limit: 569 nodes of 1,162 bytes, 363,728 bytes of spec, 27 kB of other things.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.packages.checks.argo_nodes import Nodes
from pipelines.packages.checks.argo_spec import Compiled
from pipelines.packages.checks.go_json import dumps
from pipelines.packages.checks.ir import Package

MAX_WORKFLOW_SIZE = 1_400_000
"""Bytes that Argo's controller lets a workflow have: its variable of this name, set in manifests/components/kubeflow."""
ETCD_REQUEST = 1_572_864
"""Bytes that etcd takes in one request (1.5 MiB, its default); the controller's limit lies below it."""
SHARE = 0.8
"""Of a limit that may be used: further attempts add nodes, and values of a run may be longer than those of its profile."""
MAX_PACKAGE = 32 << 20
"""Bytes of a package that Kubeflow reads (backend/src/apiserver/common/const.go: MaxFileLength)."""
MAX_ROW = 64 << 20
"""Bytes that MySQL 8.4 and Kubeflow's driver for it take in one statement (max_allowed_packet). The columns hold 4 GiB (LONGTEXT:
backend/src/apiserver/model/common.go); the row of a run has the pipeline spec, and the workflow as compiled and as it is."""

_SPEC_FACTOR = 1.025
"""What Kubernetes and Argo fill into a spec by default; seen: 2.0 and 1.8 %."""
_REST_BYTES = 5_000
_REST_BYTES_PER_POD = 150
"""Metadata, templates of the controller's own defaults, and which pods' results have come in; seen: 27 kB with 163 pods."""


@dataclass(frozen=True)
class Weight:
    """Sizes of a finished workflow.

    Attributes:
        nodes: How many it has.
        pods: How many of them are pods.
        packed: Bytes of all nodes, as Argo packs them.
        spec: Bytes of the spec.
        rest: Bytes of metadata and the like.
    """

    nodes: int
    pods: int
    packed: int
    spec: int
    rest: int

    @property
    def total(self) -> int:
        """Bytes of the object."""
        return self.packed + self.spec + self.rest

    def __str__(self) -> str:
        """For people."""
        share = 100 * self.total / MAX_WORKFLOW_SIZE
        return f"{self.total:,} bytes ({share:.0f} % of what Argo takes) with {self.pods} pods in {self.nodes} nodes"


def weigh(package: Package, arguments: Mapping[str, Any] | None = None, *, retries_everywhere: bool = False) -> Weight:
    """Weigh the workflow of a run in which every task is carried out once.

    Args:
        package: The package.
        arguments: Arguments of the run; those that are left out are the package's own.
        retries_everywhere: Whether the controller gives every template a retry strategy (ours does not: it was twice as many nodes).
    """
    compiled = Compiled(package, {**package.arguments, **(arguments or {})})
    nodes = Nodes(compiled, retries_everywhere)
    content = dumps(dict(sorted(nodes.by_id.items()))).encode()
    return Weight(
        nodes=len(nodes.by_id),
        pods=nodes.pods,
        packed=len(base64.b64encode(gzip.compress(content, 6, mtime=0))),
        spec=round(len(dumps(compiled.spec).encode()) * _SPEC_FACTOR),
        rest=_REST_BYTES + _REST_BYTES_PER_POD * nodes.pods,
    )


def fits(package: Package, text: str) -> Iterator[str]:
    """A run's workflow fits into what Argo, etcd and Kubeflow's database take.

    Args:
        package: The package.
        text: Text of the package.

    Yields:
        Problems.
    """
    weight = weigh(package)
    whose, limit = min((("Argo's controller (MAX_WORKFLOW_SIZE)", MAX_WORKFLOW_SIZE), ("etcd", ETCD_REQUEST)), key=lambda pair: pair[1])
    if weight.total > SHARE * limit:
        yield (
            f"a run's workflow would have {weight} at its end ({weight.packed:,} of nodes, {weight.spec:,} of spec), more than "
            f"{SHARE:.0%} of the {limit:,} that {whose} takes: it would be ended near its end, with everything paid for. Use fewer "
            "shards (data_shards, sampling_shards) or fewer rounds."
        )
    if len(text.encode()) > SHARE * MAX_PACKAGE:
        yield (
            f"the package has {len(text.encode()):,} bytes, more than {SHARE:.0%} of the {MAX_PACKAGE:,} that Kubeflow "
            "reads: use fewer rounds."
        )
    if (row := len(text.encode()) + weight.spec + weight.total) > SHARE * MAX_ROW:
        yield (
            f"a run's row in Kubeflow's database would have {row:,} bytes, more than {SHARE:.0%} of the {MAX_ROW:,} that "
            "MySQL takes: use fewer rounds."
        )
