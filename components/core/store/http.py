"""The S3 backend's connections: they outlast a server that is away for a while."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import certifi
import urllib3

from components.core.errors import StoreError

PATIENCE_VARIABLE = "TUTORLOOP_STORE_PATIENCE_S"
PATIENCE_S = 180.0
LONGEST_PATIENCE_S = 840.0
"""Servers refuse signed requests that are older than 15 minutes."""
FIRST_CONTACT_S = 3.0
TASK_VARIABLE = "_KFP_RUNTIME"
"""KFP sets it in every task, locally and on a cluster. A task starts after a check has reached the store: one that does not answer is
away, not mistyped."""
_QUIET_S = 1.0
_REPEAT_S = 10.0


def patience() -> float:
    """Seconds to wait for a server that is away, from the environment.

    Raises:
        StoreError: The variable is not a number of seconds that can be waited for.
    """
    text = os.environ.get(PATIENCE_VARIABLE) or str(PATIENCE_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_PATIENCE_S:
        raise StoreError(f"{PATIENCE_VARIABLE} = {text!r} is not valid", f"give a number of seconds from 0 to {LONGEST_PATIENCE_S:.0f}")
    return seconds


# It logs whole addresses of requests that it repeats, signatures of presigned ones included.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


class Outage:
    """What all requests to one server know about its absence.

    Args:
        endpoint: The server, for what is printed.
        patience_s: Seconds that an absence may last.
    """

    def __init__(self, endpoint: str, patience_s: float) -> None:
        self._endpoint = endpoint
        self._patience = patience_s
        self._limit = patience_s if TASK_VARIABLE in os.environ else min(FIRST_CONTACT_S, patience_s)
        self._since: float | None = None
        self._told = 0.0

    def over(self) -> None:
        """Note that the server has answered a request as it should."""
        self._since = None
        self._limit = self._patience

    def left(self, since: float, reason: str) -> float:
        """Note a failure, print it once it is more than a hiccup, and return the seconds left to try.

        Args:
            since: Monotonic time of this request's first failure. A request that fails again and again while others succeed must
                end too.
            reason: For what is printed.
        """
        now = time.monotonic()
        # Another thread may find the server back at any time.
        began = self._since = now if self._since is None else self._since
        # A request that fails late in an outage does not get the whole time anew.
        left = self._limit - (now - min(since, began))
        if left > 0 and now - began >= _QUIET_S and now - self._told >= _REPEAT_S:
            self._told = now
            print(f"the store at {self._endpoint} {reason}, trying for another {left:.0f} s", flush=True)
        return left


class Patience(urllib3.Retry):
    """Retries any request for as long as an outage may last.

    Everything that the store sends may be sent twice: a conditional write tells from ``history`` that it may have been its own rival,
    and an upload that was completed twice is told by the server.
    """

    def __init__(self, *, outage: Outage, since: float | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._outage = outage
        self._first_failure = since

    @classmethod
    def during(cls, outage: Outage) -> Patience:
        """The policy for all requests to the server of ``outage``."""
        return cls(
            outage=outage,
            total=None,
            redirect=3,
            allowed_methods=None,
            status_forcelist=[500, 502, 503, 504],
            # The last answer names the cause in its body.
            raise_on_status=False,
            # It may ask for hours.
            respect_retry_after_header=False,
            backoff_factor=0.2,
            backoff_max=2,
            backoff_jitter=0.2,
        )

    def new(self, **changes: Any) -> Patience:
        """As urllib3 asks: a copy with changes."""
        return super().new(**{"outage": self._outage, "since": self._first_failure, **changes})

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        *rest: Any,
        **more: Any,
    ) -> Patience:
        """As urllib3 asks: the policy after a failure.

        Raises:
            urllib3.exceptions.MaxRetryError: The time is over, or waiting does not help.
        """
        first_failure = self._first_failure or time.monotonic()
        left = self._outage.left(first_failure, f"fails (HTTP {response.status})" if response else "does not answer")
        hopeless = left <= 0 or isinstance(error, urllib3.exceptions.SSLError)
        policy = self.new(since=first_failure, total=0 if hopeless else None)
        return super(Patience, policy).increment(method, url, response, error, *rest, **more)


class Connections(urllib3.PoolManager):
    """Connections to one server.

    Args:
        endpoint: The server, for what is printed.

    Raises:
        StoreError: The patience in the environment is malformed.
    """

    def __init__(self, endpoint: str) -> None:
        self._outage = Outage(endpoint, patience())
        super().__init__(
            timeout=urllib3.Timeout(connect=5, read=120),
            maxsize=32,
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
            retries=Patience.during(self._outage),
        )

    def urlopen(self, method: str, url: str, redirect: bool = True, **settings: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """As urllib3's, and notes that the server has answered."""
        response = super().urlopen(method, url, redirect, **settings)
        if response.status < 500:
            self._outage.over()
        return response
