"""A Pushgateway: replaces, updates, lists and removes groups of metrics.

The gateway keeps a group until it is removed, and would show a run that ended weeks ago for ever; :func:`stale_groups` names those.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit

from prometheus_client import delete_from_gateway, push_to_gateway, pushadd_to_gateway
from prometheus_client.exposition import basic_auth_handler
from prometheus_client.registry import Collector

from components.core.errors import ParameterError
from components.core.redaction import redact

JOB = "tutorloop"
TIMEOUT_S = 3.0
LIVE_S = 120.0
"""A task that runs pushes every few seconds: after so long a silence its process is taken for dead."""
FORGOTTEN_S = 86_400.0
"""Another run's unfinished or failed task is removed after so long a silence, even where no newer one takes its place."""

UNREACHABLE = (OSError, HTTPException, ValueError)
"""What a call raises when the gateway is down, refuses, or answers something else."""


@dataclass(frozen=True)
class Group:
    """One group of the gateway.

    Attributes:
        labels: Its grouping key, without ``job``.
        pushed_at: Seconds since 1970 at the last push.
        running: Whether it is of a task that had not ended at the last push.
        failed: Whether it is of a task that ended with an error.
    """

    labels: Mapping[str, str]
    pushed_at: float
    running: bool
    failed: bool


@dataclass(frozen=True)
class Gateway:
    """Where metrics are pushed to. Every method raises one of :data:`UNREACHABLE` when the gateway does not do as it is asked.

    Attributes:
        address: ``http://host:port``, with a path where a proxy needs one.
        user: For basic authentication; empty for none.
        password: Its password.
        job: First label of every group.
    """

    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    job: str = JOB

    def check(self) -> None:
        """Refuse an address that is none, or that holds credentials: addresses end up in logs.

        Raises:
            ParameterError: Says which.
        """
        if "@" in self.address:
            allowed = "an address without credentials; put them into TUTORLOOP_PUSHGATEWAY_USER and TUTORLOOP_PUSHGATEWAY_PASSWORD"
            raise ParameterError("TUTORLOOP_PUSHGATEWAY", redact(self.address), allowed)
        if not self.address.startswith(("http://", "https://")) or not urlsplit(self.address).netloc:
            raise ParameterError("TUTORLOOP_PUSHGATEWAY", self.address, "an address such as http://pushgateway:9091")

    def replace(self, content: Collector, key: Mapping[str, str]) -> None:
        """Make these metrics the whole content of a group."""
        push_to_gateway(self.address, self.job, content, dict(key), TIMEOUT_S, self._handler())

    def update(self, content: Collector, key: Mapping[str, str]) -> None:
        """Put these in the place of the group's metrics of the same names; its others stay."""
        pushadd_to_gateway(self.address, self.job, content, dict(key), TIMEOUT_S, self._handler())

    def remove(self, key: Mapping[str, str]) -> None:
        """Remove a group; one that is gone already is no error."""
        delete_from_gateway(self.address, self.job, dict(key), TIMEOUT_S, self._handler())

    def groups(self) -> list[Group]:
        """All groups of the job."""
        request = urllib.request.Request(f"{self.address.rstrip('/')}/api/v1/metrics")
        if self.user:
            token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {token}")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            listed: list[dict[str, Any]] = json.load(response)["data"]
        return [_group(item) for item in listed if item["labels"].get("job") == self.job]

    def _handler(self) -> Callable[..., Any]:
        return partial(basic_auth_handler, username=self.user or None, password=self.password)


def insist(push: Callable[[], None], until: float) -> None:
    """Push, and again as long as the gateway does not answer in time.

    Args:
        push: What to do.
        until: No new attempt begins after this; seconds of the monotonic clock.

    Raises:
        Exception: What the last attempt raised, at once when the gateway is not there or refuses.
    """
    while True:
        try:
            return push()
        except UNREACHABLE as error:
            reason = error.reason if isinstance(error, URLError) else error
            if not isinstance(reason, TimeoutError) or time.monotonic() >= until:
                raise


def _group(item: Mapping[str, Any]) -> Group:
    def value(name: str) -> float:
        metrics = item.get(name, {}).get("metrics", [])
        return float(metrics[0]["value"]) if metrics else 0.0

    return Group(
        labels={name: value for name, value in item["labels"].items() if name != "job"},
        pushed_at=value("push_time_seconds"),
        running=value("tutorloop_stage_running") > 0,
        failed=value("tutorloop_stage_failed") > 0,
    )


def stale_groups(groups: Sequence[Group], pipeline: str, run: str, task: str, now: float) -> list[Group]:
    """Groups of other runs that a task of this run makes obsolete.

    Those of the same task go, whatever their shard, unless their own run is still at it; those of other tasks that are unfinished
    or failed go when nothing was heard of them for a day. The pipeline's own group has no task and always stays.

    Args:
        groups: What the gateway holds.
        pipeline: Pipeline of the task.
        run: Run of the task.
        task: Its name.
        now: Seconds since 1970.
    """
    others = [group for group in _tasks(groups, pipeline) if group.labels["run"] != run]
    return [
        group
        for group in others
        if (group.labels["task"] == task and not (group.running and now - group.pushed_at < LIVE_S))
        or ((group.running or group.failed) and now - group.pushed_at > FORGOTTEN_S)
    ]


def groups_left_by(groups: Sequence[Group], pipeline: str, run: str, succeeded: bool) -> list[Group]:
    """Groups that the end of a run makes obsolete: its tasks that died at work, and after success the failed tasks of other runs.

    Args:
        groups: What the gateway holds.
        pipeline: Pipeline of the run.
        run: Its name.
        succeeded: How it ended.
    """
    mine = [group for group in _tasks(groups, pipeline) if group.labels["run"] == run and group.running]
    others = [group for group in _tasks(groups, pipeline) if group.labels["run"] != run and group.failed and succeeded]
    return mine + others


def _tasks(groups: Sequence[Group], pipeline: str) -> list[Group]:
    return [group for group in groups if group.labels.get("pipeline") == pipeline and {"run", "task"} <= group.labels.keys()]
