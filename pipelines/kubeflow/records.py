"""What the Kubeflow API answers, as far as a sync looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.kubeflow.calls import KubeflowError


@dataclass(frozen=True)
class Experiment:
    """An experiment: its id, and whether it is archived."""

    id: str
    archived: bool


@dataclass(frozen=True)
class Version:
    """A pipeline version; ``created_at`` is in seconds since 1970, and whole seconds are all that Kubeflow keeps."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True)
class RecurringRun:
    """A recurring run as Kubeflow has it.

    Attributes:
        id: Its id.
        description: Its description.
        created_at: Seconds since 1970.
        enabled: Whether it fires.
        spec: What it was created with, in the form of :func:`pipelines.sync.wanted.spec`.
    """

    id: str
    description: str
    created_at: float
    enabled: bool
    spec: Mapping[str, Any]


def known(key: str | None) -> str:
    """An id. The client makes something empty of a page that is no answer of the API at all, such as one for logging in.

    Raises:
        KubeflowError: It is missing.
    """
    if not key:
        raise KubeflowError(
            "what answers is not the Kubeflow Pipelines API: there is no id in the answer", "see whether --host is its address"
        )
    return str(key)


def experiment(item: Any) -> Experiment:
    """From what the client returns."""
    return Experiment(id=known(item.experiment_id), archived=item.storage_state == "ARCHIVED")


def version(item: Any) -> Version:
    """From what the client returns."""
    return Version(id=known(item.pipeline_version_id), name=item.name or item.display_name or "", created_at=_seconds(item))


def _seconds(item: Any) -> float:
    return float(item.created_at.timestamp()) if item.created_at else 0.0


def recurring_run(item: Any) -> RecurringRun:
    """From what the client returns."""
    reference, config, trigger = item.pipeline_version_reference, item.runtime_config, item.trigger
    cron = trigger.cron_schedule if trigger else None
    return RecurringRun(
        id=known(item.recurring_run_id),
        description=item.description or "",
        created_at=_seconds(item),
        enabled=item.status == "ENABLED",
        spec={
            "display_name": item.display_name or "",
            "experiment_id": item.experiment_id or "",
            "pipeline_id": (reference.pipeline_id if reference else "") or "",
            "pipeline_version_id": (reference.pipeline_version_id if reference else "") or "",
            "cron": (cron.cron if cron else "") or "",
            "max_concurrency": int(item.max_concurrency or 0),
            "no_catchup": bool(item.no_catchup),
            "service_account": item.service_account or "",
            "pipeline_root": (config.pipeline_root if config else "") or "",
            "parameters": (config.parameters if config else None) or {},
        },
    )
