"""Calls of the Kubeflow API that wait for a server that is away for a while, and say clearly what is wrong otherwise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeVar

import urllib3
from kfp_server_api.exceptions import ApiException

from components.core.errors import TutorLoopError
from components.core.redaction import redact

T = TypeVar("T")

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 10.0
AWAY = (429, 502, 503, 504)
BROKEN = 500
BROKEN_TRIES = 3
"""Kubeflow answers 500 both to a hiccup of its database and to what it will never do."""
NOT_FOUND = 404
EXISTS = 409


class KubeflowError(TutorLoopError):
    """Kubeflow refuses something, or answers something else than the API says."""


class UnreachableError(KubeflowError):
    """Kubeflow was away for longer than the patience lasts."""


class MissingError(KubeflowError):
    """What a call is about does not exist (any more)."""


class ExistsError(KubeflowError):
    """What was to be made is there already."""


class Caller:
    """Makes calls.

    Args:
        host: Address of the API, for messages.
        patience_s: How long to wait for a server that is away, for each call.
    """

    def __init__(self, host: str, patience_s: float) -> None:
        self._host = host
        self._patience_s = patience_s

    def __call__(self, what: str, call: Callable[[], T], found: Callable[[], T | None] | None = None) -> T:
        """Make a call until it is answered.

        Args:
            what: What it does, for messages: ``list the experiments``.
            call: The call. It may be made several times, since an answer can get lost.
            found: For one that makes what there can only be one of: finds it when it is there already.

        Raises:
            ExistsError: What was to be made is there, and ``found`` does not find it.
            KubeflowError: It is refused.
            MissingError: What it is about does not exist.
            UnreachableError: Nothing answers for too long.
        """
        deadline, wait, broken = time.monotonic() + self._patience_s, FIRST_WAIT_S, 0
        while True:
            try:
                return call()
            except ApiException as error:
                broken += error.status == BROKEN
                if error.status == EXISTS and found and (made := found()) is not None:
                    return made
                if error.status not in AWAY and not (error.status == BROKEN and broken < BROKEN_TRIES):
                    raise self._refused(what, error) from error
                reason = f"it answers {error.status}: {message(error)}"
            except (urllib3.exceptions.HTTPError, OSError) as error:
                reason = redact(str(error))
            if time.monotonic() + wait > deadline:
                raise UnreachableError(
                    f"Kubeflow at {self._host} is away; tried to {what} for {self._patience_s:g} s, the last answer: {reason}",
                    "see whether the API server (deployment ml-pipeline) runs and --host is its address; what was done is kept, "
                    "and the same command goes on from there",
                )
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_S)

    def _refused(self, what: str, error: ApiException) -> KubeflowError:
        kinds: dict[int, tuple[type[KubeflowError], str]] = {
            401: (KubeflowError, "give a token that Kubeflow accepts with --token-file"),
            403: (KubeflowError, "let the service account do this in the namespace, or name another one with --namespace"),
            NOT_FOUND: (MissingError, "do it again; if it stays away, see whether --host is the address of the Kubeflow Pipelines API"),
            EXISTS: (ExistsError, "do it again"),
        }
        kind, hint = kinds.get(error.status, (KubeflowError, "see the log of the API server (deployment ml-pipeline)"))
        return kind(f"Kubeflow at {self._host} does not {what} ({error.status}): {message(error)}", hint)


def message(error: ApiException) -> str:
    """What the API says in an error: its services and its uploads use different forms."""
    try:
        body = json.loads(error.body or "{}")
    except ValueError:
        body = {}
    told = (body.get("message") or body.get("error_message")) if isinstance(body, dict) else None
    return str(redact(str(told or error.body or error.reason)))[:600]
