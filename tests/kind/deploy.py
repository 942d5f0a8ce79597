"""Brings the kind overlay onto a cluster, layer by layer, from a copy of manifests/ with a release and secrets of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kind.cluster import Kubectl
from tests.kind.commands import ROOT, CommandError, WaitError, run, say, wait_until
from tests.kind.images import put_mirror
from tests.kind.settings import Settings

TUTORLOOP = [sys.executable, "-c", "from pipelines.cli.main import main; main()"]
PROFILE = Path(__file__).with_name("kind.yaml")
IMAGES = ("agents", "trainer", "offline-teacher", "sync")
LAYERS = ("crds", "platform", "pipelines", "schedules")
NAMESPACES = ("tutorloop", "kubeflow")
DRIFT = "tutorloop-sync-drift"
ROLLOUTS = ("statefulset", "deployment")


@dataclass(frozen=True)
class Checkout:
    """A copy of manifests/, as a person's Git has it.

    Attributes:
        folder: The copy; the checkout that the tests run from is never changed.
    """

    folder: Path

    @classmethod
    def make(cls, destination: Path) -> Checkout:
        """Copy the manifests and generate secrets.

        Args:
            destination: A folder without ``manifests``.
        """
        folder = destination / "manifests"
        shutil.copytree(ROOT / "manifests", folder, ignore=shutil.ignore_patterns("__pycache__", "*.env"))
        run([sys.executable, str(folder / "overlays/kind/secrets/make_secrets.py")], seconds=60)
        return cls(folder)

    @property
    def overlay(self) -> Path:
        """The kind overlay."""
        return self.folder / "overlays" / "kind"

    def release(self, table: Path) -> None:
        """Let the overlay run these images, and the package of the test's profile.

        It is released under the name of the profile that the overlay's schedules name: a sync wants the two to be the same, and the
        image that it runs in knows the profiles of TutorLoop only.
        """
        profile = self.folder.parent / "tiny.yaml"
        shutil.copyfile(PROFILE, profile)
        run([*TUTORLOOP, "release", str(self.overlay), "--profile", str(profile), "--images", str(table)], seconds=300)

    def build(self, layer: str) -> str:
        """Build a layer of the overlay; remote bases come from KFP_MANIFESTS where that is set.

        Raises:
            CommandError: It does not build; holds what kustomize says.
        """
        return run([sys.executable, str(self.folder / "build.py"), f"overlays/kind/{layer}"], seconds=600)

    def declare(self, name: str, schedule: dict[str, Any] | None) -> None:
        """Declare a schedule, or take its declaration away, as a person does in Git.

        Args:
            name: Of the schedule.
            schedule: Its content; None to take it away.
        """
        folder = self.folder / "components" / "schedules"
        listing, file = folder / "kustomization.yaml", f"{name}.yaml"
        content = yaml.safe_load(listing.read_text())
        [generator] = content["configMapGenerator"]
        generator["files"] = [entry for entry in generator["files"] if entry != file] + ([file] if schedule else [])
        if schedule:
            (folder / file).write_text(yaml.safe_dump(schedule, sort_keys=False))
        else:
            (folder / file).unlink(missing_ok=True)
        listing.write_text(yaml.safe_dump(content, sort_keys=False))


def build_images(settings: Settings) -> Path:
    """Build our images for CPUs, those that are not there yet; returns the table of them."""
    table = ROOT / "build" / "kind-images.json"
    wheels = ["--wheelhouse", settings.wheelhouse] if settings.wheelhouse else []
    certificate = ["--ca-cert", settings.certificate] if settings.certificate else []
    command = [*TUTORLOOP, "images", "build", *IMAGES, "--build-arg", "TORCH=cpu", "--table", str(table)]
    run([*command, *wheels, *certificate], seconds=3600 * settings.patience)
    return table


@dataclass(frozen=True)
class Deployment:
    """An overlay on a cluster.

    Attributes:
        checkout: What is applied.
        kubectl: The cluster.
        settings: The choices.
    """

    checkout: Checkout
    kubectl: Kubectl
    settings: Settings

    def all(self) -> None:
        """Apply every layer in order, each when the one before works.

        Raises:
            CommandError: A layer does not build, is refused, or does not come up; says what is not ready.
        """
        self.definitions()
        self.layer("platform", "tutorloop", jobs=("minio-setup",))
        self.layer("pipelines", "kubeflow")
        self.schedules()

    def definitions(self) -> None:
        """Apply what everything else needs, and wait for it."""
        text = self._build("crds")
        self.kubectl.apply(text)
        names = [item["metadata"]["name"] for item in _resources(text) if item["kind"] == "CustomResourceDefinition"]
        for name in names:
            self.kubectl.wait(f"customresourcedefinition/{name}", "Established", seconds=self._patient(60))

    def layer(self, layer: str, namespace: str, jobs: tuple[str, ...] = ()) -> None:
        """Apply a layer, and wait until its servers run and its jobs are done.

        Args:
            layer: Its folder in the overlay.
            namespace: Where its servers run.
            jobs: Its jobs; a job cannot be changed, so that those of an earlier test go first.
        """
        text = self._build(layer)
        if jobs:
            self.kubectl.delete("job", namespace, *jobs)
        self.kubectl.apply(text)
        self._wait_for_rollouts(text, namespace)
        for job in jobs:
            self._wait_for_job(job, namespace)

    def schedules(self) -> None:
        """Apply the schedules, and wait until Kubeflow agrees with them."""
        self.layer("schedules", "tutorloop", jobs=("tutorloop-sync",))

    @contextlib.contextmanager
    def without_drift(self) -> Iterator[None]:
        """Let the schedules' CronJob rest for a block: a job of it may have begun with what Git held before a test changed that."""
        try:
            self._drift(suspended=True)
            wait_until("the CronJob's last job to be over", self._no_drift_job, self._patient(500))
            yield
        finally:
            self._drift(suspended=False)

    def _drift(self, *, suspended: bool) -> None:
        patch = json.dumps({"spec": {"suspend": suspended}})
        self.kubectl("patch", "cronjob", DRIFT, "--namespace", "tutorloop", "--type", "merge", "--patch", patch)

    def _no_drift_job(self) -> bool:
        return not self.kubectl.get("cronjob", "tutorloop", name=DRIFT).get("status", {}).get("active")

    def _build(self, layer: str) -> str:
        say(f"building {layer}")
        return self._without_new_keys(put_mirror(self.checkout.build(layer), self.settings.prefix))

    def _without_new_keys(self, text: str) -> str:
        """Leave out secrets that the cluster has: the store and the database behind them know no others."""
        secrets = [item for item in _resources(text) if item["kind"] == "Secret"]
        if not secrets:
            return text
        there = {(namespace, item["metadata"]["name"]) for namespace in NAMESPACES for item in self.kubectl.get("secrets", namespace)}
        kept = [
            item
            for item in _resources(text)
            if item["kind"] != "Secret" or (item["metadata"]["namespace"], item["metadata"]["name"]) not in there
        ]
        return yaml.dump_all(kept, Dumper=yaml.CSafeDumper)

    def _patient(self, seconds: float) -> float:
        return seconds * self.settings.patience

    def _wait_for_rollouts(self, text: str, namespace: str) -> None:
        seconds = self._patient(900)
        for item in _resources(text):
            kind, metadata = item["kind"].lower(), item["metadata"]
            if kind in ROLLOUTS and metadata.get("namespace", namespace) == namespace:
                name = f"{kind}/{metadata['name']}"
                try:
                    self.kubectl("rollout", "status", name, "--namespace", namespace, "--timeout", f"{seconds:g}s", seconds=seconds + 30)
                except CommandError as error:
                    raise CommandError(f"{name} does not come up\n{error}\n{troubles(self.kubectl, namespace)}") from error

    def _wait_for_job(self, job: str, namespace: str) -> None:
        def done() -> bool:
            conditions = self.kubectl.get("job", namespace, name=job).get("status", {}).get("conditions", [])
            states = {condition["type"] for condition in conditions if condition["status"] == "True"}
            # `kubectl wait` for success would go on waiting for a job that has failed.
            if "Failed" in states:
                raise WaitError(f"the job {job} has failed\n{self._said(job, namespace)}")
            return "Complete" in states

        wait_until(f"the job {job} to be done", done, self._patient(600), describe=lambda: self._said(job, namespace))

    def _said(self, job: str, namespace: str) -> str:
        log = _attempt(lambda: self.kubectl("logs", f"job/{job}", "--namespace", namespace, "--tail", "50"))
        return f"its log:\n{log}\n{troubles(self.kubectl, namespace)}"


def troubles(kubectl: Kubectl, namespace: str) -> str:
    """The pods of a namespace that are not well, and why, as far as that can be told."""

    def look() -> str:
        lines = [line for pod in kubectl.get("pods", namespace) for line in troubles_of(pod)]
        return "not well:\n" + "\n".join(lines) if lines else "all pods are well"

    return _attempt(look)


def troubles_of(pod: dict[str, Any]) -> list[str]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    lines = [
        f"  {name}: not scheduled: {condition.get('message', condition.get('reason', ''))}"
        for condition in status.get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] != "True"
    ]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = container.get("state", {})
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason") not in ("PodInitializing",):
            lines.append(f"  {name}/{container['name']}: {waiting.get('reason', '')}: {waiting.get('message', '')}".rstrip(": "))
        elif ended and ended.get("exitCode"):
            lines.append(f"  {name}/{container['name']}: ended with {ended['exitCode']}: {ended.get('reason', '')}")
    return lines


def _resources(text: str) -> list[Any]:
    return [item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item]


def _attempt(look: Any) -> str:
    try:
        return str(look())
    except Exception as error:
        return f"(cannot be told: {error})"
