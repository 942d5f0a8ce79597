"""Metrics of a sync, in a group of their own in the Pushgateway (job ``sync``)."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge

from components.core.errors import ParameterError
from components.core.metrics.pushgateway import UNREACHABLE, insist
from components.core.metrics.settings import Settings
from components.core.redaction import redact
from pipelines.sync.reconcile import Outcome
from pipelines.sync.schedules import Declared

JOB = "sync"


def publish(schedules: Sequence[Declared], outcome: Outcome, *, failed: bool) -> None:
    """Push what a sync found; a gateway that does not answer is told and changes nothing.

    Args:
        schedules: The schedules in Git that could be read.
        outcome: What the sync found.
        failed: Whether it could not do all that it should.
    """
    try:
        settings = Settings.from_environment()
        if settings.gateway is not None:
            group, content = dataclasses.replace(settings.gateway, job=JOB), _content(schedules, outcome, failed)
            # After a failed one, what it says nothing about stays: it does not know when the last good one was.
            push = group.update if failed else group.replace
            insist(lambda: push(content, {}), time.monotonic() + settings.last_wait_s)
    except (*UNREACHABLE, ParameterError) as error:
        print(redact(f"metrics are not published: {error}"), file=sys.stderr, flush=True)


def _content(schedules: Sequence[Declared], outcome: Outcome, failed: bool) -> CollectorRegistry:
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tutorloop_{name}", text, labels, registry=registry)

    gauge("sync_failed", "1 when the last sync of schedules could not do all that it should").set(failed)
    if not failed:
        gauge("sync_last_success_timestamp_seconds", "When a sync last brought Kubeflow to agree with Git, since 1970").set(time.time())
    drift = gauge("sync_drift", "1 when Kubeflow differed from Git before the sync acted", "schedule")
    for name, differed in outcome.drift.items():
        drift.labels(schedule=name).set(differed)
    labels = ("pipeline", "schedule")
    period = gauge("schedule_period_seconds", "The longest time between two firings of a schedule", *labels)
    enabled = gauge("schedule_enabled", "1 when a schedule in Git fires", *labels)
    since = gauge("schedule_since_timestamp_seconds", "When a schedule's recurring run was created, since 1970", *labels)
    for declared in schedules:
        schedule = declared.schedule
        values = (schedule.pipeline, schedule.name)
        period.labels(*values).set(declared.period_s)
        enabled.labels(*values).set(schedule.enabled)
        if schedule.name in outcome.since:
            since.labels(*values).set(outcome.since[schedule.name])
    return registry
