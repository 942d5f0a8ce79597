"""Prometheus metrics of a task: a text file in the run's folder always, a push to a gateway when its address is set.

Environment:
    TUTORLOOP_METRICS_DIR: Folder for one ``.prom`` file per task; nothing is written when it is not set.
    TUTORLOOP_PUSHGATEWAY: Address of a Pushgateway (``http://host:port``); nothing is pushed when it is not set.
    TUTORLOOP_RUN, TUTORLOOP_PIPELINE: Values of the ``run`` and ``pipeline`` labels.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

if TYPE_CHECKING:
    from components.core.records import StageRecord
    from components.core.stage import StageRun

LABELS = ("pipeline", "run", "stage", "task", "shard")

registry = CollectorRegistry()
"""The registry of this process: stages and the teacher client register their metrics here."""

rows = Gauge("tutorloop_rows", "Rows of the task, by what happened to them", (*LABELS, "outcome"), registry=registry)
progress = Gauge("tutorloop_progress_ratio", "Share of the task's work that is done", LABELS, registry=registry)
seconds = Gauge("tutorloop_stage_seconds", "Wall time of the task", LABELS, registry=registry)
failed = Gauge("tutorloop_stage_failed", "1 when the task ended with an error", LABELS, registry=registry)
accuracy = Gauge("tutorloop_accuracy_ratio", "Greedy pass@1 of a model", (*LABELS, "model", "benchmark"), registry=registry)
teacher = Gauge(
    "tutorloop_teacher", "Teacher usage of the task: requests, cache hits, tokens, dollars", (*LABELS, "what"), registry=registry
)


def task_labels(task: StageRun | StageRecord) -> dict[str, str]:
    """Values of :data:`LABELS` for one task."""
    return {
        "pipeline": os.environ.get("TUTORLOOP_PIPELINE", "orca-math"),
        "run": os.environ.get("TUTORLOOP_RUN", "none"),
        "stage": task.stage,
        "task": task.task,
        "shard": task.shard,
    }


def stage_progress(run: StageRun, done: int, total: int) -> None:
    """Note how far the task is, and publish."""
    progress.labels(**task_labels(run)).set(done / total if total else 1.0)
    _publish(task_labels(run))


def stage_end(record: StageRecord) -> None:
    """Note the task's final figures, and publish."""
    labels = task_labels(record)
    seconds.labels(**labels).set(record.seconds)
    failed.labels(**labels).set(0 if record.status == "succeeded" else 1)
    rows.labels(**labels, outcome="in").set(record.rows_in)
    rows.labels(**labels, outcome="kept").set(record.rows_kept)
    for reason, count in record.dropped.items():
        rows.labels(**labels, outcome=f"dropped:{reason}").set(count)
    for score in record.scores:
        accuracy.labels(**labels, model=score.model, benchmark=score.benchmark).set(score.pass_at_1)
    if record.usage:
        for what in record.usage.__struct_fields__:
            teacher.labels(**labels, what=what).set(getattr(record.usage, what))
    _publish(labels)


def _publish(labels: dict[str, str]) -> None:
    folder = os.environ.get("TUTORLOOP_METRICS_DIR")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{labels['task']}-{labels['shard']}").strip("-")
        write_to_textfile(str(Path(folder) / f"{name}.prom"), registry)
    gateway = os.environ.get("TUTORLOOP_PUSHGATEWAY")
    if gateway:
        grouping = {key: labels[key] for key in ("run", "task", "shard")}
        try:
            push_to_gateway(gateway, job="tutorloop", registry=registry, grouping_key=grouping, timeout=5)
        except OSError as error:
            print(f"metrics were not pushed to the gateway: {error}", flush=True)
