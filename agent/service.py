"""The working loop: one inbox, one machine, one writer. What the parts are is put together in runtime.py.

Every wait ends: the loop looks at its timers, at held back samples and at the watchdog at least once a second. A full
storage is a state to be lived with; a task that dies ends the service, and systemd starts it again.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from agent.board import Board, Health
from agent.clock import Clock, StepDetector
from agent.core import observations as seen_
from agent.core import texts
from agent.core.agent import Agent
from agent.core.decisions import Granted
from agent.core.effects import Effect, Feedback, Reply, Signal
from agent.core.facts import ClockSynchronised, UseEnd
from agent.core.instants import EPOCH, ClockQuality, Instant
from agent.core.observations import Observation
from agent.core.sessions import facts_of
from agent.journal import Journal, StorageFull
from agent.journal.space import Level, Space, level_of
from agent.notify import Notifier
from agent.performer import Performer

log = logging.getLogger("roamkey")

LOOK_AGAIN_MS = 1_000
INBOX_LIMIT = 1_000  # looks at empty or unchanged fields beyond this are dropped and counted; nothing else ever is
DEFERRED_LIMIT = 1_000


class NotStored(Exception):
    """The answer to a request that could not be recorded: nothing was decided."""


class Service:
    """`handle` is the only place where the machine's state changes."""

    def __init__(self, *, agent: Agent, performer: Performer, clock: Clock, notifier: Notifier) -> None:
        self.agent = agent
        self.performer = performer
        self.clock = clock
        self.board = Board()
        self.inbox: asyncio.Queue[Observation] = asyncio.Queue()
        self._notifier = notifier
        self._steps = StepDetector()
        self._looked_ms = 0
        self._timers: list[int] = []
        self._deferred: deque[tuple[Observation, Instant]] = deque()
        self._waiters: dict[str, asyncio.Future[Reply]] = {}
        self._stopping = asyncio.Event()
        # Records of this boot were sealed while nobody knew what time it is; their correction is still owed.
        self.owes_time = False
        self.on_storage: Callable[[], None] = lambda: None
        self._quality = ClockQuality.UNKNOWN
        self._level = Level.OK
        self._mended = performer.store.mended
        performer.store.on_mending = notifier.alive
        performer.wake_at = self.wake_at
        performer.on_reply = self.answer

    def tell(self, seen: Observation) -> None:
        """Put an observation into the inbox; call it on the loop's thread only."""
        if isinstance(seen, seen_.Sighted) and self.inbox.qsize() >= INBOX_LIMIT:
            self.board.dropped_looks += 1
            log.warning("inbox full: %d looks of readers dropped so far", self.board.dropped_looks)
            return
        self.inbox.put_nowait(seen)

    async def ask(self, seen: Observation, request: str) -> Reply:
        """Put a request into the inbox and wait for its Reply. Raises NotStored when it could not be recorded."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiters[request] = future
        self.tell(seen)
        try:
            return await future
        finally:
            self._waiters.pop(request, None)

    async def work(self) -> None:
        """Until `stop`. The watchdog is fed here and nowhere else."""
        while not self._stopping.is_set():
            seen = await self._next()
            if seen is not None:
                await self.handle(seen)
            if self.clock.now().monotonic_ms - self._looked_ms >= LOOK_AGAIN_MS:
                await self._look_around()
        await self._leave()

    def ready(self, status: str) -> None:
        log.info("ready: %s", status)
        self._notifier.ready(status)

    def stop(self) -> None:
        self._stopping.set()
        self.inbox.put_nowait(seen_.Tick())

    async def handle(self, seen: Observation) -> None:
        now = self.clock.now()
        await self._look_at_clock(now)
        await self._handle(seen, now)

    async def _look_at_clock(self, now: Instant) -> None:
        """Steps of the wall clock, and the first time in a boot that it is right, are facts of their own."""
        step_ms = self._steps.step_ms(now)
        if step_ms:
            log.warning("the wall clock was stepped by %d ms; it is now %s", step_ms, now.quality)
            await self._handle(seen_.ClockStepped(step_ms=step_ms, quality=now.quality), now)
        if now.quality is ClockQuality.UNKNOWN:
            self.owes_time = True
        elif now.quality is ClockQuality.SYNCHRONISED and self.owes_time:
            offset_ms = (now.utc - EPOCH) // timedelta(milliseconds=1) - now.monotonic_ms
            fact = ClockSynchronised(boot=now.boot, offset_ms=offset_ms, was=self._quality)
            self.owes_time = not await self._handle(seen_.Noted(fact=fact), now)
        self._quality = now.quality

    def wake_at(self, monotonic_ms: int) -> None:
        heapq.heappush(self._timers, monotonic_ms)

    def answer(self, reply: Reply) -> None:
        """Where nobody waits for it any more, no contract signs: then it is not in use."""
        future = self._waiters.get(reply.request)
        if future is not None and not future.done():
            future.set_result(reply)
        elif isinstance(reply.decision, Granted):
            self.tell(seen_.ContractReleased(decision=reply.decision_id, reason=UseEnd.FAILED))

    async def _handle(self, seen: Observation, now: Instant) -> bool:
        """False when there was no room to record it."""
        if self._must_wait(seen):
            self._defer(seen, now)
            return False
        before = self.agent.state
        effects = self.agent.handle(seen, now)
        try:
            await self.performer.perform(effects, now)
        except StorageFull as error:
            # Nothing has happened, but for what lies on the readers: one card is told once, and not at each look.
            self.agent.state = replace(before, presences=self.agent.state.presences)
            self._storage_is_full(seen, error, now)
            self.performer.stop_chargers(effects)
            return False
        self._count(effects)
        return True

    async def _next(self) -> Observation | None:
        """The next observation, a due timer, or None when it is time to look around."""
        now_ms = self.clock.now().monotonic_ms
        if self._timers and self._timers[0] <= now_ms:
            while self._timers and self._timers[0] <= now_ms:
                heapq.heappop(self._timers)
            return seen_.Tick()
        until_ms = min([self._looked_ms + LOOK_AGAIN_MS, *self._timers[:1]])
        try:
            async with asyncio.timeout(max(0, until_ms - now_ms) / 1000):
                return await self.inbox.get()
        except TimeoutError:
            return None

    async def _look_around(self) -> None:
        """Once a second: the watchdog, samples that waited for company, and what could not be stored before."""
        self._looked_ms = self.clock.now().monotonic_ms
        self._notifier.alive()
        now = self.clock.now()
        await self._look_at_clock(now)
        try:
            await self.performer.flush(now)
            await self._look_at_storage(now)
        except StorageFull as error:
            log.debug("still no room: %s", error)

    async def _look_at_storage(self, now: Instant) -> None:
        """Warn early, thin out, then refuse new sessions; try again what could not be stored."""
        space, self.board.backlog = await self.performer.store.ask(partial(room_and_backlog, now_ms=now.monotonic_ms))
        self._show_room(space, now)
        refuses = self._level is Level.TIGHT
        if refuses != self.agent.state.storage_full:
            await self._handle(seen_.StorageChanged(full=refuses), now)
        if self.performer.store.mended != self._mended:
            await self._after_mending(now)
        waiting, self._deferred = self._deferred, deque()
        for seen, then in waiting:
            await self._handle(seen, then)

    def _show_room(self, space: Space, now: Instant) -> None:
        """On the board; a change of level in the log and the status topic, once."""
        self._level = level_of(space, self._level)
        self.performer.samples.scarce = None if self._level in (Level.OK, Level.FILLING) else f"storage {self._level}"
        is_full = self.board.storage.state == "full" and self._level is Level.TIGHT
        state = "full" if is_full else self._level.value
        if state == self.board.storage.state:
            self.board.storage.detail = self.board.storage.detail if is_full else space.in_words
            return
        self.board.storage = Health(state=state, detail=space.in_words, since=now.utc)
        log.log(SAID_AS[self._level], "storage is %s: %s%s", state, space.in_words, CONSEQUENCE[self._level])
        self.on_storage()

    async def _after_mending(self, now: Instant) -> None:
        """Sessions that run but could not be read from the damaged journal are told to the new one."""
        known = await self.performer.store.ask(lambda journal: journal.open_session_names())
        missing = [session for session in self.agent.state.open_sessions if session.id not in known]
        entries = [(fact, now) for session in missing for fact in facts_of(session)]
        self.performer.on_records(await self.performer.store.append(entries))
        self._mended = self.performer.store.mended
        head = await self.performer.store.head()
        if head.journal != self.agent.state.holdings.journal:
            await self._handle(seen_.JournalChanged(journal=head.journal), now)
        self.board.alarms["journal-mended"] = (
            f"the journal failed {self._mended} times since the start and was opened again: check the storage device"
        )

    def _must_wait(self, seen: Observation) -> bool:
        """Behind an event that could not be stored, the later ones keep their order."""
        return bool(self._deferred) and isinstance(seen, NEVER_LOST)

    def _defer(self, seen: Observation, now: Instant) -> None:
        if isinstance(seen, seen_.Metered) and len(self._deferred) >= DEFERRED_LIMIT:
            # The meter is cumulative: the next sample or the end says the same and more.
            self.performer.samples.give_up(seen.session or "", "storage full")
            return
        self._deferred.append((seen, now))

    def _storage_is_full(self, seen: Observation, error: StorageFull, now: Instant) -> None:
        """Nothing was decided and nothing begun. Ends of sessions wait in memory and are tried again every second."""
        waiting = [(each.reader, each.request) for each in self.agent.state.pending.values()]
        self.agent.state = replace(self.agent.state, pending={})
        if self.board.storage.state != "full":
            log.error("storage is full, new sessions are refused: %s", error)
            self.board.storage = Health(state="full", detail=str(error), since=now.utc)
            self._level = Level.TIGHT
            self.on_storage()
            self.agent.handle(seen_.StorageChanged(full=True), now)
        if isinstance(seen, NEVER_LOST):
            self._defer(seen, now)
        if isinstance(seen, seen_.PolicyActivated):  # a revocation must not wait for room on the disk
            self.agent.handle(replace(seen, announce=False), now)
        for reader, request in (asker(seen), *waiting):
            if reader is not None:
                text = texts.say(texts.NOT_RECORDED, texts.DEFAULT_LANGUAGE)
                self.performer.show(Signal(reader=reader, feedback=Feedback.FAULT, text=text))
            future = self._waiters.get(request) if request is not None else None
            if future is not None and not future.done():
                future.set_exception(NotStored(str(error)))

    def _count(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Signal):
                self.board.taps += 1

    async def _leave(self) -> None:
        """What is left in the inbox is still handled, the samples held back are stored, the stop is recorded."""
        self._notifier.stopping()
        while not self.inbox.empty():
            await self.handle(self.inbox.get_nowait())
        await self.handle(seen_.Leaving())
        try:
            await self.performer.flush()
        except StorageFull as error:
            log.error("%d meter samples could not be stored at the stop: %s", self.performer.holds_back, error)


SAID_AS = {
    Level.OK: logging.INFO,
    Level.FILLING: logging.WARNING,
    Level.SCARCE: logging.WARNING,
    Level.TIGHT: logging.ERROR,
}
CONSEQUENCE = {
    Level.OK: "",
    Level.FILLING: "; look why: is the backend unreachable, does another program fill the disk?",
    Level.SCARCE: "; meter samples are thinned out",
    Level.TIGHT: "; new sessions are refused, running ones end as ever",
}


def room_and_backlog(journal: Journal, *, now_ms: int) -> tuple[Space, int]:
    journal.regain_reserve(now_ms)
    return journal.space(), journal.backlog()


NEVER_LOST = (
    seen_.Woken,
    seen_.ChargingStarted,
    seen_.ChargingStopped,
    seen_.MeterSigned,
    seen_.Metered,
    seen_.Unplugged,
    seen_.ChargerFound,
    seen_.ChargerLost,
    seen_.ContractReleased,
)


def asker(seen: Observation) -> tuple[str | None, str | None]:
    """(reader, request) that wait for an answer to this observation."""
    match seen:
        case seen_.Sighted():
            return seen.reader, None
        case seen_.Tapped():
            return seen.reader, seen.request
        case seen_.DecisionRequested() | seen_.ContractReleased():
            return None, seen.request
        case _:
            return None, None
