"""The disk fills up at any moment: no death but ours, running sessions end on record, nothing told is lost (P3)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.disk_campaign import DISKS, campaign
from tests.journal.small_disks import Unavailable

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("disk", list(DISKS))
def test_a_disk_that_fills_up_at_any_moment_stops_no_session_from_ending(tmp_path: Path, disk: str) -> None:
    try:
        tally = asyncio.run(campaign(tmp_path, disk=disk, seed=2, fills=3, progress=lambda tally: None))
    except Unavailable as reason:
        pytest.skip(f"cannot mount {disk}: {reason}")

    assert tally.complaints == []
    assert tally.fills == 3
    assert tally.greens > 0
