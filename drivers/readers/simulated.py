"""A reader without a device: cards are laid on and taken away by a program, a test or a technician's `tap`.

It obeys the Reader protocol like any other and polls, so that presence is judged on the same events.
"""

from __future__ import annotations

import asyncio
import time

from drivers.readers.reader import Card, Emit, Feedback, ReaderFound, ReaderLost, Seen
from drivers.readers.sightings import EmptyPolls

POLL_MS = 100


class SimulatedReader:
    """All methods belong to the loop that runs it. What is said before run() is seen when it runs."""

    def __init__(self, name: str, *, poll_ms: int = POLL_MS) -> None:
        self.name = name
        self.signals: list[tuple[Feedback, str]] = []
        self._poll_s = poll_ms / 1_000
        self._field: tuple[Card, ...] = ()
        self._here = True
        self._changed = asyncio.Event()

    def present(self, *cards: Card) -> None:
        """Only these cards are in the field now."""
        self._field = cards
        self._changed.set()

    def remove(self) -> None:
        self.present()

    def vanish(self) -> None:
        """Somebody pulls the cable."""
        self._here = False
        self._changed.set()

    def return_(self) -> None:
        self._here = True
        self._changed.set()

    async def tap(self, card: Card) -> None:
        """Lay the card on for two polls and take it away."""
        self.present(card)
        await asyncio.sleep(2 * self._poll_s)
        if self._field == (card,):
            self.remove()

    async def run(self, emit: Emit) -> None:
        while True:
            if self._here:
                emit(ReaderFound(reader=self.name, model="roamkey simulated reader", firmware="1"))
                await self._poll(emit)
                emit(ReaderLost(reader=self.name, cause="the simulated cable is out", hint="call return_()"))
            await self._wait(None)

    async def signal(self, feedback: Feedback, text: str) -> None:
        if self._here:
            self.signals.append((feedback, text))

    async def _poll(self, emit: Emit) -> None:
        empty_polls = EmptyPolls()
        while self._here:
            now_ms = time.monotonic_ns() // 1_000_000
            if self._field:
                empty_polls.card_seen()
                emit(Seen(reader=self.name, cards=self._field, monotonic_ms=now_ms))
            elif empty_polls.empty(now_ms):
                emit(Seen(reader=self.name, cards=(), monotonic_ms=now_ms))
            await self._wait(self._poll_s if self._field or empty_polls.outstanding else None)

    async def _wait(self, at_most_s: float | None) -> None:
        try:
            async with asyncio.timeout(at_most_s):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()
