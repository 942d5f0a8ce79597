"""What a run leaves in the object store, and what its tasks keep there while they work."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from minio import Minio

from components.core.records import StageRecord
from components.promotion.records import Pointer
from components.promotion.registry import POINTER, version_folder
from components.teacher.responses.lines import decode_pack_head
from pipelines.control.results import FILES
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord
from tests.kind.cluster import Kubectl
from tests.kind.forward import Address

RUNS, CHECKPOINTS, RECORDS = "runs/", "checkpoints/", "records/"
_ARTIFACT = re.compile(r"^runs/[^/]+/(?P<run>[^/]+)/(?P<task>[^/]+)/[^/]+/(?P<artifact>[^/]+)")
"""KFP's layout below the root: pipeline, run, task, salt, artifact (driver.go, provisionOutputs)."""
_REPLY = re.compile(rb'^\{"key":"([0-9a-f]{64})"', re.MULTILINE)
REPORT_BYTES = 10_000
"""A report is larger: it holds its own style and charts."""


def root_keys(kubectl: Kubectl) -> dict[str, str]:
    """Access and secret key of the store's administrator, from its Secret."""
    data = kubectl.get("secret", "tutorloop", name="minio-root")["data"]
    user, password = (base64.b64decode(data[name]).decode() for name in ("rootUser", "rootPassword"))
    return {"access_key": user, "secret_key": password}


class ObjectStore:
    """The store of the runs.

    Args:
        forward: Leads to it.
        keys: ``access_key`` and ``secret_key``.
    """

    def __init__(self, forward: Address, keys: dict[str, str]) -> None:
        self._forward = forward
        self._keys = keys

    @property
    def client(self) -> Any:
        """For the address that holds now."""
        return Minio(self._forward.url().removeprefix("http://"), **self._keys, secure=False, region="us-east-1")

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Everything below a prefix."""
        return [str(item.object_name) for item in self.client.list_objects(bucket_name=bucket, prefix=prefix, recursive=True)]

    def read(self, bucket: str, key: str) -> bytes:
        """An object."""
        answer = self.client.get_object(bucket_name=bucket, object_name=key)
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    def artifacts(self, run: str) -> dict[str, set[str]]:
        """Artifacts that a run's own tasks wrote, by task."""
        found: dict[str, set[str]] = {}
        for key in self.keys("artifacts", RUNS):
            match = _ARTIFACT.match(key)
            if match and match["run"] == run:
                found.setdefault(match["task"], set()).add(match["artifact"])
        return found

    def record(self, run: str) -> RunRecord:
        """A run's record."""
        return msgspec.json.decode(self.read("artifacts", f"{RECORDS}{run}/{run_record.FILE}"), type=RunRecord)

    def ledger(self, run: str) -> list[StageRecord]:
        """What each task of a run did, those from the cache too."""
        lines = self.read("artifacts", f"{RECORDS}{run}/{FILES['ledger']}").splitlines()
        return [msgspec.json.decode(line, type=StageRecord) for line in lines if line.strip()]

    def problems_of_record(self, run: str, models: tuple[str, ...]) -> Iterator[str]:
        """What a successful run's record lacks, in sentences.

        Args:
            run: Its id.
            models: Names that the report must show.
        """
        there = set(self.keys("artifacts", f"{RECORDS}{run}/"))
        missing = [name for name in (run_record.FILE, *FILES.values()) if f"{RECORDS}{run}/{name}" not in there]
        if missing:
            yield f"the record {RECORDS}{run}/ lacks {', '.join(missing)}; it holds {sorted(there)}"
            return
        record = self.record(run)
        if record.status != run_record.SUCCEEDED:
            yield f"its status is {record.status}: {record.error}"
        if absent := set(models) - {model.name for model in record.models}:
            yield f"it has no scores of {', '.join(sorted(absent))}"
        page = self.read("artifacts", f"{RECORDS}{run}/{FILES['html']}").decode()
        if len(page) < REPORT_BYTES or not all(name in page for name in models):
            yield f"the report has {len(page)} characters and should show {', '.join(models)}"

    def champion(self) -> Pointer | None:
        """Who is the champion; None without one."""
        if POINTER not in self.keys("models", POINTER):
            return None
        return msgspec.json.decode(self.read("models", POINTER), type=Pointer)

    def version_files(self, version: str) -> list[str]:
        """Files of a published model."""
        folder = f"{version_folder(version)}/"
        return [key.removeprefix(folder) for key in self.keys("models", folder)]

    def replies(self) -> Counter[str]:
        """How often each request's reply is stored: twice is paid for twice."""
        found: Counter[str] = Counter()
        segments = {key: self.read("responses", key) for key in self.keys("responses", "replies/") if key.endswith(".jsonl")}
        # Tasks may not delete: what they have packed lies there twice.
        packed = {name for data in segments.values() for name in decode_pack_head(data)[0]}
        for key in segments.keys() - packed:
            found.update(match.decode() for match in _REPLY.findall(segments[key]))
        return found

    def checkpoints(self) -> set[str]:
        """Work in progress."""
        return set(self.keys("artifacts", CHECKPOINTS))
