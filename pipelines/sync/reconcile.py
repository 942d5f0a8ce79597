"""Makes Kubeflow agree with Git, in steps of which each leaves it in a state that the next sync goes on from.

Kubeflow cannot change a recurring run. A changed schedule becomes a new one: created disabled, the old one disabled, the new one
enabled, the old one deleted without its workflows. At no time do two of a schedule fire, and a sync that dies leaves at most one
that does not fire and a marker that says whose it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from components.core.errors import TutorLoopError
from pipelines.kubeflow.calls import KubeflowError, UnreachableError
from pipelines.kubeflow.client import Kubeflow
from pipelines.kubeflow.packages import Package
from pipelines.kubeflow.records import Experiment, RecurringRun
from pipelines.kubeflow.versions import NOT_YET, Versions
from pipelines.sync import wanted
from pipelines.sync.schedules import Declared, Schedule

T = TypeVar("T")


@dataclass
class Outcome:
    """What a sync found and did.

    Attributes:
        changes: Steps that were taken, or would be.
        errors: What went wrong.
        drift: Schedule to whether it differed from Git before anything was done; also those that are gone from Git.
        since: Schedule to when its recurring run was created, in seconds since 1970.
    """

    changes: list[str] = field(default_factory=list)
    errors: list[TutorLoopError] = field(default_factory=list)
    drift: dict[str, bool] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)


class Sync:
    """One sync.

    Args:
        kubeflow: The installation.
        say: Told every step.
        dry_run: Say only what would be done.
        prune: Delete what is gone from Git, instead of disabling it.
    """

    def __init__(self, kubeflow: Kubeflow, say: Callable[[str], None], *, dry_run: bool = False, prune: bool = False) -> None:
        self._kubeflow = kubeflow
        self._say = say
        self._dry_run = dry_run
        self._prune = prune
        self._runs: list[RecurringRun] = []
        self._versions = Versions(kubeflow, self._step)
        self._experiments: dict[str, Experiment | None] = {}
        self.outcome = Outcome()

    def run(self, schedules: Sequence[Declared], packages: dict[str, Package], *, complete: bool = True) -> Outcome:
        """Make Kubeflow agree. What goes wrong with one schedule or package does not keep the others from it.

        Args:
            schedules: All schedules in Git that can be read.
            packages: All packages that can be read.
            complete: Whether every file could be read; otherwise nothing is taken for gone from Git.

        Raises:
            UnreachableError: Kubeflow is away for too long.
        """
        for package in packages.values():
            self._tried(partial(self._versions.upload, package))
        for name in sorted({declared.schedule.experiment for declared in schedules}):
            self._tried(partial(self._experiment, name))
        self._runs = self._kubeflow.recurring_runs()
        for declared in schedules:
            schedule = declared.schedule
            before = len(self.outcome.changes) + len(self.outcome.errors)
            self._tried(partial(self._schedule, declared, packages))
            after = len(self.outcome.changes) + len(self.outcome.errors)
            self.outcome.drift[schedule.name] = after > before or schedule.pipeline in self._versions.changed
        if complete:
            self._tried(partial(self._removed, {declared.schedule.name for declared in schedules}))
        elif self._ours(None):
            self._say("what is gone from Git is left alone until every schedule can be read")
        return self.outcome

    def _tried(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except UnreachableError:
            raise
        except TutorLoopError as error:
            self.outcome.errors.append(error)
            return None

    def _step(self, change: str, act: Callable[[], T], details: Sequence[str] = ()) -> T | None:
        """Say what is changed, and change it unless this is a dry run."""
        self.outcome.changes.append(change)
        self._say("\n".join([change, *(f"    {line}" for line in details)]))
        return None if self._dry_run else act()

    def _experiment(self, name: str) -> None:
        found = self._kubeflow.experiment(name)
        if found is None:
            found = self._step(f"experiment {name}: create", partial(self._kubeflow.create_experiment, name))
        elif found.archived:
            self._step(f"experiment {name}: bring back from the archive", partial(self._kubeflow.unarchive_experiment, found))
        self._experiments[name] = found

    def _ours(self, name: str | None) -> list[RecurringRun]:
        """Recurring runs of a schedule, or of all of ours, oldest first."""
        found = []
        for run in self._runs:
            marker = wanted.marker(run.description)
            if marker and name in (None, marker.name):
                found.append(run)
        return sorted(found, key=lambda run: (run.created_at, run.id))

    def _schedule(self, declared: Declared, packages: dict[str, Package]) -> None:
        schedule = declared.schedule
        name = schedule.name
        if schedule.pipeline not in packages:
            raise KubeflowError(
                f"{name}: there is no usable package {schedule.pipeline}.yaml; its recurring run stays as it is",
                "put the package into the folder with `tutorloop release`, or correct schedule.pipeline",
            )
        if schedule.experiment not in self._experiments or schedule.pipeline in self._versions.failed:
            raise KubeflowError(f"{name}: its experiment or pipeline could not be brought about; it stays as it is", "see the errors above")
        spec = self._spec(declared, packages[schedule.pipeline])
        description = wanted.described(schedule, spec)

        def fitting() -> RecurringRun | None:
            """The oldest one that is as it should be: two syncs at the same time agree on it."""
            agree = (run for run in self._ours(name) if run.description == description and not wanted.differences(run.spec, spec))
            return next(agree, None)

        keep = fitting()
        if keep is None:
            self._create(schedule, spec, description)
            if self._dry_run:
                return
            keep = fitting()
            if keep is None:
                raise KubeflowError(f"{name}: its new recurring run is gone again", "sync again")
        others = [run for run in self._ours(name) if run.id != keep.id]
        for run in others:
            if run.enabled:
                self._step(f"{name}: disable {run.id}, which another takes the place of", partial(self._kubeflow.disable, run.id))
        if schedule.enabled and not keep.enabled:
            self._step(f"{name}: enable", partial(self._kubeflow.enable, keep.id))
        elif keep.enabled and not schedule.enabled:
            self._step(f"{name}: pause", partial(self._kubeflow.disable, keep.id))
        for run in others:
            self._step(f"{name}: delete {run.id}; its workflows go on", partial(self._kubeflow.delete, run.id))
        self.outcome.since[name] = keep.created_at

    def _spec(self, declared: Declared, package: Package) -> dict[str, Any]:
        schedule = declared.schedule
        experiment = self._experiments[schedule.experiment]
        pipeline = self._versions.pipelines.get(schedule.pipeline)
        version = self._versions.pinned(pipeline, schedule.version) if schedule.version else ""
        return wanted.spec(declared, package, experiment.id if experiment else NOT_YET, pipeline or NOT_YET, version)

    def _create(self, schedule: Schedule, spec: dict[str, Any], description: str) -> None:
        name, old = schedule.name, self._ours(schedule.name)
        if not old:
            state = "" if schedule.enabled else ", paused"
            self._step(f"{name}: create{state}", partial(self._made, name, spec, description), [f"cron: {schedule.cron}"])
            return
        shown = old[-1]
        details = wanted.differences(shown.spec, spec) or ["description"]
        self._step(f"{name}: replace {shown.id}", partial(self._made, name, spec, description), details)

    def _made(self, name: str, spec: dict[str, Any], description: str) -> None:
        made = self._kubeflow.create_recurring_run(spec, description)
        # Looked at anew, since another sync may have made one at the same time.
        self._runs = self._kubeflow.recurring_runs()
        stored = next((run for run in self._runs if run.id == made), None)
        other = wanted.differences(stored.spec, spec) if stored else []
        if other:
            self._kubeflow.delete(made)
            raise KubeflowError(
                f"{name}: Kubeflow keeps something else than it is given ({'; '.join(other)}); the old recurring run stays",
                "write the schedule as Kubeflow keeps it",
            )

    def _removed(self, names: set[str]) -> None:
        for run in self._ours(None):
            marker = wanted.marker(run.description)
            name = marker.name if marker else ""
            if name in names:
                continue
            self.outcome.drift.setdefault(name, False)
            if self._prune:
                self._step(f"{name}: delete {run.id}, gone from Git; its workflows go on", partial(self._kubeflow.delete, run.id))
            elif run.enabled:
                text = f"{name}: disable {run.id}, gone from Git; --prune would delete it"
                self._step(text, partial(self._kubeflow.disable, run.id))
            else:
                continue
            self.outcome.drift[name] = True
