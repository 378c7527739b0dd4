"""Performs effects in their order: nothing that the outside can see happens before its record is durable.

All facts of one observation become durable in one transaction, before any of its other effects. If that fails, nothing
has happened: the caller puts the machine's state of before back (service.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from agent.core.effects import (
    Effect,
    Feedback,
    QueryCharger,
    Record,
    Reply,
    Seal,
    Signal,
    StartCharging,
    StopCharging,
    WakeAt,
)
from agent.core.facts import Fact
from agent.core.instants import Instant
from agent.journal import StorageFull
from agent.store import Store
from drivers.chargers.charger import Charger, ChargerUnavailable
from drivers.readers.reader import Feedback as ReaderFeedback
from drivers.readers.reader import Reader
from sync.ports import Sealed

log = logging.getLogger("roamkey")

SIGNAL_TIMEOUT_S = 1.0
WAITING_LIMIT = 600  # meter samples held back while nothing can be stored; beyond it the oldest are thinned out

FEEDBACK = {
    Feedback.GRANTED: ReaderFeedback.GRANTED,
    Feedback.REFUSED: ReaderFeedback.REFUSED,
    Feedback.FAULT: ReaderFeedback.FAULT,
}

Command = Callable[[Charger], Coroutine[object, object, None]]
Spawn = Callable[[Coroutine[object, object, None]], object]


@dataclass(slots=True, kw_only=True)
class Performer:
    """`after` is told of each effect once it is done: crash tests kill the process there.

    `on_reply` and `wake_at` are set by the service.
    """

    store: Store
    seal: Callable[[Instant], Coroutine[object, object, list[Sealed]]]
    readers: Mapping[str, Reader]
    chargers: Mapping[str, Charger]
    spawn: Spawn
    on_records: Callable[[Sequence[Sealed]], None]
    on_reply: Callable[[Reply], None] = lambda reply: None
    wake_at: Callable[[int], None] = lambda monotonic_ms: None
    after: Callable[[Effect], None] = lambda effect: None
    _waiting: list[tuple[Fact, Instant]] = field(default_factory=list)
    _commands: dict[str, asyncio.Queue[Command]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._commands = {name: asyncio.Queue() for name in self.chargers}

    async def command_charger(self, name: str) -> None:
        """For ever: one command at a time to this charger, in the order in which they were asked for."""
        charger = self.chargers[name]
        while True:
            command = await self._commands[name].get()
            try:
                await command(charger)
            except ChargerUnavailable as error:
                # No verdict is drawn from silence: the phase's deadline or the next ChargerFound decides.
                log.warning("%s", error)

    async def perform(self, effects: Sequence[Effect], now: Instant) -> None:
        """Raises StorageFull or StorageBroken before anything was done, or not at all."""
        records = [effect for effect in effects if isinstance(effect, Record)]
        entries = [(fact, now) for record in records for fact in record.facts]
        if any(record.urgent for record in records):
            await self._store(entries)
        else:
            self._hold_back(entries)
        for effect in effects:
            await self._perform(effect, now)
            self.after(effect)

    async def flush(self) -> None:
        """Store the meter samples that waited for company."""
        if self._waiting:
            await self._store([])

    @property
    def holds_back(self) -> int:
        return len(self._waiting)

    async def _store(self, entries: list[tuple[Fact, Instant]]) -> None:
        try:
            sealed = await self.store.append([*self._waiting, *entries])
        except StorageFull:
            if not self._waiting or not entries:
                raise
            sealed = await self.store.append(entries)  # the samples can wait, an end or a refusal cannot
        else:
            self._waiting.clear()
        self.on_records(sealed)

    def _hold_back(self, entries: Sequence[tuple[Fact, Instant]]) -> None:
        self._waiting += entries
        over = len(self._waiting) - WAITING_LIMIT
        if over > 0:
            log.error("storage is full: %d meter samples thinned out; ends of sessions are kept", over)
            del self._waiting[:over]

    async def _perform(self, effect: Effect, now: Instant) -> None:
        match effect:
            case Record():
                pass  # durable already, all of them together
            case Seal():
                await self._seal(now)
            case Signal():
                self.show(effect)
            case Reply():
                self.on_reply(effect)
            case StartCharging(charger=charger, session=session, max_energy_wh=cap):
                self._ask(charger, lambda each: each.start(session, cap))
            case StopCharging(charger=charger, session=session):
                self._ask(charger, lambda each: each.stop(session))
            case QueryCharger(charger=charger):
                self._ask(charger, lambda each: each.query())
            case WakeAt():
                self.wake_at(effect.monotonic_ms)
            case _:
                assert_never(effect)

    async def _seal(self, now: Instant) -> None:
        try:
            self.on_records(await self.seal(now))
        except StorageFull as error:
            log.warning("no room for a checkpoint, the next one will cover these records: %s", error)

    def stop_chargers(self, effects: Sequence[Effect]) -> None:
        """To stop is safe also when it could not be recorded: the end will be, with the charger's own word."""
        for effect in effects:
            if isinstance(effect, StopCharging):
                session = effect.session
                self._ask(effect.charger, lambda each, session=session: each.stop(session))

    def show(self, signal: Signal) -> None:
        """Best effort and bounded: a reader that hangs holds up nobody else."""
        self.spawn(self._signal(signal))

    async def _signal(self, signal: Signal) -> None:
        reader = self.readers.get(signal.reader)
        if reader is None:
            return
        try:
            async with asyncio.timeout(SIGNAL_TIMEOUT_S):
                await reader.signal(FEEDBACK[signal.feedback], signal.text)
        except TimeoutError:
            log.warning("reader %s did not show %s in %.0f s", signal.reader, signal.feedback, SIGNAL_TIMEOUT_S)

    def _ask(self, charger: str, command: Command) -> None:
        if charger in self._commands:
            self._commands[charger].put_nowait(command)
        else:
            log.error("charger %s is not configured (any more): check its name in the configuration", charger)
