"""The cluster under test, with everything that the tests ask of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.kubeflow.submission import changed
from pipelines.parameters.profile import load
from tests.kind.commands import run, say, wait_until
from tests.kind.deploy import PROFILE, TUTORLOOP, Deployment
from tests.kind.forward import Forward
from tests.kind.kubeflow import ENDED, Kubeflow
from tests.kind.services import Alertmanager, Prometheus, Teacher
from tests.kind.store import ObjectStore, root_keys

RUN_S = 3600.0


@dataclass
class Lab:
    """A deployed overlay and its services.

    Attributes:
        deployment: The overlay on the cluster.
        table: Table of our images.
        folder: For packages.
        kubeflow: Its API.
        store: MinIO.
        prometheus: Prometheus.
        alertmanager: Alertmanager.
        teacher: The offline teacher.
        started: Runs that were started and may have to be ended.
        seed: Of all runs: a cluster that stays has the results of earlier tests in its cache.
    """

    deployment: Deployment
    table: Path
    folder: Path
    kubeflow: Kubeflow
    store: ObjectStore
    prometheus: Prometheus
    alertmanager: Alertmanager
    teacher: Teacher
    started: list[str] = field(default_factory=list)
    seed: int = field(default_factory=lambda: int(time.time()) % 1_000_000)

    @property
    def run_seconds(self) -> float:
        """How long a run may take."""
        return RUN_S * self.deployment.settings.patience

    def package(self, name: str, *settings: str) -> Path:
        """Compile the test's profile with other settings.

        Args:
            name: For the file.
            settings: As ``tutorloop compile --set`` takes them.
        """
        path = self.folder / f"{name}.yaml"
        changes = [word for setting in settings for word in ("--set", setting)]
        command = [*TUTORLOOP, "compile", "--profile", str(PROFILE), "--images", str(self.table), "--out", str(path)]
        run([*command, *changes], seconds=300)
        return path

    def released(self) -> Path:
        """The package that the overlay brought into the cluster."""
        [package] = (self.deployment.checkout.overlay / "release" / "packages").glob("orca-math-*.yaml")
        return package

    def parameters(self, *settings: str) -> dict[str, Any]:
        """What a run of the released package is given so that it has other settings of the test's profile."""
        return changed(str(PROFILE), settings)

    def start(self, package: Path, name: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Start a run; it is ended with the tests if it still goes on then.

        Args:
            package: Compiled.
            name: Shown for the run.
            parameters: What differs from the package's defaults; the seed is the tests' own unless it is among them.
        """
        started = self.kubeflow.submit(package, name, {"seed": self.seed, **(parameters or {})})
        self.started.append(started)
        return started

    def end_runs(self) -> None:
        """End what still goes on: on a cluster that stays, it would go on for nothing."""
        for started in self.started:
            with contextlib.suppress(Exception):
                if self.kubeflow.state(started) not in ENDED:
                    self.kubeflow.terminate(started)


@dataclass(frozen=True)
class Bill:
    """What the teacher was paid for, and what of it is kept.

    The teacher counts the replies of all runs, those of a schedule too: a bill is written when no run is at work, so that all that
    was paid for has come to the store, and knows how many preflights there were, whoever started them.

    Attributes:
        paid: Replies that were paid for.
        kept: Requests whose reply is kept.
        twice: Requests whose reply is kept more than once, so that it was asked for again.
        preflights: UIDs of the preflights so far.
    """

    paid: int
    kept: int
    twice: Sequence[str]
    preflights: frozenset[str] = frozenset()

    @classmethod
    def of(cls, lab: Lab) -> Bill:
        """As it stands when no run is at work.

        Raises:
            WaitError: Some run goes on for too long; says which.
        """
        wait_until(
            "no run to be at work", lambda: not lab.kubeflow.at_work(), lab.run_seconds, describe=lambda: str(lab.kubeflow.at_work())
        )
        replies = lab.store.replies()
        twice = sorted(key for key, count in replies.items() if count > 1)
        return cls(lab.teacher.paid(), len(replies), twice, frozenset(lab.kubeflow.preflights()))

    def problems_since(self, before: Bill, probes: int) -> Iterator[str]:
        """What was paid for and not kept, or kept twice, in sentences.

        Args:
            before: An earlier bill.
            probes: Requests of one preflight, which keeps nothing.
        """
        asked = probes * len(self.preflights - before.preflights)
        paid, kept = self.paid - before.paid - asked, self.kept - before.kept
        say(f"the teacher: {paid} replies paid for and {kept} kept, besides {asked} of preflights")
        if paid != kept:
            yield f"{paid} replies were paid for, and {kept} of them are new in the store"
        if new := sorted(set(self.twice) - set(before.twice)):
            yield f"{len(new)} requests were paid for twice: {', '.join(new[:3])} ..."
        if kept < 0:
            yield "replies that were paid for are gone from the store"


def probes_of_a_run() -> int:
    """Requests that a preflight sends: one to each teacher."""
    sections = load(str(PROFILE), ()).sections
    return 1 if sections["teacher"] == sections["judge_teacher"] else 2


@contextlib.contextmanager
def opened(deployment: Deployment, table: Path, folder: Path) -> Iterator[Lab]:
    """A lab whose forwarded ports are closed with the block."""
    kubectl = deployment.kubectl
    with contextlib.ExitStack() as stack:

        def forward(namespace: str, service: str, port: int) -> Forward:
            made = Forward(kubectl, namespace, service, port)
            stack.callback(made.stop)
            return made

        lab = Lab(
            deployment,
            table,
            folder,
            Kubeflow(forward("kubeflow", "ml-pipeline", 8888), kubectl),
            ObjectStore(forward("tutorloop", "minio", 9000), root_keys(kubectl)),
            Prometheus(forward("tutorloop", "prometheus", 9090)),
            Alertmanager(forward("tutorloop", "alertmanager", 9093)),
            Teacher(forward("tutorloop", "offline-teacher", 8000)),
        )
        callback: Callable[[], None] = lab.end_runs
        stack.callback(callback)
        yield lab
