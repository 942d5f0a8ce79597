"""What an object store should hold, and who may do what with it, as ``manifests/components/minio/store.yaml`` says it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from components.core.errors import InputError, ParameterError
from components.core.options import Options, parse_options

KEPT = ("responses", "models")
"""Buckets whose current objects no rule and no user may remove: what was paid for, and the champion."""
PASSING = {"responses": "claims/"}
"""What in them is only of use while processes are at work, and may be removed: who asks what just now."""
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
USER_NAME = re.compile(r"[a-z][a-z0-9_]*")

Days = Annotated[int, Meta(ge=1)]
ACTIONS = {
    "read": ["s3:GetObject"],
    "write": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
    "delete": ["s3:DeleteObject"],
}
"""What a right allows on objects; whoever has any may also list."""


class Expiry(Options, frozen=True, kw_only=True):
    """Objects that are removed some time after they were written."""

    prefix: Annotated[str, Meta(min_length=1)]
    """Those whose key begins so."""
    days: Days
    """After so many days."""


class Bucket(Options, frozen=True, kw_only=True):
    """A bucket and its rules."""

    versioning: bool = False
    """Keep what is overwritten or deleted as older versions."""
    expire_noncurrent_days: Days | None = None
    """Remove such older versions after so many days."""
    expire: list[Expiry] = []
    """Current objects that are removed."""


class Right(Options, frozen=True, kw_only=True):
    """What a user may do with a bucket, or with a part of it."""

    bucket: str
    rights: Annotated[list[Literal["read", "write", "delete"]], Meta(min_length=1)]
    prefix: str = ""
    """Only keys that begin so."""


class StoreSettings(Options, frozen=True, kw_only=True):
    """All buckets and all users of a store."""

    buckets: dict[str, Bucket]
    users: dict[str, list[Right]] = {}

    def check(self, section: str) -> None:
        """Refuse what contradicts itself or would lose what must be kept.

        Raises:
            ParameterError: Says what, and what is allowed.
        """
        for name, bucket in self.buckets.items():
            if not BUCKET_NAME.fullmatch(name):
                raise ParameterError("buckets", name, "3 to 63 small letters, digits and hyphens")
            if bucket.expire and name in KEPT:
                raise ParameterError(f"buckets.{name}.expire", [rule.prefix for rule in bucket.expire], "nothing: its objects are kept")
            if bucket.expire_noncurrent_days and not bucket.versioning:
                raise ParameterError(f"buckets.{name}.expire_noncurrent_days", bucket.expire_noncurrent_days, "none without versioning")
        for user, rights in self.users.items():
            if not USER_NAME.fullmatch(user):
                raise ParameterError("users", user, "small letters, digits and _, a letter first")
            for right in rights:
                if right.bucket not in self.buckets:
                    raise ParameterError(f"users.{user}.bucket", right.bucket, "one of " + ", ".join(self.buckets))
                passing = right.prefix and right.prefix.startswith(PASSING.get(right.bucket, " "))
                if "delete" in right.rights and right.bucket in KEPT and not passing:
                    raise ParameterError(f"users.{user}.rights", right.rights, f"read and write: objects of {right.bucket} are kept")


def read_settings(path: Path) -> StoreSettings:
    """Read and check a settings file.

    Args:
        path: A YAML file.

    Raises:
        InputError: It cannot be read, or is no YAML with sections.
        ParameterError: A name or value in it is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read ({error})", path, hint="name the file with the store's buckets and users") from error
    if not isinstance(values, dict):
        raise InputError("holds no sections", path, hint="write `buckets:` and `users:`")
    return parse_options(StoreSettings, values, "store")


def policy(rights: list[Right]) -> dict[str, Any]:
    """A user's rights as a policy of S3.

    Args:
        rights: All of the user's.

    Returns:
        The policy document.
    """
    statements: list[dict[str, Any]] = []
    for right in rights:
        actions = [action for name in ACTIONS if name in right.rights for action in ACTIONS[name]]
        bucket, objects = f"arn:aws:s3:::{right.bucket}", f"arn:aws:s3:::{right.bucket}/{right.prefix}*"
        # By itself: MinIO refuses a policy in which a condition's key stands beside an action that does not know it.
        location = _allow(["s3:GetBucketLocation"], bucket)
        listing = _allow(["s3:ListBucket"], bucket)
        if right.prefix:
            listing["Condition"] = {"StringLike": {"s3:prefix": [f"{right.prefix}*"]}}
        # MinIO drops what is said twice, and the policy would differ for ever.
        statements += [statement for statement in (location, listing, _allow(actions, objects)) if statement not in statements]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": [resource]}


def same_policy(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two policy documents say the same: servers give lists back in an order of their own."""
    return bool(_sorted(one) == _sorted(other))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_sorted(item) for item in value), key=lambda item: msgspec.json.encode(item, order="deterministic"))
    return value
