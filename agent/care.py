"""Looks after the journal beside the work: old records go, salvaged ones come in, the proven time is written down.

Everything in bounded pieces with pauses between them, so that no tap waits: the journal has one thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from agent.clock import Clock
from agent.core.instants import Instant
from agent.floor import FloorFile
from agent.journal import Journal, StorageFull
from agent.journal.space import RELIEVE_ABOVE
from agent.store import Store

log = logging.getLogger("roamkey")

EVERY_S = 30.0
PAUSE_S = 0.05  # between two pieces
FLOOR_EVERY = timedelta(hours=1)  # a floor an hour old is still a floor, and flash wears


class JournalCare:
    """`is_busy`: somebody waits for the journal just now."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        floor: FloorFile,
        retain: timedelta,
        is_busy: Callable[[], bool] = lambda: False,
        every_s: float = EVERY_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._floor = floor
        self._retain = retain
        self._is_busy = is_busy
        self._every_s = every_s
        self._written: datetime | None = None

    async def run(self) -> None:
        while True:
            await self.look_after()
            self.note_time()
            await asyncio.sleep(self._every_s)

    async def look_after(self) -> None:
        """Until there is nothing left to do now."""
        adopted = await self._piece_by_piece(Journal.adopt)
        if adopted:
            log.warning("salvaged records of an earlier journal are ready to be delivered")
            self._store.wake_uplink()
        await self._piece_by_piece(lambda journal: journal.prune(keep=self._retain, now=self._clock.now()) > 0)
        relieved = await self._piece_by_piece(lambda journal: relieve(journal, self._clock.now()))
        if relieved:
            log.warning("little room: records were deleted before their time; the journal says which")

    def note_time(self, *, at_least: timedelta = FLOOR_EVERY) -> None:
        """Keep over restarts what is proven to have passed."""
        floor = self._clock.now().floor
        if self._written is not None and floor - self._written < at_least:
            return
        if self._floor.write(floor):
            self._written = floor

    async def _piece_by_piece(self, work: Callable[[Journal], bool]) -> int:
        pieces = 0
        with suppress(StorageFull):  # said where it matters; here it is tried again later
            while await self._store.ask(work):
                pieces += 1
                await asyncio.sleep(PAUSE_S)
                while self._is_busy():
                    await asyncio.sleep(PAUSE_S)
        return pieces


def relieve(journal: Journal, now: Instant) -> bool:
    """Acknowledged records go first, and early enough that they alone never cause a warning."""
    return journal.space().fraction > RELIEVE_ABOVE and journal.relieve(now=now) > 0
