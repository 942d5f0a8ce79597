"""The cluster of the whole session: made or found, filled, used, and removed again; and what is collected when a test fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.kind import settings as choices
from tests.kind.cluster import Kind, Kubectl
from tests.kind.commands import say
from tests.kind.deploy import Checkout, Deployment, build_images
from tests.kind.diagnosis import Collector
from tests.kind.lab import Lab, opened
from tests.kind.settings import Settings

_LIMIT_S = 4 * 3600
ORDER = ("test_run", "test_accidents", "test_kills", "test_schedules", "test_gpus")
_clusters: list[tuple[Kubectl, Settings]] = []
"""What a failure is diagnosed on; empty until there is a cluster."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Collect at once, while everything is still there; the failure itself stays what it is."""
    report = yield
    if report.failed and _clusters:
        kubectl, settings = _clusters[-1]
        folder = settings.folder / re.sub(r"[^A-Za-z0-9._-]+", "_", f"{item.name}-{call.when}")
        say(f"{item.name} failed: collecting logs, events and descriptions")
        try:
            found = Collector(kubectl, folder, "" if settings.context else settings.name).collect()
        except Exception as error:
            found = f"nothing could be collected: {error}"
        say(found)
        report.sections.append(("diagnosis", found))
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long has limits of its own; and the gateway keeps only the last run of a pipeline, so that the first comes first."""
    own = [item for item in items if Path(__file__).parent == item.path.parent]
    for item in own:
        item.add_marker(pytest.mark.timeout(_LIMIT_S))
    own.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))
    items[:] = [*(item for item in items if item not in own), *own]


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The choices of the environment."""
    return choices.from_environment()


@pytest.fixture(scope="session")
def table(settings: Settings) -> Path:
    """Table of our images, which are built if need be."""
    return settings.table or build_images(settings)


@pytest.fixture(scope="session")
def kind(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """The kind cluster that will be made or found.

    It is removed here and not where it is made: a fixture that fails is over at once, and what it leaves is to be looked at first.
    """
    needed = ["kubectl"] if settings.context else ["kubectl", "kind", "docker"]
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        pytest.fail(f"not installed: {', '.join(missing)} (tests/kind/README.md says what is needed)", pytrace=False)
    cluster = Kind(settings.name, tmp_path_factory.mktemp("kube") / "config")
    _clusters.append((Kubectl(settings.context) if settings.context else cluster.kubectl, settings))
    yield cluster
    _clusters.clear()
    if settings.context:
        return
    if settings.keep or settings.existing:
        say(f"the cluster stays: kind export kubeconfig --name {settings.name}")
    else:
        cluster.delete()


@pytest.fixture(scope="session")
def kubectl(settings: Settings, kind: Kind, table: Path) -> Kubectl:
    """The cluster, with all images that it will not fetch itself."""
    from pipelines.images.table import read_table

    if settings.context:
        found = Kubectl(settings.context)
        found("version", seconds=60)
        return found
    if settings.existing:
        kind.export()
    else:
        # One that an earlier test left behind is not what is asked for.
        kind.delete()
        kind.create(settings.node_image, seconds=600 * settings.patience)
    for archive in settings.archives:
        kind.load_archive(archive)
    kind.load_images([image.reference for image in read_table(str(table)).images])
    return kind.kubectl


@pytest.fixture(scope="session")
def lab(settings: Settings, kubectl: Kubectl, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The overlay on the cluster, with everything up and Kubeflow in agreement with the schedules."""
    checkout = Checkout.make(tmp_path_factory.mktemp("git"))
    checkout.release(table)
    deployment = Deployment(checkout, kubectl, settings)
    deployment.all()
    with opened(deployment, table, tmp_path_factory.mktemp("packages")) as lab:
        yield lab


@pytest.fixture(scope="session")
def first_run(lab: Lab) -> str:
    """Id of a run of the released package that nothing happens to."""
    run = lab.start(lab.released(), "first")
    lab.kubeflow.wait(run, lab.run_seconds)
    return run
