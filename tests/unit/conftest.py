"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.missing import small_file_system
from tests.support.s3 import mortal_s3_bucket, mortal_s3_server, s3_bucket, s3_server

__all__ = ["address", "mortal_s3_bucket", "mortal_s3_server", "s3_bucket", "s3_server", "small_disk"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    with small_file_system(tmp_path / "disk", "64k") as folder:
        yield folder


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a response store: a folder, and one on S3."""
    return str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('s3_bucket')}/responses"
