"""Runs a reader and remembers what it said, for tests of readers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from drivers.readers.reader import Card, Reader, ReaderEvent, ReaderFound, ReaderLost, Seen

PATIENCE_S = 5.0  # a test machine under load; what is awaited takes milliseconds


class Witness:
    def __init__(self) -> None:
        self.events: list[ReaderEvent] = []
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: ReaderEvent) -> None:
        self.events.append(event)

    @property
    def seen(self) -> list[Seen]:
        return [event for event in self.events if isinstance(event, Seen)]

    @property
    def lost(self) -> list[ReaderLost]:
        return [event for event in self.events if isinstance(event, ReaderLost)]

    @property
    def found(self) -> list[ReaderFound]:
        return [event for event in self.events if isinstance(event, ReaderFound)]

    def forget(self) -> None:
        self.events.clear()

    async def until(self, claim: Callable[[Witness], bool], *, within_s: float = PATIENCE_S) -> float:
        """Seconds until the claim held."""
        began_s = time.monotonic()
        while not claim(self):
            if self._task is not None and self._task.done():
                self._task.result()
            assert time.monotonic() - began_s < within_s, f"not within {within_s} s; so far: {self.events}"
            await asyncio.sleep(0.003)
        return time.monotonic() - began_s

    async def until_seen(self, *cards: Card, within_s: float = PATIENCE_S) -> float:
        return await self.until(lambda w: any(event.cards == cards for event in w.seen), within_s=within_s)


@asynccontextmanager
async def watched(reader: Reader) -> AsyncIterator[Witness]:
    """run() as a task; at the end it is cancelled and must be over within a second."""
    witness = Witness()
    witness._task = task = asyncio.create_task(reader.run(witness))
    try:
        yield witness
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        began_s = time.monotonic()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 2.0)
        assert time.monotonic() - began_s < 1.0
