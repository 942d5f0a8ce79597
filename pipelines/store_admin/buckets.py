"""Makes the buckets of a store, their versioning and their lifecycle rules agree with the settings."""

from __future__ import annotations

from collections.abc import Iterator

from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import Expiration, LifecycleConfig, NoncurrentVersionExpiration, Rule
from minio.versioningconfig import VersioningConfig

from pipelines.store_admin.settings import Bucket, StoreSettings

RuleFacts = tuple[str, str, int | None, int | None]
"""Status, prefix, days until a current object is removed, days until an older version is."""


def set_up_buckets(client: Minio, settings: StoreSettings) -> Iterator[str]:
    """Make what is missing and change what differs; no bucket and no object is ever removed.

    Args:
        client: With every right.
        settings: What should be.

    Yields:
        What was changed, for people, after each change.

    Raises:
        minio.error.MinioException: The store refuses.
        urllib3.exceptions.HTTPError: It cannot be reached.
    """
    for name, bucket in settings.buckets.items():
        if not client.bucket_exists(bucket_name=name):
            client.make_bucket(bucket_name=name)
            yield f"bucket {name}: made"
        # Versioning that somebody switched on is left on: it loses nothing.
        if bucket.versioning and client.get_bucket_versioning(bucket_name=name).status != ENABLED:
            client.set_bucket_versioning(bucket_name=name, config=VersioningConfig(ENABLED))
            yield f"bucket {name}: versioning switched on"
        yield from _lifecycle(client, name, bucket)


def _lifecycle(client: Minio, name: str, bucket: Bucket) -> Iterator[str]:
    wanted = lifecycle_rules(bucket)
    now = client.get_bucket_lifecycle(bucket_name=name)
    found = sorted(map(_facts, now.rules)) if now else []
    if found == sorted(map(_facts, wanted)):
        return
    if wanted:
        client.set_bucket_lifecycle(bucket_name=name, config=LifecycleConfig(wanted))
    else:
        client.delete_bucket_lifecycle(bucket_name=name)
    yield f"bucket {name}: lifecycle rules are now {', '.join(map(_said, wanted)) or 'none'}"


def lifecycle_rules(bucket: Bucket) -> list[Rule]:
    """The rules of one bucket.

    Uploads that were broken off are none of them: MinIO refuses such a rule and has a setting of the server instead.
    """
    rules = [
        Rule(ENABLED, rule_filter=Filter(prefix=rule.prefix), rule_id=f"expire-{index}", expiration=Expiration(days=rule.days))
        for index, rule in enumerate(bucket.expire)
    ]
    if bucket.expire_noncurrent_days:
        noncurrent = NoncurrentVersionExpiration(noncurrent_days=bucket.expire_noncurrent_days)
        rules.append(Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id="older-versions", noncurrent_version_expiration=noncurrent))
    return rules


def _facts(rule: Rule) -> RuleFacts:
    prefix = rule.rule_filter.prefix if rule.rule_filter else ""
    current = rule.expiration.days if rule.expiration else None
    noncurrent = rule.noncurrent_version_expiration.noncurrent_days if rule.noncurrent_version_expiration else None
    return str(rule.status), str(prefix or ""), current, noncurrent


def _said(rule: Rule) -> str:
    _, prefix, current, noncurrent = _facts(rule)
    return f"{prefix}* after {current} days" if current else f"older versions after {noncurrent} days"
