"""Very many records over a link that is cut every 0.2 to 3 kB: nothing is missing, nothing twice, little is repeated.

The real uplink and receiver with a real broker; only the device's journal is in memory. Kills are in kill_campaign.py.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sync.backoff import Backoff
from tests.uplink.closed_loop import Fleet, a_fleet, mosquitto
from tests.uplink.fault_proxy import FaultProxy, fault_proxy

CUT_AFTER_BYTES: Final = (200, 3_000)
MOST_DUPLICATES: Final = 0.10
# Records come in bursts while fewer than this wait.
BACKLOG: Final = 2_000
LARGEST_BURST: Final = 500
STALLED_S: Final = 60.0
QUICK: Final = Backoff(base_s=0.001, cap_s=0.002)


@dataclass(slots=True, kw_only=True)
class Tally:
    records: int = 0
    acknowledged: int = 0
    stored: int = 0
    distinct_ids: int = 0
    cuts: int = 0
    duplicates_on_wire: int = 0
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)


async def campaign(folder: Path, *, seed: int, records: int, progress: Callable[[Tally], None]) -> Tally:
    chance = random.Random(seed)
    began, tally, fleet = time.monotonic(), Tally(), a_fleet(folder)
    async with (
        mosquitto(folder) as broker,
        fleet.receiver(broker.port),
        fault_proxy(broker.port, cut_after=lambda: chance.randint(*CUT_AFTER_BYTES)) as link,
        fleet.device(link.port, reconnect=QUICK),
    ):
        await _deliver(fleet, link, records, chance, tally, progress)
    tally.seconds = time.monotonic() - began
    _judge(fleet, tally)
    return tally


async def _deliver(
    fleet: Fleet, link: FaultProxy, records: int, chance: random.Random, tally: Tally, progress: Callable[[Tally], None]
) -> None:
    """Until all is acknowledged, or nothing moves any more."""
    moved = time.monotonic()
    while tally.acknowledged < records:
        if tally.records < records and tally.records - tally.acknowledged < BACKLOG:
            burst = min(chance.randint(1, LARGEST_BURST), records - tally.records)
            fleet.outbox.seal_many(burst)
            tally.records += burst
        await asyncio.sleep(0.01)
        if fleet.outbox.acknowledged > tally.acknowledged:
            moved = time.monotonic()
        tally.acknowledged, tally.cuts = fleet.outbox.acknowledged, link.cuts
        progress(tally)
        if time.monotonic() - moved > STALLED_S:
            tally.complaints.append(
                f"nothing was acknowledged for {STALLED_S:.0f} s after {tally.acknowledged} records"
            )
            return


def _judge(fleet: Fleet, tally: Tally) -> None:
    audit = fleet.audit()
    tally.stored, tally.distinct_ids = audit.stored, audit.distinct_ids
    tally.duplicates_on_wire = audit.duplicates_on_wire
    if audit.stored != tally.records or audit.last != tally.records or audit.gaps:
        tally.complaints.append(f"{audit.stored} of {tally.records} are stored, gaps {audit.gaps[:3]}")
    if audit.distinct_ids != audit.stored:
        tally.complaints.append(f"{audit.stored - audit.distinct_ids} are stored twice")
    if audit.forks or not audit.chain_ok:
        tally.complaints.append(f"the chain is broken, {audit.forks} forks")
    if tally.duplicates_on_wire > MOST_DUPLICATES * tally.records:
        tally.complaints.append(f"{tally.duplicates_on_wire} came more than once over the wire, of {tally.records}")
    if tally.cuts == 0:
        tally.complaints.append("the link was never cut: this proves nothing")
