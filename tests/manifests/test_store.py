"""What the store is set up to keep and whom it lets in: nothing that was paid for is ever removed by a rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pipelines.parts.cluster import StoreOptions
from tests.manifests.conftest import Build
from tests.manifests.objects import read_yaml

BUCKETS = {"artifacts", "models", "responses", "data"}
RIGHTS: dict[str, set[tuple[str, str, str]]] = {
    "launcher": {("artifacts", "", right) for right in ("read", "write", "delete")},
    "store": {
        ("responses", "", "read"),
        ("responses", "", "write"),
        ("responses", "claims/", "delete"),
        ("artifacts", "checkpoints/", "read"),
        ("artifacts", "checkpoints/", "write"),
        ("artifacts", "checkpoints/", "delete"),
        ("artifacts", "handed-on/", "read"),
        ("artifacts", "handed-on/", "write"),
        ("artifacts", "records/", "read"),
        ("artifacts", "records/", "write"),
        ("data", "", "read"),
        ("models", "", "read"),
    },
    "uploader": {("data", "", right) for right in ("read", "write", "delete")},
    "backup": {(bucket, "", "read") for bucket in BUCKETS},
}
RIGHTS["publisher"] = RIGHTS["store"] | {("models", "", "write")}
"""User to what it may do where: bucket, prefix, right."""


def removes_current(settings: dict[str, Any], bucket: str) -> bool:
    """Whether a lifecycle rule removes objects of a bucket that nobody has replaced."""
    return bool(settings["buckets"][bucket].get("expire"))


@pytest.fixture(scope="session", params=["kind", "production"])
def settings(request: pytest.FixtureRequest, build: Build) -> dict[str, Any]:
    """What the set-up Job of an overlay is given."""
    [item] = [item for item in build(f"overlays/{request.param}").of("ConfigMap") if item["metadata"]["name"].startswith("minio-setup")]
    [found] = read_yaml(item["data"]["store.yaml"])
    return dict(found)


def test_buckets_are_those_that_everybody_names(settings: dict[str, Any]) -> None:
    assert settings["buckets"].keys() == BUCKETS


@pytest.mark.parametrize("bucket", ["responses", "models", "data"])
def test_no_rule_removes_what_was_paid_for(settings: dict[str, Any], bucket: str) -> None:
    assert not removes_current(settings, bucket)


def test_a_rule_that_removes_it_is_noticed(settings: dict[str, Any]) -> None:
    assert removes_current({"buckets": {"responses": {"expire": [{"prefix": "", "days": 1}]}}}, "responses")


def test_rules_of_artifacts_spare_the_records_of_runs(settings: dict[str, Any]) -> None:
    prefixes = {rule["prefix"]: rule["days"] for rule in settings["buckets"]["artifacts"]["expire"]}
    assert prefixes.keys() == {"runs/", "private-artifacts/", "checkpoints/", "handed-on/"}
    assert all(days >= 7 for days in prefixes.values()), "a run may take days, and be looked at later"
    assert prefixes["handed-on/"] > prefixes["runs/"], "what refers to a model must not outlive it"


def test_every_store_of_a_run_is_in_a_bucket_that_its_tasks_may_write(settings: dict[str, Any], build: Build) -> None:
    [environment] = [item for item in build("overlays/kind").of("ConfigMap") if item["metadata"]["name"] == "tutorloop-environment"]
    uris = [*msgspec.structs.asdict(StoreOptions()).values(), environment["data"]["TUTORLOOP_MODEL_STORE"]]
    for uri in uris:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        user = "publisher" if bucket == "models" else "store"
        grants = [
            grant for grant in settings["users"][user] if grant["bucket"] == bucket and f"{prefix}/".startswith(grant.get("prefix", ""))
        ]
        assert any({"read", "write"} <= set(grant["rights"]) for grant in grants), uri


@pytest.mark.parametrize("bucket", ["models", "data"])
def test_what_is_overwritten_by_mistake_comes_back(settings: dict[str, Any], bucket: str) -> None:
    assert settings["buckets"][bucket]["versioning"] is True
    assert settings["buckets"][bucket]["expire_noncurrent_days"] >= 30


def test_users_may_do_what_they_need(settings: dict[str, Any]) -> None:
    found = {
        user: {(grant["bucket"], grant.get("prefix", ""), right) for grant in grants for right in grant["rights"]}
        for user, grants in settings["users"].items()
    }
    assert found == RIGHTS


def test_nobody_but_root_deletes_responses_or_models(settings: dict[str, Any]) -> None:
    for user, grants in settings["users"].items():
        for grant in grants:
            claims = (grant["bucket"], grant.get("prefix")) == ("responses", "claims/")
            assert grant["bucket"] not in ("responses", "models") or "delete" not in grant["rights"] or claims, user


def test_every_user_has_keys_in_kind(build: Build, settings: dict[str, Any]) -> None:
    secret = build("overlays/kind").get("Secret", "tutorloop", "minio-users")
    assert secret is not None
    assert secret["data"].keys() == {f"{user.upper()}_{part}_KEY" for user in settings["users"] for part in ("ACCESS", "SECRET")}
