"""A device that has no room to note an acknowledgement goes on delivering, and notes it later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from sync.backoff import Backoff
from sync.memory_outbox import MemoryOutbox
from sync.ports import OutboxBusy
from tests.uplink.closed_loop import DEVICE, FLEET, a_fleet, eventually, mosquitto

pytestmark = pytest.mark.slow


class FullOutbox(MemoryOutbox):
    full = True
    refused = 0

    async def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        if self.full:
            self.refused += 1
            raise OutboxBusy("no room")
        await super().acknowledge(journal=journal, through=through, quarantined=quarantined)


def test_an_acknowledgement_that_cannot_be_noted_stops_nothing_and_comes_again(tmp_path: Path) -> None:
    fleet = a_fleet(tmp_path)
    outbox = FullOutbox(fleet=FLEET, device=DEVICE)
    fleet.outbox = outbox
    patience = Backoff(base_s=0.05, cap_s=0.2)

    async def story() -> None:
        async with mosquitto(tmp_path) as broker, fleet.receiver(broker.port):
            outbox.seal_many(300)
            async with fleet.device(broker.port, hello_backoff=patience):
                await eventually(lambda: outbox.refused > 5, within_s=20)
                assert "acknowledgement-waits" in fleet.alarms()
                assert outbox.acknowledged == 0
                outbox.full = False
                await fleet.until_delivered()
        assert fleet.assert_complete(300).duplicates_on_wire <= 30

    asyncio.run(story())
