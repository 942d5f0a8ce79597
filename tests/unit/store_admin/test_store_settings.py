"""Which buckets, rules and rights a settings file may ask for; and what those of the manifests come to."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import InputError, ParameterError
from pipelines.store_admin.settings import KEPT, StoreSettings, policy, read_settings, same_policy
from tests.conftest import ROOT

COMMITTED = ROOT / "manifests" / "components" / "minio" / "store.yaml"


def _read(folder: Path, text: str) -> StoreSettings:
    path = folder / "store.yaml"
    path.write_text(text)
    return read_settings(path)


def _may(document: dict[str, Any], action: str, bucket: str, key: str = "", listed: str = "") -> bool:
    """Whether a policy allows something, as S3 reads it."""
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    for statement in document["Statement"]:
        prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", ["*"])
        allowed = action in statement["Action"] and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        if allowed and any(fnmatchcase(listed, pattern) for pattern in prefixes):
            return True
    return False


def test_the_committed_settings_hold() -> None:
    settings = read_settings(COMMITTED)
    assert set(settings.buckets) == {"artifacts", "models", "responses", "data"}
    assert {name for name, bucket in settings.buckets.items() if bucket.versioning} == {"models", "data"}
    assert not any(settings.buckets[name].expire for name in (*KEPT, "data"))


@pytest.mark.parametrize(
    ("user", "action", "where", "allowed"),
    [
        ("store", "s3:PutObject", "responses/a", True),
        ("store", "s3:GetObject", "responses/a", True),
        ("store", "s3:PutObject", "artifacts/checkpoints/run/a", True),
        ("store", "s3:DeleteObject", "artifacts/checkpoints/run/a", True),
        ("store", "s3:GetObject", "artifacts/runs/a", False),
        ("store", "s3:PutObject", "artifacts/checkpoints-of-others/a", False),
        ("store", "s3:GetObject", "data/a", True),
        ("store", "s3:PutObject", "data/a", False),
        ("store", "s3:GetObject", "models/a", True),
        ("store", "s3:PutObject", "models/a", False),
        ("publisher", "s3:PutObject", "models/a", True),
        ("launcher", "s3:DeleteObject", "artifacts/runs/a", True),
        ("launcher", "s3:GetObject", "responses/a", False),
        ("uploader", "s3:PutObject", "data/a", True),
        ("uploader", "s3:GetObject", "models/a", False),
        ("backup", "s3:GetObject", "responses/a", True),
        ("backup", "s3:PutObject", "responses/a", False),
        ("store", "s3:DeleteObject", "responses/claims/000000000001.json", True),
        ("store", "s3:DeleteObject", "responses/replies/run/a.jsonl", False),
    ],
)
def test_rights_of_the_committed_users(user: str, action: str, where: str, allowed: bool) -> None:
    bucket, _, key = where.partition("/")
    assert _may(policy(read_settings(COMMITTED).users[user]), action, bucket, key) is allowed


def test_no_user_may_delete_what_is_kept_or_touch_a_bucket_itself() -> None:
    for rights in read_settings(COMMITTED).users.values():
        document = policy(rights)
        assert not any(_may(document, "s3:DeleteObject", bucket, "any") for bucket in KEPT)
        actions = {action for statement in document["Statement"] for action in statement["Action"]}
        assert not actions & {"s3:*", "s3:DeleteBucket", "s3:PutLifecycleConfiguration", "s3:DeleteObjectVersion", "s3:PutBucketPolicy"}


def test_a_part_of_a_bucket_is_listed_alone() -> None:
    document = policy(read_settings(COMMITTED).users["store"])
    assert _may(document, "s3:ListBucket", "artifacts", listed="checkpoints/run")
    assert not _may(document, "s3:ListBucket", "artifacts", listed="runs/")


@pytest.mark.parametrize("bucket", KEPT)
def test_nothing_kept_expires(tmp_path: Path, bucket: str) -> None:
    with pytest.raises(ParameterError, match=rf"buckets\.{bucket}\.expire .* its objects are kept"):
        _read(tmp_path, f"buckets: {{{bucket}: {{expire: [{{prefix: old/, days: 9000}}]}}}}")
    with pytest.raises(ParameterError, match="are kept"):
        _read(tmp_path, f"{{buckets: {{{bucket}: {{}}}}, users: {{a: [{{bucket: {bucket}, rights: [read, delete]}}]}}}}")
    with pytest.raises(ParameterError, match="are kept"):
        _read(tmp_path, f"{{buckets: {{{bucket}: {{}}}}, users: {{a: [{{bucket: {bucket}, prefix: replies/, rights: [delete]}}]}}}}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("buckets: {Models: {}}", "small letters"),
        ("buckets: {data: {expire: [{prefix: '', days: 1}]}}", "length >= 1"),
        ("buckets: {data: {expire: [{prefix: a, days: 0}]}}", ">= 1"),
        ("buckets: {data: {expire_noncurrent_days: 3}}", "none without versioning"),
        ("buckets: {data: {version: true}}", "unknown field `version`"),
        ("{buckets: {data: {}}, users: {a: [{bucket: models, rights: [read]}]}}", "one of data"),
        ("{buckets: {data: {}}, users: {a-b: [{bucket: data, rights: [read]}]}}", "a letter first"),
        ("{buckets: {data: {}}, users: {a: [{bucket: data, rights: [own]}]}}", "Invalid enum value 'own'"),
        ("pails: {}", "store.pails"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        _read(tmp_path, text)
    assert said in str(caught.value)


def test_a_file_that_holds_no_settings_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing.yaml"):
        read_settings(tmp_path / "missing.yaml")
    with pytest.raises(InputError, match="holds no sections"):
        _read(tmp_path, "- a")
    with pytest.raises(InputError, match="cannot be read"):
        _read(tmp_path, "a: [")


def test_nothing_is_said_twice(tmp_path: Path) -> None:
    text = "{buckets: {data: {}}, users: {a: [{bucket: data, rights: [read]}, {bucket: data, rights: [write]}]}}"
    statements = policy(_read(tmp_path, text).users["a"])["Statement"]
    assert len(statements) == 4


def test_the_order_of_a_policy_does_not_count() -> None:
    document = policy(read_settings(COMMITTED).users["publisher"])
    turned = yaml.safe_load(yaml.safe_dump(document))
    turned["Statement"].reverse()
    for statement in turned["Statement"]:
        statement["Action"].reverse()
    assert same_policy(document, turned)
    turned["Statement"][0]["Action"].pop()
    assert not same_policy(document, turned)
