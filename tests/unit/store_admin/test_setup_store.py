"""The set-up of a store, against a real S3 server and a double of MinIO's administration."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from pipelines.store_admin import setup as setup_store
from pipelines.store_admin.settings import policy, read_settings, same_policy
from tests.support import minio_double
from tests.support.minio_double import MinioDouble
from tests.support.ports import closed_port
from tests.support.s3 import ADMINISTRATOR, S3Server
from tests.support.waiting import wait_until
from tests.unit.store_admin.test_store_settings import COMMITTED

ROOT_KEYS = (ADMINISTRATOR["AWS_ACCESS_KEY_ID"], ADMINISTRATOR["AWS_SECRET_ACCESS_KEY"])
KEYS = ["a", "b", "checkpoints/c", "runs/d"]
USERS = ("launcher", "store", "publisher", "uploader", "backup")

SETTINGS = """
buckets:
  artifacts-{tag}: {{expire: [{{prefix: runs/, days: {days}}}, {{prefix: checkpoints/, days: 14}}]}}
  data-{tag}: {{versioning: true, expire_noncurrent_days: 30}}
  plain-{tag}: {{}}
users:
  reader: [{{bucket: data-{tag}, rights: [{rights}]}}]
"""


@pytest.fixture
def double(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MinioDouble]:
    """The double, and an environment in which the set-up finds it."""
    with minio_double.running(urlsplit(s3_server.endpoint).netloc, ROOT_KEYS) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("MINIO_ROOT_USER", ROOT_KEYS[0])
        monkeypatch.setenv("MINIO_ROOT_PASSWORD", ROOT_KEYS[1])
        for user in (*USERS, "reader"):
            monkeypatch.setenv(f"MINIO_USER_{user.upper()}_ACCESS_KEY", f"{user}-0a1b")
            monkeypatch.setenv(f"MINIO_USER_{user.upper()}_SECRET_KEY", f"{user}-secret-for-tests")
        yield server


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Settings with buckets of their own."""
    return _write(tmp_path, tmp_path.name)


def _write(folder: Path, tag: str, days: int = 90, rights: str = "read") -> Path:
    clean = "".join(letter if letter.isalnum() else "-" for letter in tag.lower())[-30:].strip("-")
    path = folder / "store.yaml"
    path.write_text(SETTINGS.format(tag=clean, days=days, rights=rights))
    return path


def _said(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> list[str]:
    assert setup_store.main([str(argument) for argument in arguments]) == status
    printed = capsys.readouterr()
    return (printed.out + printed.err).splitlines()


def test_the_committed_settings_are_made_once(double: MinioDouble, s3_server: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    first = _said(capsys, COMMITTED)
    assert "bucket responses: made" in first
    assert "bucket models: versioning switched on" in first
    assert double.users["store-0a1b"] == {"status": "enabled", "secretKey": "store-secret-for-tests", "policyName": "tutorloop-store"}
    assert set(double.users) == {f"{user}-0a1b" for user in USERS}
    assert double.policies["readonly"] == minio_double.BUILT_IN["readonly"]
    assert s3_server.client.get_bucket_lifecycle(bucket_name="responses") is None

    double.changes.clear()
    assert _said(capsys, COMMITTED) == ["all as it should be, nothing changed"]
    assert not double.changes


def test_rules_are_what_the_settings_say(
    double: MinioDouble, s3_server: S3Server, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _said(capsys, settings)
    artifacts, data, _ = read_settings(settings).buckets
    rules = s3_server.client.get_bucket_lifecycle(bucket_name=artifacts)
    assert rules is not None
    assert {(rule.rule_filter.prefix, rule.expiration.days) for rule in rules.rules} == {("runs/", 90), ("checkpoints/", 14)}
    assert s3_server.client.get_bucket_versioning(bucket_name=data).status == ENABLED

    _write(settings.parent, settings.parent.name, days=60)
    expected = f"bucket {artifacts}: lifecycle rules are now runs/* after 60 days, checkpoints/* after 14 days"
    assert _said(capsys, settings) == [expected, "1 changes"]


def test_a_rule_made_by_hand_goes(double: MinioDouble, s3_server: S3Server, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _said(capsys, settings)
    plain = list(read_settings(settings).buckets)[2]
    rule = Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id="by-hand", expiration=Expiration(days=1))
    s3_server.client.set_bucket_lifecycle(bucket_name=plain, config=LifecycleConfig([rule]))
    assert _said(capsys, settings)[0] == f"bucket {plain}: lifecycle rules are now none"
    assert s3_server.client.get_bucket_lifecycle(bucket_name=plain) is None


def test_objects_outlive_every_change(double: MinioDouble, s3_server: S3Server, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _said(capsys, settings)
    for bucket in read_settings(settings).buckets:
        s3_server.put_many(bucket, KEYS)
    _write(settings.parent, settings.parent.name, days=1, rights="read, write")
    _said(capsys, settings, "--prune")
    for bucket in read_settings(settings).buckets:
        assert [item.object_name for item in s3_server.client.list_objects(bucket_name=bucket, recursive=True)] == KEYS


def test_changed_rights_change_the_policy(double: MinioDouble, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _said(capsys, settings)
    _write(settings.parent, settings.parent.name, rights="read, write")
    assert _said(capsys, settings) == ["policy tutorloop-reader: changed", "1 changes"]
    assert same_policy(double.policies["tutorloop-reader"], policy(read_settings(settings).users["reader"]))


def test_a_changed_secret_reaches_the_server(
    double: MinioDouble, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _said(capsys, settings)
    monkeypatch.setenv("MINIO_USER_READER_SECRET_KEY", "another-secret-for-tests")
    said = _said(capsys, settings)
    assert said == ["user reader (reader-0a1b): given its keys again", "1 changes"]
    assert double.users["reader-0a1b"]["secretKey"] == "another-secret-for-tests"
    assert "secret-for-tests" not in "\n".join(said)


def test_what_somebody_took_away_comes_back(double: MinioDouble, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _said(capsys, settings)
    double.users["reader-0a1b"] |= {"status": "disabled", "policyName": "readonly"}
    assert len(_said(capsys, settings)) == 3
    assert double.users["reader-0a1b"]["status"] == "enabled"
    assert double.users["reader-0a1b"]["policyName"] == "tutorloop-reader"


def test_old_keys_work_until_they_are_pruned(
    double: MinioDouble, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _said(capsys, settings)
    double.users["somebody-else"] = {"status": "enabled", "secretKey": "not-ours-at-all", "policyName": "readonly"}
    monkeypatch.setenv("MINIO_USER_READER_ACCESS_KEY", "reader-2c3d")
    _said(capsys, settings)
    assert set(double.users) == {"reader-0a1b", "reader-2c3d", "somebody-else"}
    assert _said(capsys, settings, "--prune")[0] == "user reader-0a1b: removed, its keys are in use no more"
    assert set(double.users) == {"reader-2c3d", "somebody-else"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MINIO_USER_READER_SECRET_KEY", "", "(not set)"),
        ("MINIO_USER_READER_SECRET_KEY", "short", "8 characters or more"),
        ("MINIO_USER_READER_ACCESS_KEY", ROOT_KEYS[0], "root has this one"),
        ("MINIO_USER_READER_SECRET_KEY", ROOT_KEYS[1], "a key of its own"),
        ("MINIO_ROOT_PASSWORD", "", "MINIO_ROOT_PASSWORD"),
        ("AWS_ENDPOINT_URL", "minio:9000", "http://minio.tutorloop:9000"),
    ],
)
def test_wrong_keys_change_nothing(
    double: MinioDouble,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    printed = "\n".join(_said(capsys, settings, status=2))
    assert said in printed
    assert ROOT_KEYS[1] not in printed
    assert not double.changes


def test_wrong_root_keys_are_not_waited_for(
    double: MinioDouble, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIO_ROOT_PASSWORD", "not-the-password")
    [line, hint] = _said(capsys, settings, status=1)
    assert "refuses root's keys (SignatureDoesNotMatch)" in line
    assert "minio-root" in hint


def test_a_server_that_starts_late_is_waited_for(
    s3_server: S3Server, settings: Path, double: MinioDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup_store, "PAUSE_S", 0.05)
    said: list[str] = []

    def waiting() -> bool:
        said.append(capsys.readouterr().out)
        return "waiting for http://127.0.0.1" in "".join(said)

    with closed_port() as port, ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        status = pool.submit(setup_store.main, [str(settings)])
        wait_until(waiting)
        with minio_double.running(urlsplit(s3_server.endpoint).netloc, ROOT_KEYS, port, starting=True) as late:
            assert late.refused.wait(60)
            assert not status.done()
            late.starting = False
            assert status.result(60) == 0


def test_nobody_there_is_said(
    double: MinioDouble, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closed_port() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        said = _said(capsys, settings, "--patience", "0.1", status=1)
    assert any("no S3 server answers" in line for line in said)


def test_a_plain_s3_server_is_no_minio(
    double: MinioDouble, s3_server: S3Server, settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    assert any("is it MinIO" in line for line in _said(capsys, settings, status=1))
