"""Every policy that we write is one that MinIO takes: by the table of its actions, by the double, and by a real server where one is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from minio import MinioAdmin
from minio.credentials import StaticProvider
from minio.error import MinioAdminException

from pipelines.store_admin.settings import ACTIONS, Right, policy, read_settings
from tests.conftest import ROOT
from tests.support import minio_double
from tests.support.minio_policies import facts, refusal
from tests.support.ports import NOBODY, free_ports
from tests.unit.store_admin.test_store_settings import COMMITTED

KEYS = ("policy-root", "policy-root-secret")
RIGHTS: tuple[Any, ...] = (["read"], ["write"], ["delete"], ["read", "write"], ["read", "write", "delete"])
WRITTEN: dict[str, dict[str, Any]] = {
    **{user: policy(rights) for user, rights in read_settings(COMMITTED).users.items()},
    **{
        f"{'-'.join(rights)}{'-of-a-part' if prefix else ''}": policy([Right(bucket="data", rights=rights, prefix=prefix)])
        for rights in RIGHTS
        for prefix in ("", "part/")
    },
}
"""Those of the settings that every overlay uses, and one of each form that settings can ask for."""

READ = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::data/*"]}
PREFIX = {"StringLike": {"s3:prefix": ["a/*"]}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "key of another action": (
        {**READ, "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Condition": PREFIX},
        "unsupported condition keys '[s3:prefix]' used for action 's3:GetBucketLocation'",
    ),
    "key of no object": ({**READ, "Condition": PREFIX}, "unsupported condition keys '[s3:prefix]' used for action 's3:GetObject'"),
    "no action": ({**READ, "Action": []}, "empty actions not allowed"),
    "no resource": ({**READ, "Resource": []}, "Resource must not be empty"),
    "a path": ({**READ, "Resource": ["arn:aws:s3:::/data/*"]}, "invalid resource 'arn:aws:s3:::/data/*'"),
    "a name alone": ({**READ, "Resource": ["data/*"]}, "invalid resource 'data/*'"),
    "no effect": ({**READ, "Effect": "Grant"}, "invalid Effect Grant"),
    "an action of nobody": ({**READ, "Action": ["s3:ReadObject"]}, "unsupported action 's3:ReadObject'"),
}


def _document(statement: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.mark.parametrize("name", WRITTEN)
def test_minio_takes_what_we_write(name: str) -> None:
    assert refusal(WRITTEN[name]) is None


@pytest.mark.parametrize("case", REFUSED)
def test_what_minio_refuses_is_noticed(case: str) -> None:
    statement, reason = REFUSED[case]
    assert (refusal(_document(statement)) or "").startswith(reason)
    assert refusal(_document(READ)) is None


def test_the_table_is_of_the_minio_that_the_manifests_name() -> None:
    server = (ROOT / "manifests" / "components" / "minio" / "server.yaml").read_text()
    assert facts()["release"] in server, "another MinIO: look its actions up again"
    assert {action for actions in ACTIONS.values() for action in actions} <= facts()["actions"].keys()


def test_the_double_refuses_as_minio_does() -> None:
    statement, reason = REFUSED["key of another action"]
    with minio_double.running(NOBODY, KEYS) as double:
        admin = _admin(urlsplit(double.endpoint).netloc)
        with pytest.raises(MinioAdminException, match="XMinioMalformedIAMPolicy") as caught:
            admin.policy_add("wrong", policy=_document(statement))
        assert reason in str(caught.value)
        assert "wrong" not in double.policies
        assert not double.changes


def _admin(address: str) -> MinioAdmin:
    return MinioAdmin(endpoint=address, credentials=StaticProvider(*KEYS), secure=False)


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioAdmin]:
    """A real MinIO server."""
    program = shutil.which("minio")
    if program is None:
        pytest.skip("no minio on the path: what it takes is known from the table alone")
    folder = tmp_path_factory.mktemp("minio")
    [port] = free_ports(1)
    environment = {**os.environ, "MINIO_ROOT_USER": KEYS[0], "MINIO_ROOT_PASSWORD": KEYS[1]}
    with (folder / "log").open("wb") as log:
        command = [program, "server", "--address", f"127.0.0.1:{port}", str(folder / "data")]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        admin = _admin(f"127.0.0.1:{port}")
        _wait_for(admin, server, folder / "log")
        yield admin
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(admin: MinioAdmin, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            admin.policy_list()
            return
        except Exception:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()) from None
        time.sleep(0.2)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_real_server_takes_what_we_write(minio: MinioAdmin, name: str) -> None:
    minio.policy_add(name, policy=WRITTEN[name])
    assert name in json.loads(minio.policy_list())


@pytest.mark.parametrize("case", [case for case in REFUSED if "nobody" not in case])
def test_a_real_server_refuses_what_the_table_refuses(minio: MinioAdmin, case: str) -> None:
    statement, reason = REFUSED[case]
    with pytest.raises(MinioAdminException, match="XMinioMalformedIAMPolicy") as caught:
        minio.policy_add("wrong", policy=_document(statement))
    assert reason in str(caught.value)
