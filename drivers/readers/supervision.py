"""Keeps one reader open for ever: tries, tells, waits, tries again. What opening means is the driver's business.

The only place that decides when a lost reader is tried again and when its loss is told.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum

from drivers.back_off import delays_s
from drivers.readers.reader import Emit, ReaderEvent, ReaderFound, ReaderLost
from drivers.serial_port import PortFailed

STABLE_AFTER_S = 5.0  # ready for so long was no flicker: the next loss is retried quickly again
LOOK_EVERY_S = 0.1  # how often we look whether the device is plugged in again

log = logging.getLogger(__name__)


class ReaderGone(Exception):
    """The device does not work any more, or not yet. The one exception with which a driver's connection ends."""

    def __init__(self, cause: str, *, hint: str) -> None:
        super().__init__(f"{cause}; {hint}")
        self.cause = cause
        self.hint = hint


class State(StrEnum):
    DISCOVERED = "discovered"  # configured, not tried yet
    OPENING = "opening"
    READY = "ready"
    LOST = "lost"


class Supervision:
    """`connect(emit)` opens the device, emits ReaderFound and Seen, and ends with ReaderGone or PortFailed."""

    def __init__(
        self,
        name: str,
        *,
        path: str,
        connect: Callable[[Emit], Awaitable[None]],
        delays: Callable[[], Iterator[float]] = delays_s,
    ) -> None:
        self.state = State.DISCOVERED
        self._name = name
        self._path = path
        self._connect = connect
        self._delays = delays

    async def run(self, emit: Emit) -> None:
        """For ever, until cancelled. One ReaderLost an outage, however many tries it takes."""
        loop = asyncio.get_running_loop()
        told_lost: str | None = None
        delays = self._delays()
        while True:
            self.state = State.OPENING
            ready_at_s: float | None = None

            def told(event: ReaderEvent) -> None:  # may run in the driver's thread, which has ended when we look
                nonlocal ready_at_s
                if isinstance(event, ReaderFound):
                    self.state, ready_at_s = State.READY, loop.time()
                emit(event)

            try:
                await self._connect(told)
                raise ReaderGone("the driver ended by itself", hint="this is a fault of the driver: report it")
            except (ReaderGone, PortFailed) as gone:
                self.state = State.LOST
                if ready_at_s is not None or told_lost is None:
                    emit(ReaderLost(reader=self._name, cause=gone.cause, hint=gone.hint))
                elif gone.cause != told_lost:
                    log.warning("reader %s is still lost: %s (%s)", self._name, gone.cause, gone.hint)
                told_lost = gone.cause
            if ready_at_s is not None and loop.time() - ready_at_s >= STABLE_AFTER_S:
                delays = self._delays()
            if await plugged_in(self._path, within_s=next(delays)):
                delays = self._delays()


async def plugged_in(path: str, *, within_s: float) -> bool:
    """True as soon as another device is at the path than now; False when the time is over."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    was = _device_at(path)
    while (left_s := until_s - loop.time()) > 0:
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))
        now = _device_at(path)
        if now is not None and now != was:
            return True
        was = now
    return False


def _device_at(path: str) -> tuple[int, int, int] | None:
    """Looked at, not watched: it works below a sandbox and for links that are repointed."""
    try:
        found = os.stat(path)  # one look at a name in /dev, microseconds
    except OSError:
        return None
    return found.st_rdev, found.st_ino, found.st_ctime_ns
