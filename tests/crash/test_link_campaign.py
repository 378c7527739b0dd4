"""A link cut every 0.2 to 3 kB: nothing missing, nothing twice (P2). The long run: `make crash ONLY=links`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sync.backend.store import Store
from tests.crash import link_campaign
from tests.crash.link_campaign import Tally, campaign

pytestmark = pytest.mark.slow


def run(folder: Path, *, records: int) -> Tally:
    return asyncio.run(campaign(folder, seed=17, records=records, progress=lambda tally: None))


def test_over_a_link_that_is_cut_all_the_time_everything_arrives_once(tmp_path: Path) -> None:
    tally = run(tmp_path, records=600)
    assert tally.complaints == []
    assert (tally.stored, tally.distinct_ids, tally.acknowledged) == (600, 600, 600)
    assert tally.cuts > 60
    assert tally.duplicates_on_wire <= link_campaign.MOST_DUPLICATES * 600


def test_the_campaign_finds_what_a_backend_forgot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its silence proves nothing."""
    audit = Store.audit

    def forgetful(self: Store, *args: object) -> object:
        self._db.execute("DELETE FROM records WHERE sequence = 7")
        return audit(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "audit", forgetful)
    assert any("99 of 100 are stored" in each for each in run(tmp_path, records=100).complaints)
