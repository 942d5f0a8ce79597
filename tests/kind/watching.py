"""Pods of a run as they change: kubectl's watch, which tells within a moment what listing them again and again tells late."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import IO, Any

from tests.kind.cluster import Kubectl


def events_of(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """The JSON values of a stream, each as soon as it is whole: kubectl puts them one after another, over many lines."""
    decoder, text = json.JSONDecoder(), ""
    for line in stream:
        text = (text + line).lstrip()
        # A value that has begun cannot end elsewhere than at a closing brace.
        if line.rstrip().endswith("}"):
            with contextlib.suppress(json.JSONDecodeError):
                while text:
                    value, end = decoder.raw_decode(text)
                    text = text[end:].lstrip()
                    yield value


class PodWatch:
    """What happens to pods, from those that are there on. A kubectl that ends, as with its API server, is started again.

    Args:
        kubectl: The cluster.
        namespace: Of the pods.
        selector: Of labels.
    """

    def __init__(self, kubectl: Kubectl, namespace: str, selector: str) -> None:
        options = ("--watch", "--output-watch-events", "--output", "json", "--namespace", namespace, "--selector", selector)
        self._command = kubectl.command("get", "pods", *options)
        self._events: Queue[dict[str, Any]] = Queue()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> PodWatch:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def process_id(self) -> int:
        """Of kubectl; 0 before it is started."""
        return self._process.pid if self._process else 0

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next pod that is new or has changed; None when there is none for so long. After a new start some come once more."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        try:
            return self._events.get(timeout=seconds)
        except Empty:
            return None

    def _start(self) -> None:
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace")
        assert process.stdout is not None
        self._process = process
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for event in events_of(stream):
                # A watch that is too old ends with an error, and a new one begins.
                if event.get("type") in ("ADDED", "MODIFIED"):
                    self._events.put(event["object"])
