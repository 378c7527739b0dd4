"""Performs effects in their order: nothing that the outside can see happens before its record is durable.

All facts of one observation become durable in one transaction, before any of its other effects. If that fails, nothing
has happened: the caller puts the machine's state of before back (service.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from typing import assert_never

from agent.core.effects import (
    Ask,
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
from agent.core.facts import Fact, OverrideUsed
from agent.core.instants import Instant
from agent.journal import StorageFull
from agent.samples import Samples
from agent.store import Store
from drivers.chargers.charger import Charger, ChargerUnavailable
from drivers.readers.reader import Feedback as ReaderFeedback
from drivers.readers.reader import Reader
from sync.ports import Sealed

log = logging.getLogger("roamkey")

SIGNAL_TIMEOUT_S = 1.0

FEEDBACK = {
    Feedback.GRANTED: ReaderFeedback.GRANTED,
    Feedback.REFUSED: ReaderFeedback.REFUSED,
    Feedback.FAULT: ReaderFeedback.FAULT,
    Feedback.PENDING: ReaderFeedback.PENDING,
    Feedback.OFFLINE: ReaderFeedback.OFFLINE,
}

Command = Callable[[Charger], Coroutine[object, object, None]]
Spawn = Callable[[Coroutine[object, object, None]], object]


@dataclass(slots=True, kw_only=True)
class Performer:
    """`after` is told of each effect once it is done: crash tests kill the process there.

    `on_reply` and `wake_at` are set by the service, `on_ask` by whoever can ask the backend: without one, silence.
    `on_code` is told how far break-glass codes are used up.
    """

    store: Store
    seal: Callable[[Instant], Coroutine[object, object, list[Sealed]]]
    readers: Mapping[str, Reader]
    chargers: Mapping[str, Charger]
    spawn: Spawn
    on_records: Callable[[Sequence[Sealed]], None]
    on_reply: Callable[[Reply], None] = lambda reply: None
    on_ask: Callable[[Ask], None] = lambda ask: None
    on_code: Callable[[int], None] = lambda counter: None
    wake_at: Callable[[int], None] = lambda monotonic_ms: None
    after: Callable[[Effect], None] = lambda effect: None
    samples: Samples = field(default_factory=Samples)
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
            for fact, _ in entries:
                if isinstance(fact, OverrideUsed) and fact.counter is not None:
                    self.on_code(fact.counter)
        else:
            self.samples.hold(entries)
        for effect in effects:
            await self._perform(effect, now)
            self.after(effect)

    async def flush(self, now: Instant | None = None) -> None:
        """Store the meter samples that waited for company; without a moment, whether they are due or not."""
        if self.samples and (now is None or self.samples.is_due(now)):
            await self._store([])

    @property
    def holds_back(self) -> int:
        return len(self.samples)

    async def _store(self, entries: list[tuple[Fact, Instant]]) -> None:
        beside = self.samples.entries(entries[-1][1] if entries else None)
        try:
            sealed = await self.store.append([*beside, *entries])
        except StorageFull:
            if not beside or not entries:
                raise
            sealed = await self.store.append(entries)  # the samples can wait, an end or a refusal cannot
        else:
            self.samples.stored()
        self.on_records(sealed)

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
            case Ask():
                self.on_ask(effect)
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
                self._ask(effect.charger, methodcaller("stop", effect.session))

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
