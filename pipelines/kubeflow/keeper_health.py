"""Tells how the keeper of records fares: files for the probes of its pod, and metrics for the alert when it is gone (job ``keeper``)."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from components.core.errors import ParameterError
from components.core.metrics.pushgateway import UNREACHABLE
from components.core.metrics.settings import Settings
from components.core.redaction import redact

JOB = "keeper"
ALIVE, READY = "alive", "ready"
EVERY_S = 60.0


class Health:
    """How the keeper fares.

    Args:
        folder: Where the files are: ``alive`` is touched each time it gets around, ``ready`` is there while it has API and store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pushed = float("-inf")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / READY).unlink(missing_ok=True)

    def alive(self) -> None:
        """It got around once more."""
        (self._folder / ALIVE).touch()

    def ready(self, fine: bool, owed: int) -> None:
        """Whether it has API and store, and how many records it could not close."""
        if not fine:
            (self._folder / READY).unlink(missing_ok=True)
            return
        (self._folder / READY).touch()
        if time.monotonic() - self._pushed >= EVERY_S:
            self._pushed = time.monotonic()
            self._push(owed)

    def _push(self, owed: int) -> None:
        registry = CollectorRegistry()
        text = "When the keeper of records last saw all workflows and its store, since 1970"
        Gauge("tutorloop_keeper_last_look_timestamp_seconds", text, registry=registry).set(time.time())
        Gauge("tutorloop_keeper_records_owed", "Runs that have ended and whose records cannot be closed", registry=registry).set(owed)
        try:
            gateway = Settings.from_environment().gateway
            if gateway is not None:
                dataclasses.replace(gateway, job=JOB).replace(registry, {})
        except (*UNREACHABLE, ParameterError) as error:
            print(redact(f"metrics are not published: {error}"), file=sys.stderr, flush=True)
