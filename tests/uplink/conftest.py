"""Fixtures of the delivery tests; the parts they are made of are in `closed_loop`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uplink.closed_loop import Fleet, a_fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return a_fleet(tmp_path)
