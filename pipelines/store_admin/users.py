"""Makes the users of a MinIO server and their policies agree with the settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minio import MinioAdmin

from components.core.errors import ParameterError
from pipelines.store_admin.settings import StoreSettings, policy, same_policy

VARIABLES = "MINIO_USER_{}_ACCESS_KEY", "MINIO_USER_{}_SECRET_KEY"
POLICY = "tutorloop-{}"
SHORTEST_ACCESS_KEY = 3
SHORTEST_SECRET_KEY = 8
"""What MinIO takes."""


@dataclass(frozen=True)
class Keys:
    """A user's pair of keys.

    Attributes:
        access: The name at the server.
        secret: Never shown.
    """

    access: str
    secret: str

    def __repr__(self) -> str:
        return f"Keys({self.access!r}, ...)"


def keys_of(users: list[str], root: Keys, environment: Mapping[str, str]) -> dict[str, Keys]:
    """The pair of keys of every user.

    Args:
        users: Their names.
        root: The server's own pair, which nobody else may have.
        environment: Holds MINIO_USER_<NAME>_ACCESS_KEY and MINIO_USER_<NAME>_SECRET_KEY.

    Raises:
        ParameterError: A variable is missing or too short, two users share an access key, or one has root's.
    """
    keys: dict[str, Keys] = {}
    owner_of = {root.access: "root"}
    for user in users:
        names = [name.format(user.upper()) for name in VARIABLES]
        for name, shortest in zip(names, (SHORTEST_ACCESS_KEY, SHORTEST_SECRET_KEY), strict=True):
            if len(environment.get(name, "")) < shortest:
                given = "(too short)" if environment.get(name) else "(not set)"
                raise ParameterError(name, given, f"{shortest} characters or more, from the secret minio-users")
        pair = Keys(*(environment[name] for name in names))
        if pair.access in owner_of:
            raise ParameterError(names[0], pair.access, f"a key of its own: {owner_of[pair.access]} has this one")
        if pair.secret == root.secret:
            raise ParameterError(names[1], "(root's)", "a key of its own")
        owner_of[pair.access] = user
        keys[user] = pair
    return keys


def set_up_users(
    admin: MinioAdmin, accepts: Callable[[Keys], bool], settings: StoreSettings, keys: Mapping[str, Keys], prune: bool
) -> Iterator[str]:
    """Make policies and users; change what differs.

    Args:
        admin: As root.
        accepts: Whether the server takes a pair of keys: it tells nobody what a user's secret is.
        settings: What should be.
        keys: Keys of every user in the settings.
        prune: Remove users that have one of our policies under an access key that is in use no more.

    Yields:
        What was changed, for people, after each change.

    Raises:
        minio.error.MinioAdminException: The server refuses.
        urllib3.exceptions.HTTPError: It cannot be reached.
    """
    policies: dict[str, Any] = json.loads(admin.policy_list())
    present: dict[str, dict[str, Any]] = json.loads(admin.user_list())
    for user, rights in settings.users.items():
        name, wanted, pair = POLICY.format(user), policy(rights), keys[user]
        if name not in policies or not same_policy(policies[name], wanted):
            admin.policy_add(name, policy=wanted)
            yield f"policy {name}: {'changed' if name in policies else 'made'}"
        known = present.get(pair.access)
        if known is None or known.get("status") != "enabled" or not accepts(pair):
            admin.user_add(pair.access, pair.secret)
            yield f"user {user} ({pair.access}): {'given its keys again' if known else 'made'}"
        if known is None or known.get("policyName") != name:
            admin.policy_set(name, user=pair.access)
            yield f"user {user} ({pair.access}): may now do what {name} says"
    if prune:
        yield from _prune(admin, present, {pair.access for pair in keys.values()})


def _prune(admin: MinioAdmin, present: Mapping[str, Mapping[str, Any]], current: set[str]) -> Iterator[str]:
    ours = POLICY.format("")
    for access_key, facts in present.items():
        if access_key not in current and str(facts.get("policyName", "")).startswith(ours):
            admin.user_remove(access_key)
            yield f"user {access_key}: removed, its keys are in use no more"
