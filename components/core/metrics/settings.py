"""Where metrics go, and how often.

Environment:
    TUTORLOOP_METRICS_DIR: Folder for one ``.prom`` file per task; nothing is written when it is not set.
    TUTORLOOP_PUSHGATEWAY: Address of a Pushgateway (``http://host:port``); nothing is pushed when it is not set.
    TUTORLOOP_PUSHGATEWAY_USER, TUTORLOOP_PUSHGATEWAY_PASSWORD: For basic authentication there.
    TUTORLOOP_PUSH_INTERVAL_S: Seconds between two pushes, 5 when not set.
    TUTORLOOP_PUSH_LAST_WAIT_S: Seconds that the end of a task, a run or a sync waits for a gateway that is too slow, 8 when not set.
    TUTORLOOP_RETRAINING_PERIOD_S: Seconds between two scheduled retrainings, for the alert that waits for the next one.
    TUTORLOOP_RUN, TUTORLOOP_PIPELINE: Values of the ``run`` and ``pipeline`` labels.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from components.core.errors import ParameterError
from components.core.metrics.pushgateway import Gateway


@dataclass(frozen=True)
class Settings:
    """Where metrics go, from the environment."""

    folder: Path | None
    gateway: Gateway | None
    interval_s: float
    last_wait_s: float
    """Longest time that an end waits for its last push, which is repeated meanwhile when the gateway does not answer in time."""
    period_s: float
    """Seconds between scheduled retrainings; 0 when not known."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment.

        Raises:
            ParameterError: A variable's value is not valid; nothing was started.
        """
        folder, address = os.environ.get("TUTORLOOP_METRICS_DIR"), os.environ.get("TUTORLOOP_PUSHGATEWAY")
        gateway = None
        if address:
            credentials = (os.environ.get(f"TUTORLOOP_PUSHGATEWAY_{part}", "") for part in ("USER", "PASSWORD"))
            gateway = Gateway(address, *credentials)
            gateway.check()
        return cls(
            folder=Path(folder) if folder else None,
            gateway=gateway,
            interval_s=_seconds_of("TUTORLOOP_PUSH_INTERVAL_S", 5.0),
            last_wait_s=_seconds_of("TUTORLOOP_PUSH_LAST_WAIT_S", 8.0),
            period_s=_seconds_of("TUTORLOOP_RETRAINING_PERIOD_S", 0.0),
        )


def _seconds_of(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    with contextlib.suppress(ValueError):
        if not text or 0 < float(text) < float("inf"):
            return float(text) if text else default
    raise ParameterError(name, text, "a number of seconds above 0")
