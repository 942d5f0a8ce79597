"""What is asked of the object store, on a real one that holds what the tasks of a run write there."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from components.core.records import StageRecord
from components.core.store import open_store
from components.promotion.registry import promote, publish_version
from components.report.stage import run as report
from components.student.generation.chunks import run_in_chunks
from components.teacher.responses import object_writing
from pipelines.control import results
from pipelines.parameters.profile import load
from pipelines.runs import record as run_record
from pipelines.runs.record import RunRecord
from tests.kind.deploy import PROFILE
from tests.kind.store import ObjectStore, root_keys
from tests.kind_pieces.conftest import Direct
from tests.kind_pieces.programs import Programs
from tests.support.s3 import ADMINISTRATOR, S3Server
from tests.support.sample_ledger import sample_ledger, write_ledger
from tests.support.stored_replies import key as key_of
from tests.support.stored_replies import opened, put

RUN = "7f0c1b3a-run"
MODELS = ("M0", "M1", "M2")
PARAMETERS = {"sections": load(str(PROFILE), ()).sections, "seed": 0}


@dataclass
class Artifact:
    """As a task sees it."""

    path: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The buckets of the cluster, empty."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUTORLOOP_RUN", RUN)
    for bucket in ("artifacts", "models", "responses"):
        if not s3_server.client.bucket_exists(bucket_name=bucket):
            s3_server.client.make_bucket(bucket_name=bucket)
        for item in s3_server.client.list_objects(bucket_name=bucket, recursive=True):
            s3_server.client.remove_object(bucket_name=bucket, object_name=item.object_name)
    keys = dict(zip(("access_key", "secret_key"), ADMINISTRATOR.values(), strict=True))
    return ObjectStore(Direct(s3_server.endpoint), keys)


def finished(tmp_path: Path) -> None:
    """Write what the first and the last tasks of a run write."""
    folder = run_record.folder_of("s3://artifacts/records")
    run_record.begin(
        RunRecord(id=RUN, profile="kind", status=run_record.RUNNING, started_at=run_record.now(), parameters=PARAMETERS), folder
    )
    ledger = write_ledger(tmp_path / "ledger.jsonl", sample_ledger())
    made = {name: tmp_path / name for name in ("html", "summary", "decision", "card")}
    made["decision"].write_bytes(b'{"promoted": true, "reason": "a gain", "candidate": "M2", "champion": ""}')
    made["card"].write_text("{}")
    report(ledger, made["decision"], made["html"], made["summary"])
    made["ledger"] = ledger
    results.keep("s3://artifacts/records", {name: Artifact(str(path), f"s3://artifacts/runs/{name}") for name, path in made.items()})
    run_record.finish(folder, succeeded=True)


def test_a_complete_record_has_no_problems(store: ObjectStore, tmp_path: Path) -> None:
    finished(tmp_path)
    assert list(store.problems_of_record(RUN, MODELS)) == []
    assert store.record(RUN).status == "succeeded"
    assert {row.stage for row in store.ledger(RUN)} >= {"sft", "sampling"}
    assert all(isinstance(row, StageRecord) for row in store.ledger(RUN))


def test_what_a_record_lacks_is_told(store: ObjectStore, tmp_path: Path) -> None:
    [said] = store.problems_of_record(RUN, MODELS)
    assert "lacks run.json, report.html" in said
    finished(tmp_path)
    [said, page] = store.problems_of_record(RUN, (*MODELS, "NoSuchModel"))
    assert said == "it has no scores of NoSuchModel" and "should show" in page
    run_record.finish(run_record.folder_of("s3://artifacts/records"), succeeded=False, error="the store went away")
    [said] = store.problems_of_record(RUN, MODELS)
    assert said == "its status is failed: the store went away"


def test_artifacts_of_a_run_are_found_by_task_and_those_of_others_are_not(store: ObjectStore, s3_server: S3Server) -> None:
    for key in (
        f"runs/orca-math/{RUN}/sft/0b6e-salt/model/weights.safetensors",
        f"runs/orca-math/{RUN}/report/77aa-salt/html",
        "runs/orca-math/other/report/77aa-salt/html",
        f"checkpoints/{RUN}/x",
    ):
        s3_server.client.put_object(bucket_name="artifacts", object_name=key, data=io.BytesIO(b"x"), length=1)
    assert store.artifacts(RUN) == {"sft": {"model"}, "report": {"html"}}


def test_the_champion_and_the_files_of_its_version(store: ObjectStore, tmp_path: Path) -> None:
    assert store.champion() is None
    (tmp_path / "weights").write_text("w")
    models = open_store("s3://models")
    manifest, _ = publish_version(models, {"model/weights": tmp_path / "weights", "card.json": tmp_path / "weights"})
    assert store.champion() is None, "a version is no champion yet"
    assert promote(models, manifest.version, "") == "moved"
    champion = store.champion()
    assert champion is not None and champion.version == manifest.version and champion.generation == 1
    assert set(store.version_files(champion.version)) == {"model/weights", "card.json", "manifest.json"}


def test_replies_are_counted_and_one_that_was_paid_for_twice_is_seen(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writing, "OBJECT_SEGMENT_BYTES", 1)
    # Keys of a run may not delete.
    monkeypatch.setattr(object_writing.ObjectWriter, "_delete", lambda *_: None)

    async def pay(run: str, *texts: str) -> None:
        replies = opened("s3://responses", run)
        for text in texts:
            await put(replies, text, '{"key":"not one"}')
        replies.close()

    asyncio.run(pay("first", *"abcd"))
    assert any(name.endswith(".idx") for name in store.keys("responses")), "they are packed"
    assert store.replies() == {key_of(text): 1 for text in "abcd"}
    asyncio.run(pay("second", "a"))
    assert store.replies() == {key_of(text): 2 if text == "a" else 1 for text in "abcd"}


class Row(msgspec.Struct):
    """A row of work in progress."""

    value: int


def test_work_in_progress_is_seen_while_it_is_there(store: ObjectStore) -> None:
    seen: list[set[str]] = []

    def work(chunk: Any, before: int) -> list[Row]:
        seen.append(store.checkpoints())
        return [Row(value) for value in chunk]

    run_in_chunks("s3://artifacts/checkpoints", "abc", [1, 2, 3, 4, 5, 6, 7, 8], 4, Row, work)
    assert seen == [set(), {"checkpoints/abc/00000000-4.json"}]
    from tests.kind.test_kills import TRACES

    assert all(TRACES["sample"].search(key) for key in seen[1])


def test_the_administrators_keys_come_from_their_secret(programs: Programs) -> None:
    from tests.kind.cluster import Kubectl

    programs.answers("get secret minio-root", out='{"data": {"rootUser": "cm9vdA==", "rootPassword": "cGFzcw=="}}')
    assert root_keys(Kubectl("lab")) == {"access_key": "root", "secret_key": "pass"}
