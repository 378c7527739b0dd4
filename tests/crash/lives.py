"""One life of an agent or of a receiver in the kill campaign: real parts, a driver of load, and a note of all it told.

What was told goes to a file with one write(2) a line: a SIGKILL cannot take it back. The readers and chargers here are
the witnesses: what they were asked to show or do is what drivers and cars saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent import config
from agent.core import observations
from agent.core.effects import Effect, Record, Signal, StopCharging
from agent.core.facts import DecisionMade, SessionEnded, SessionStopRequested
from agent.core.instants import Instant
from agent.demo.fleet import ANNA, BERT, CARLA, DORA, FLEET, STRANGER
from agent.journal import Journal, StorageFull
from agent.performer import Performer
from agent.runtime import Runtime
from drivers.chargers.charger import ChargerFound, ChargerState, ChargingStarted, ChargingStopped, Metered, monotonic_ms
from drivers.readers.reader import Emit, Feedback, ReaderFound
from sync.backend.receiver import Receiver, ReceiverSettings
from sync.backend.store import Delivery, Store, StreamState
from sync.backoff import Backoff
from sync.link import LinkSettings
from tests.crash import steps

QUICK = Backoff(base_s=0.01, cap_s=0.1)
# So that a commit is often a checkpoint, too.
BACKEND_WAL_PAGES = 20
FOLD_EVERY = 4
LOOK_S = 1.0


class Defect(StrEnum):
    """What would go wrong in a worse program."""

    GREEN_BEFORE_DURABLE = "green before durable"
    ACKNOWLEDGED_BEFORE_DURABLE = "acknowledged before durable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How one life is to be lived. Without a step it goes on until somebody ends it."""

    role: str
    number: int
    port: int
    folder: Path
    seed: int
    step: steps.Step | None = None
    nth: int = 1
    delay_us: int = 0
    # Stop by itself, cleanly, after so long.
    stop_after_s: float | None = None
    # No load any more: only deliver.
    quiet: bool = False
    # A defect on purpose, that the oracle must find.
    defect: Defect | None = None

    def to_json(self) -> str:
        step = None if self.step is None else [self.step.phase, self.step.target, self.step.moment]
        rest = {name: getattr(self, name) for name in self.__slots__ if name not in ("step", "folder")}
        return json.dumps({**rest, "folder": str(self.folder), "step": step})

    @classmethod
    def from_json(cls, text: str) -> Order:
        fields = json.loads(text)
        if fields["step"] is not None:
            phase, target, moment = fields["step"]
            fields["step"] = steps.Step(phase=phase, target=target, moment=steps.Moment(moment))
        return cls(**{**fields, "folder": Path(fields["folder"])})


class Told:
    """Lines that outlive this process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


def live(order: Order) -> None:
    told = Told(order.folder / f"told-{order.role}")
    told(f"life {order.number}")
    if order.defect is not None:
        sabotage(Defect(order.defect))
    work = an_agent(order, told) if order.role == "agent" else a_receiver(order, told)
    if order.step is not None:
        steps.arm(order.step, nth=order.nth, delay_us=order.delay_us, note=told)
    asyncio.run(work())
    told("stopped")


def sabotage(defect: Defect) -> None:
    match defect:
        case Defect.GREEN_BEFORE_DURABLE:
            perform = Performer.perform

            async def hasty(performer: Performer, effects: Sequence[Effect], now: Instant) -> None:
                lights = [effect for effect in effects if isinstance(effect, Signal)]
                for light in lights:
                    await performer._signal(light)
                await perform(performer, [effect for effect in effects if effect not in lights], now)

            Performer.perform = hasty  # type: ignore[method-assign]
        case Defect.ACKNOWLEDGED_BEFORE_DURABLE:
            take = Store.take

            def forgetful(store: Store, deliveries: Sequence[Delivery]) -> list[StreamState]:
                store._db.execute("SAVEPOINT forget")
                store._transaction = contextlib.nullcontext  # type: ignore[assignment, method-assign]
                states = take(store, deliveries)
                store._db.execute("ROLLBACK")
                return states

            Store.take = forgetful  # type: ignore[method-assign]


# The agent


def an_agent(order: Order, told: Told) -> Callable[[], Any]:
    _tell_what_is_durable(told)

    async def work() -> None:
        chance = random.Random(order.seed)
        runtime = Runtime(config.load(order.folder / "roamkey.toml"))
        assert runtime.uplink is not None
        runtime.uplink._settings = _impatient(runtime.uplink._settings, order.port)
        decisions = Decisions()
        for name in runtime.readers:
            runtime.readers[name] = Witness(name, decisions, told)
        for name in runtime.chargers:
            runtime.chargers[name] = Bay(name, order.folder / f"{name}.state", chance, told)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        if order.stop_after_s is not None:
            loop.call_later(order.stop_after_s, stop.set)
        paused = asyncio.Event()
        bays = [bay for bay in runtime.chargers.values() if isinstance(bay, Bay)]
        loop.add_signal_handler(signal.SIGUSR1, lambda: (paused.set(), *(bay.unplug() for bay in bays)))
        loop.add_signal_handler(signal.SIGUSR2, paused.clear)
        load = [] if order.quiet else [drive(runtime, name, chance, paused) for name in runtime.readers]
        tasks = [asyncio.create_task(each) for each in (*load, keep_house(runtime, chance, order))]
        try:
            await runtime.run(stop, contextlib.nullcontext())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return work


def _impatient(settings: Any, port: int) -> Any:
    """Seconds of the field become milliseconds; a life is short."""
    link = replace(settings.link, port=port, connect_timeout_s=0.5, answer_timeout_s=0.5, keepalive_s=1)
    return replace(
        settings,
        link=link,
        ack_timeout_s=0.3,
        hello_backoff=Backoff(base_s=0.03, cap_s=0.2),
        reconnect=QUICK,
        linger_s=0.002,
        retained_silence_s=0.2,
    )


def _tell_what_is_durable(told: Told) -> None:
    """Said after the journal's own methods have returned, before anybody else learns it."""
    opened, append, acknowledge = Journal.open.__func__, Journal.append, Journal.acknowledge  # type: ignore[attr-defined]
    relieve = Journal.relieve

    def open_and_tell(cls: type[Journal], *args: Any, **kwargs: Any) -> Journal:
        journal: Journal = opened(cls, *args, **kwargs)
        head = journal.head()
        told(f"opened {head.journal} {head.last} {head.acknowledged}")
        return journal

    def append_and_tell(self: Journal, entries: Any) -> Any:
        sealed = append(self, entries)
        if sealed:
            told(f"sealed {self.head().last} {self.head().hash}")
        for fact, _ in entries:
            if isinstance(fact, SessionEnded):
                told(f"ended {fact.session}")
        return sealed

    def relieve_and_tell(self: Journal, *, now: Instant) -> int:
        before = self.head().last
        count = relieve(self, now=now)
        if self.head().last > before:
            told(f"sealed {self.head().last} {self.head().hash}")
        return count

    def acknowledge_and_tell(self: Journal, **kwargs: Any) -> None:
        acknowledge(self, **kwargs)
        told(f"acknowledged {self.head().acknowledged}")

    Journal.open = classmethod(open_and_tell)  # type: ignore[assignment, method-assign]
    Journal.append = append_and_tell  # type: ignore[method-assign]
    Journal.relieve = relieve_and_tell  # type: ignore[method-assign]
    Journal.acknowledge = acknowledge_and_tell  # type: ignore[method-assign]


class Decisions:
    """What each reader is about to show, and by which record: noted before anything of it is performed."""

    def __init__(self) -> None:
        self.at: dict[str, str] = {}
        perform = Performer.perform

        async def noted(performer: Performer, effects: Sequence[Effect], now: Instant) -> None:
            for effect in effects:
                if isinstance(effect, Signal):
                    self.at[effect.reader] = _grounds(effects)
            await perform(performer, effects, now)

        Performer.perform = noted  # type: ignore[method-assign]


def _grounds(effects: Sequence[Effect]) -> str:
    """The decision or the stop that a green light stands for; a second tap at a stopping bay only asks again."""
    for fact in (fact for effect in effects if isinstance(effect, Record) for fact in effect.facts):
        match fact:
            case DecisionMade():
                return f"green {fact.decision} {fact.outcome}"
            case SessionStopRequested() | SessionEnded():
                return f"stopping {fact.session}"
            case _:
                pass
    again = (effect.session for effect in effects if isinstance(effect, StopCharging))
    return next((f"stopping {session}" for session in again), "groundless")


class Witness:
    """A reader that notes what it showed."""

    def __init__(self, name: str, decisions: Decisions, told: Told) -> None:
        self.name = name
        self.shown = asyncio.Event()
        self.last: Feedback | None = None
        self._decisions = decisions
        self._told = told

    async def run(self, emit: Emit) -> None:
        emit(ReaderFound(reader=self.name, model="witness", firmware="1"))
        await asyncio.Event().wait()

    async def signal(self, feedback: Feedback, text: str) -> None:
        if feedback is Feedback.GRANTED:
            self._told(self._decisions.at[self.name])
        self.last = feedback
        self.shown.set()


class Bay:
    """A charger whose state outlives the agent: it goes on charging while nobody listens."""

    def __init__(self, name: str, file: Path, chance: random.Random, told: Told) -> None:
        self.name = name
        self._file = file
        self._chance = chance
        self._told = told
        self._emit: Any = None
        state = json.loads(file.read_text()) if file.exists() else {"session": None, "meter_wh": 1000}
        self.session: str | None = state["session"]
        self.meter_wh: int = state["meter_wh"] + (chance.randint(0, 50) if state["session"] else 0)
        if self.session is not None and chance.random() < 0.3:
            self.session = None  # the car was unplugged meanwhile

    async def run(self, emit: Any) -> None:
        self._emit = emit
        self._found()
        while True:
            await asyncio.sleep(0.03)
            if self.session is not None:
                self.meter_wh += self._chance.randint(1, 100)
                emit(Metered(charger=self.name, session=self.session, meter_wh=self.meter_wh, power_w=11_000,
                             monotonic_ms=monotonic_ms()))  # fmt: skip

    async def start(self, session: str, max_energy_wh: int | None) -> None:
        self._told(f"started {session}")
        self.session = session
        self._keep()
        self._emit(ChargingStarted(charger=self.name, session=session, meter_wh=self.meter_wh,
                                   monotonic_ms=monotonic_ms()))  # fmt: skip

    async def stop(self, session: str) -> None:
        self.session = None
        self._stopped(session, "Local")

    async def query(self) -> None:
        self._found()

    def unplug(self) -> None:
        """The driver leaves: the session must end, whatever the disk says."""
        if self.session is not None:
            session, self.session = self.session, None
            self._told(f"left {session}")
            self._stopped(session, "EVDisconnected")

    def _stopped(self, session: str, reason: str) -> None:
        self._keep()
        self._emit(ChargingStopped(charger=self.name, session=session, meter_wh=self.meter_wh, reason=reason,
                                   monotonic_ms=monotonic_ms()))  # fmt: skip

    def _found(self) -> None:
        state = ChargerState.AVAILABLE if self.session is None else ChargerState.CHARGING
        self._emit(ChargerFound(charger=self.name, state=state, session=self.session, meter_wh=self.meter_wh,
                                monotonic_ms=monotonic_ms()))  # fmt: skip

    def _keep(self) -> None:
        temporary = self._file.with_suffix(".new")
        temporary.write_text(json.dumps({"session": self.session, "meter_wh": self.meter_wh}))
        temporary.replace(self._file)


async def drive(runtime: Runtime, reader: str, chance: random.Random, paused: asyncio.Event) -> None:
    """Tap as fast as the light allows: charge, stop, again; strangers in between."""
    while runtime._tasks is None:
        await asyncio.sleep(0.002)
    witness: Any = runtime.readers[reader]
    card = {"left": ANNA, "right": DORA}.get(reader, ANNA)
    while True:
        if paused.is_set():
            await asyncio.sleep(0.02)
            continue
        uid = chance.choice((BERT, CARLA, STRANGER)) if chance.random() < 0.3 else card
        witness.shown.clear()
        runtime.service.tell(observations.Tapped(reader=reader, presented=runtime.present(uid.hex())))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await witness.shown.wait()
        await asyncio.sleep(chance.uniform(0, 0.03))


async def keep_house(runtime: Runtime, chance: random.Random, order: Order) -> None:
    """Prune what is acknowledged, and fold the WAL: what a service does now and then, here often."""
    while runtime._tasks is None:
        await asyncio.sleep(0.002)
    while True:
        await asyncio.sleep(chance.uniform(0.02, 0.1))
        now = runtime.clock.now()
        with contextlib.suppress(StorageFull):
            await runtime.store.ask(lambda journal: journal.prune(keep=timedelta(0), now=now))  # noqa: B023
            if chance.random() < 0.3:
                await runtime.store.ask(lambda journal: journal.relieve(now=now))  # noqa: B023
            if chance.random() < 0.5:
                await runtime.store.ask(lambda journal: journal._fold())


# The receiver


def a_receiver(order: Order, told: Told) -> Callable[[], Any]:
    _checkpoint_often()

    async def work() -> None:
        settings = ReceiverSettings(
            link=LinkSettings(
                host="127.0.0.1",
                port=order.port,
                client_id="receiver-1",
                tls=None,
                connect_timeout_s=0.5,
                answer_timeout_s=0.5,
                keepalive_s=1,
            ),
            fleet=FLEET,
            database=order.folder / "backend.db",
            signing_key=order.folder / "service.pem",
            reconnect=QUICK,
            resend_interval_s=0.2,
        )
        task = asyncio.ensure_future(Receiver(settings, connected=lambda: told("connected")).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    return work


def _checkpoint_often() -> None:
    opened, take = Store.__init__, Store.take
    takes = 0

    def small_wal(self: Store, path: Path) -> None:
        opened(self, path)
        self._db.execute(f"PRAGMA wal_autocheckpoint = {BACKEND_WAL_PAGES}")

    def take_and_fold(self: Store, deliveries: Sequence[Delivery]) -> list[StreamState]:
        nonlocal takes
        states = take(self, deliveries)
        takes += 1
        if takes % FOLD_EVERY == 0:
            fold_backend(self)
        return states

    Store.__init__ = small_wal  # type: ignore[method-assign]
    Store.take = take_and_fold  # type: ignore[method-assign]


def fold_backend(store: Store) -> None:
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
