"""Fixtures of the pieces of the tests on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kind_pieces.programs import Programs, install
from tests.support.prometheus import pushgateway
from tests.support.s3 import s3_bucket, s3_server

__all__ = ["pushgateway", "s3_bucket", "s3_server"]


@dataclass
class Direct:
    """A service that is reached without a detour.

    Attributes:
        address: Its address.
        name: Its name.
        repeated: How often another way was asked for.
    """

    address: str
    name: str = "service"
    repeated: int = 0

    def url(self) -> str:
        return self.address

    def again(self) -> None:
        self.repeated += 1


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """``kubectl``, ``kind`` and ``docker`` that note how they are called."""
    return install(tmp_path / "programs", monkeypatch, "kubectl", "kind", "docker")
