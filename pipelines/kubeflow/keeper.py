"""Closes the records of runs whose workflows have ended: a run that fails cannot say so itself, since its last task never comes.

A record is closed once, from what Argo says, from the last words of the pod that failed, and from what tasks left in the record
themselves. All of it can be done again, so that a keeper that is killed, or that lost its store or the API, goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from components.core.errors import InputError, StoreError
from components.core.ledger import last_words
from components.core.ledger.last_words import LastWords
from components.core.redaction import redact
from components.core.store import is_remote, open_store
from pipelines.kubeflow.cluster_api import Cluster, ClusterError
from pipelines.kubeflow.explain import failures, with_last_words
from pipelines.kubeflow.following import Event, events
from pipelines.kubeflow.workflow import ENDED, RUN_LABEL, argument_of, phase_of, pipeline_of, run_of
from pipelines.runs import record as run_record

AT_WORK = "shared/at-work"
"""Below the home of all runs, a file for each namespace: runs that were seen at work, so that one whose workflow is deleted while
nobody looks is not taken for running for ever."""
LOOK_S = 20.0
MOST_FAILURES = 3
LONGEST_ERROR = 6_000
DELETED = (
    "the workflow was deleted while the run was at work\n  what to do: start the same run again; what is done comes from the cache. "
    "To end a run, use Terminate on its page"
)
WITHOUT_RESULTS = (
    "Argo says Succeeded, but the run has kept no results\n  what to do: look at the run's page in Kubeflow for tasks that were skipped, "
    "and start the run again"
)


class Run(msgspec.Struct, frozen=True):
    """What is known of a run without its workflow.

    Attributes:
        records: Home of its record.
        pipeline: Its name in metrics; empty for a pipeline that is not TutorLoop's.
    """

    records: str
    pipeline: str


class Watchers(Protocol):
    """Those who want to know how the keeper itself fares."""

    def alive(self) -> None:
        """It got around once more."""

    def ready(self, fine: bool, owed: int) -> None:
        """Whether it has the API and its store, and how many records it could not close."""


class Keeper:
    """Looks after the records of the runs of a namespace.

    Args:
        cluster: Where their workflows are.
        records: Home of records: of runs that do not say where theirs is, and for what the keeper notes itself.
        say: Told what is done.
        watchers: Told how the keeper fares.
    """

    def __init__(self, cluster: Cluster, records: str, say: Callable[[str], None], watchers: Watchers) -> None:
        self._cluster = cluster
        self._records = records.rstrip("/")
        self._say = say
        self._watchers = watchers
        self._runs: dict[str, Run] = {}
        self._at_work: dict[str, Run] = {}
        self._noted: dict[str, Run] | None = None
        self._found: set[str] = set()
        self._closed: set[str] = set()
        self._owed: dict[str, tuple[Run, Callable[[], None]]] = {}
        self._next_try = 0.0
        self._looked = False

    def run(self) -> None:
        """Look after records, without an end."""
        while True:
            try:
                for event in events(self._cluster, RUN_LABEL, watch_s=LOOK_S):
                    self.take(event)
            except ClusterError as error:
                # Rights that are missing today may be there tomorrow.
                self.take(Event("away", reason=str(error)))
                time.sleep(LOOK_S)

    def take(self, event: Event) -> None:
        """Do what follows from an event; what the store does not let be done now is done later."""
        if event.kind == "away":
            self._say(f"the Kubernetes API is away: {event.reason}")
        elif event.kind == "complete":
            self._missed()
        elif event.kind != "quiet":
            self._look(event)
        self._pay()
        # Before the first full look a run that was noted may only not have been told of yet.
        noted = not self._looked or self._done(self._note)
        self._watchers.alive()
        own = all(run.records != self._records for run, _ in self._owed.values())
        self._watchers.ready(self._looked and event.kind != "away" and noted and own, len(self._owed))

    def _done(self, work: Callable[[], None], run: str = "") -> bool:
        """Do something; whether that was possible."""
        try:
            work()
        except StoreError as error:
            self._say(f"{run or 'the keeper'}: the store does not do as it is asked; tried again: {error.message}")
            return False
        except msgspec.MsgspecError as error:
            self._say(f"{run or 'the keeper'}: what the store holds cannot be read, and is left as it is: {error}")
        return True

    def _owe(self, run: str, known: Run, workflow: Mapping[str, Any] | None) -> None:
        def work() -> None:
            self._close(run, known, workflow)

        if not self._done(work, run):
            self._owed[run] = (known, work)

    def _pay(self) -> None:
        if time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + LOOK_S / 2
            for run, (_, work) in list(self._owed.items()):
                if self._done(work, run):
                    self._owed.pop(run, None)

    def _look(self, event: Event) -> None:
        workflow, run = event.workflow, run_of(event.workflow)
        if run not in self._runs:
            given = str(argument_of(workflow, "records") or "").rstrip("/")
            self._runs[run] = Run(given if is_remote(given) else self._records, pipeline_of(workflow))
        known, ended = self._runs[run], phase_of(workflow) in ENDED
        self._found.add(run)
        if not ended and event.kind != "gone":
            # Kubeflow can try a run again that had failed.
            self._closed.discard(run)
            self._owed.pop(run, None)
            if known.pipeline:
                self._at_work[run] = known
        elif run not in self._closed:
            self._owe(run, known, workflow if ended else None)

    def _missed(self) -> None:
        """After a full look: runs that were at work and have no workflow any more."""
        found, self._found = self._found, set()
        self._looked = True
        for run in self._at_work.keys() - found:
            self._owe(run, self._at_work[run], None)

    def _close(self, run: str, known: Run, workflow: Mapping[str, Any] | None) -> None:
        """Close the record of a run.

        Args:
            run: Its id.
            known: Where its record is.
            workflow: As it ended; None for one that was deleted before its end.
        """
        folder = f"{known.records}/{run}"
        try:
            record = run_record.read(folder)
        except InputError:
            record = None
        phase = phase_of(workflow) if workflow else "deleted"
        begun = record is not None and record.status == run_record.RUNNING
        # A run of ours whose first task never came to work has no record yet.
        if begun or (record is None and known.pipeline and phase in ("Failed", "Error")):
            if record is not None and record.outputs:
                text, stage = "", ""
            elif workflow is None:
                text, stage = DELETED, ""
            elif phase == "Succeeded":
                text, stage = WITHOUT_RESULTS, ""
            else:
                text, stage = self._why(folder, workflow)
            run_record.finish(folder, succeeded=not text, error=text, failed_stage=stage, run=run, pipeline=known.pipeline)
            self._say(f"{run}: {'failed' if text else 'succeeded'}" + (f": {text}" if text else ""))
        self._closed.add(run)
        self._at_work.pop(run, None)

    def _why(self, folder: str, workflow: Mapping[str, Any]) -> tuple[str, str]:
        """What went wrong, and the name of the task that failed."""
        store = open_store(f"{folder}/{last_words.FOLDER}")
        words = []
        for key in store.list():
            try:
                words.append(msgspec.json.decode(store.read(key), type=LastWords))
            except msgspec.MsgspecError as error:
                self._say(f"{folder}/{last_words.FOLDER}/{key} cannot be read: {error}")
        found = with_last_words(failures(workflow, self._cluster.log), words)[:MOST_FAILURES]
        text = str(redact("\n".join(map(str, found))))
        return text[:LONGEST_ERROR], next((failure.task for failure in found if failure.task), "")

    def _note(self) -> None:
        """Note which runs are at work; at first take over what was noted before."""
        folder, name = f"{self._records}/{AT_WORK}", f"{self._cluster.namespace}.json"
        store = open_store(folder)
        if self._noted is None:
            noted = {}
            if store.exists(name):
                try:
                    noted = msgspec.json.decode(store.read(name), type=dict[str, Run])
                except msgspec.MsgspecError as error:
                    self._say(f"{folder}/{name} cannot be read, and is made anew: {error}")
            self._noted = noted
            for run in noted.keys() - self._runs.keys():
                self._at_work[run] = self._runs[run] = noted[run]
                self._owe(run, noted[run], None)
        if self._noted != self._at_work:
            store.write(name, msgspec.json.encode(self._at_work))
            self._noted = dict(self._at_work)
