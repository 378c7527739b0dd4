"""Agent and receiver are killed at every step of a record's way: lost 0, twice 0, the chain whole (P1, P2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.crash.kill_campaign import STEPS, Tally, campaign, missed_steps
from tests.crash.lives import Defect

pytestmark = pytest.mark.slow

KILLS = 48


def run(folder: Path, *, kills: int, defect: Defect | None = None, phases: tuple[str, ...] = ()) -> Tally:
    return asyncio.run(campaign(folder, seed=1, kills=kills, progress=lambda tally: None, defect=defect, phases=phases))


def test_killed_at_every_step_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    tally = run(tmp_path, kills=KILLS)

    assert tally.complaints == []
    assert tally.total >= KILLS - 5
    steps, missed = sum(map(len, STEPS.values())), missed_steps(tally)
    # 39 to 42 of 70 on a busy machine; all of them are demanded from a thousand kills on (`make crash`).
    assert steps - len(missed) > steps * 2 // 5, f"never died at {missed}"
    assert tally.greens > 0
    assert tally.records > 0


@pytest.mark.parametrize(
    ("defect", "phases"),
    [
        (Defect.GREEN_BEFORE_DURABLE, ("green light",)),
        (Defect.ACKNOWLEDGED_BEFORE_DURABLE, ("receiver commit",)),
    ],
)
def test_the_oracle_finds_a_defect_made_on_purpose(tmp_path: Path, defect: Defect, phases: tuple[str, ...]) -> None:
    """Else its silence proves nothing."""
    tally = run(tmp_path, kills=48, defect=defect, phases=phases)

    assert tally.complaints, "the defect was not found"
