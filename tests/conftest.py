"""Fixtures and constants that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real data sets beside the checkout; a user's clone does not have them."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; skips where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the folder shared/data with the real data sets is not beside this checkout")
    return SHARED_DATA
