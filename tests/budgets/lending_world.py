"""A world of devices, a backend and a network that does what it likes: the machine of the core, the ledger in SQLite.

Each device is the real machine over a journal of its facts; what it forgets in a crash is what was not recorded. The
backend's ledger hears what journals say, in any order and as often as the test likes. What sessions truly took is
counted apart, by the lease that was to pay for it: that is what must never pass the limit.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.core import facts
from agent.core import observations as seen
from agent.core.agent import Agent
from agent.core.budgets import Budget, Holdings, Lease, Scope, Unit
from agent.core.effects import Record, Signal
from agent.core.instants import ClockQuality, Instant
from agent.core.memory import State
from agent.core.recollection import recalled, wanted_by
from agent.core.sessions import Session, fold
from agent.wire import GENESIS, seal
from sync.backend.budgets import Span, Terms
from sync.backend.ledger import Ledger, Standing
from sync.backend.statements import statement_of
from sync.grants import Grant
from tests.core.builders import a_group, a_place, a_policy, a_setup, a_tap, a_token

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)
POWER_W = 22_000
SLACK_WH = 31  # what flows at 22 kW between the order to stop and the stop
ENERGY = Terms(id="energy", scope="fleet", unit="energy", limit=150_000, per_session=30_000, span=Span.DAY)
COUNT = Terms(id="count", scope="fleet", unit="sessions", limit=12, per_session=1, span=Span.WEEK)
BUDGETS = (
    Budget(id="energy", scope=Scope.FLEET, unit=Unit.ENERGY, limit=ENERGY.limit),
    Budget(id="count", scope=Scope.FLEET, unit=Unit.SESSIONS, limit=COUNT.limit),
)
LIMITS = {"energy": ENERGY.limit, "count": COUNT.limit}
CARDS = tuple(f"04A1B2C3D4E5{number:02X}" for number in range(3))


@dataclass(kw_only=True)
class Device:
    """`boots` and `journals` count up. `told` is how far its journal was read out, for a network without tricks."""

    name: str
    world: World
    clock: Instant
    journal: str = "journal-1"
    entries: list[tuple[facts.Fact, Instant]] = field(default_factory=list)
    sealed: list[bytes] = field(default_factory=list)
    up: bool = True
    boots: int = 1
    journals: int = 1
    taps: int = 0
    agent: Agent = field(init=False)

    def __post_init__(self) -> None:
        self.agent = self._machine(Holdings(journal=self.journal))

    def _machine(self, holdings: Holdings) -> Agent:
        place = a_place(power_w=POWER_W)
        policy = a_policy(
            a_group(max_sessions_per_token=9, max_sessions_per_vehicle=9), budgets=BUDGETS, confirmed=self.clock.utc
        )
        policy = replace(policy, expired_after=timedelta(days=9999), stale_after=timedelta(days=9999))
        setup = a_setup(readers={f"r{n}": f"c{n}" for n in range(3)}, chargers={f"c{n}": place for n in range(3)})
        state = State(policy=policy, reachable=frozenset(setup.chargers), holdings=holdings, link_up=self.up)
        return Agent(setup, state)

    def tell(self, observation: seen.Observation, *, dies: str = "") -> bool:
        """What the machine does of it; `dies` before its record is durable, or behind it. Whether it showed green."""
        self.taps += 1
        self.clock = replace(self.clock, entropy=f"{self.name}/{self.journal}/{self.taps}/{self.boots}".encode())
        effects = self.agent.handle(observation, self.clock)
        if dies == "before":
            self.dies()
            return False
        for fact in [fact for effect in effects if isinstance(effect, Record) for fact in effect.facts]:
            self._record(fact)
        if dies == "behind":
            self.dies()
            return False
        return any(isinstance(each, Signal) and each.feedback == "granted" for each in effects)

    def _record(self, fact: facts.Fact) -> None:
        if isinstance(fact, facts.SessionAuthorised):
            self.world.opens(self, fact)
        source = f"/fleets/acme/devices/{self.name}"
        sequence = len(self.entries) + 1
        self.entries.append((fact, self.clock))
        self.sealed.append(
            seal(fact, sequence=sequence, previous=GENESIS, journal=self.journal, source=source, now=self.clock)
        )

    def dies(self) -> None:
        """Killed: memory is gone, the journal is there. It starts again at once."""
        self.boots += 1
        self.clock = replace(self.clock, boot=f"{self.name}-boot-{self.boots}", monotonic_ms=5_000)
        granted, at = None, self.clock
        later: list[facts.Fact] = []
        for fact, when in self.entries:
            if isinstance(fact, facts.BudgetGranted):
                granted, at, later = fact, when, []
            later.append(fact)
        asked = wanted_by(fact for fact, _ in self.entries)
        known = Holdings(journal=self.journal, wanted=asked)
        holdings = recalled(known, granted, boot=at.boot, received_ms=at.monotonic_ms, later=later)
        self.agent = self._machine(holdings)
        self.tell(seen.Woken(version="test", sessions=tuple(self._open()), holdings=holdings))
        self.agent.handle(seen.LinkChanged(up=self.up), self.clock)

    def _open(self) -> Iterator[Session]:
        told: dict[str, list[facts.SessionFact]] = defaultdict(list)
        for fact, _ in self.entries:
            if isinstance(fact, facts.SessionFact):
                told[fact.session].append(fact)
        for each in told.values():
            session = fold(each)
            if session is not None and session.is_open:
                yield session

    def taps_card(self, number: int, *, dies: str = "") -> bool:
        token = a_token(CARDS[number])
        return self.tell(a_tap(CARDS[number], token, reader=f"r{number}"), dies=dies)

    def ends(self, session: str, *, share: float, over_wh: int, complete: bool, dies: str = "") -> None:
        """The charger delivers a share of what the session may take, and a little on the way to the stop."""
        open_ = self.agent.state.sessions.get(session)
        if open_ is None or not open_.is_open:
            return
        most_wh = open_.max_energy_wh or 0
        took_wh = int(most_wh * share) + (over_wh if share == 1 else 0)
        self.world.took(self.name, session, took_wh)
        self.tell(seen.ChargingStarted(charger=open_.charger, session=session, meter_wh=1_000))
        if complete:
            stopped = seen.ChargingStopped(
                charger=open_.charger, session=session, meter_wh=1_000 + took_wh, reason="StoppedByEV"
            )
            self.tell(stopped, dies=dies)
        else:  # the cable is pulled, and nobody has seen the meter
            self.tell(seen.Unplugged(charger=open_.charger), dies=dies)

    def loses_storage(self) -> None:
        """Another journal, another epoch; what ran is still running, and nobody knows any more."""
        self.journals += 1
        self.journal = f"{self.name}/journal-{self.journals}"
        self.entries, self.sealed = [], []
        self.agent = self._machine(Holdings(journal=self.journal))
        self.tell(seen.JournalChanged(journal=self.journal))

    def sees_link(self, *, up: bool) -> None:
        self.up = up
        self.tell(seen.LinkChanged(up=up))

    def clock_jumps(self, span: timedelta, quality: ClockQuality) -> None:
        """The wall clock; the floor and the monotonic clock are not fooled."""
        self.clock = replace(self.clock, utc=self.clock.utc + span, quality=quality)
        self.tell(seen.Tick())

    def passes(self, span: timedelta) -> None:
        milliseconds = int(span.total_seconds() * 1000)
        utc = self.clock.utc + span
        floor = max(self.clock.floor, utc) if self.clock.quality is ClockQuality.SYNCHRONISED else self.clock.floor
        self.clock = replace(
            self.clock, utc=utc, floor=min(floor, self.world.now), monotonic_ms=self.clock.monotonic_ms + milliseconds
        )
        self.tell(seen.Tick())

    def copied(self, name: str) -> Device:
        """Its storage, in another housing, under the same name and key."""
        other = Device(name=self.name, world=self.world, clock=self.clock, journal=self.journal, up=False)
        other.entries, other.sealed = list(self.entries), list(self.sealed)
        other.boots, other.taps = self.boots + 100 * len(self.world.devices), self.taps
        other.dies()
        self.world.devices[name] = other
        return other


@dataclass(kw_only=True)
class World:
    folder: Path
    copies: int = 0
    now: datetime = NOON
    devices: dict[str, Device] = field(default_factory=dict)
    grants: list[Grant] = field(default_factory=list)
    heard: list[tuple[str, str, bytes]] = field(default_factory=list)
    paying: dict[tuple[str, str], list[tuple[str, str, int]]] = field(default_factory=dict)
    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    periods: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    older: Path | None = None
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = self._opened()

    def _opened(self) -> Ledger:
        terms = [replace(each, cover_copies=self.copies) for each in (ENERGY, COUNT)]
        return Ledger(self.folder / "ledger", terms, fleet="acme")

    def device(self, name: str) -> Device:
        clock = Instant(
            utc=self.now,
            floor=self.now - timedelta(days=30),
            monotonic_ms=1_000_000,
            boot=f"{name}-boot-1",
            quality=ClockQuality.SYNCHRONISED,
            entropy=b"",
        )
        made = Device(name=name, world=self, clock=clock, journal=f"{name}/journal-1")
        self.devices[name] = made
        made.tell(seen.LinkChanged(up=True))
        return made

    # The truth

    def opens(self, device: Device, fact: facts.SessionAuthorised) -> None:
        key = (f"{id(device)}", fact.session)
        self.paying[key] = [(use.budget, use.lease, use.amount) for use in fact.leases or ()]
        for use in fact.leases or ():
            lease = device.agent.state.holdings.held[use.lease].lease
            self.periods[use.lease] = (use.budget, self._start(lease))
            if use.budget == "count":
                self.taken[key[0] + use.lease + fact.session, use.lease] = 0

    def _start(self, lease: Lease) -> datetime:
        terms = ENERGY if lease.budget == "energy" else COUNT
        return terms.period(lease.spend_until - timedelta(seconds=1)).start

    def took(self, name: str, session: str, energy_wh: int) -> None:
        """Paid for by the leases that it had reserved, the last one pays what is over."""
        for key, parts in self.paying.items():
            if key[1] != session or (key[0] + session, "paid") in self.taken:
                continue
            self.taken[key[0] + session, "paid"] = 0
            left = energy_wh
            energy = [each for each in parts if each[0] == "energy"]
            for number, (_, lease, amount) in enumerate(energy):
                part = left if number == len(energy) - 1 else min(left, amount)
                self._add(key[0] + session, lease, part)
                left -= part
            for _, lease, _ in (each for each in parts if each[0] == "count"):
                self._add(key[0] + session, lease, 1)

    def _add(self, who: str, lease: str, amount: int) -> None:
        self.taken[who, lease] = self.taken.get((who, lease), 0) + amount

    def truth(self) -> dict[tuple[str, datetime], int]:
        totals: dict[tuple[str, datetime], int] = defaultdict(int)
        for (_, lease), amount in self.taken.items():
            if lease in self.periods:
                totals[self.periods[lease]] += amount
        return totals

    # The network

    def say(self, device: Device, numbers: Iterable[int]) -> None:
        """The backend hears these records of it, in this order."""
        for number in numbers:
            statement = statement_of(device.sealed[number])
            if statement is not None:
                self.ledger.hear(device.name, device.journal, [statement], now=self.now)

    def lend(self) -> None:
        self.grants += self.ledger.lend(self.now)

    def bring(self, device: Device, grant: Grant, *, dies: str = "") -> None:
        leases = tuple(
            Lease(**{name: getattr(each, name) for name in Lease.__dataclass_fields__}) for each in grant.leases
        )
        replaces = tuple(id for each in grant.leases for id in each.replaces)
        received = seen.GrantReceived(number=grant.number, leases=leases, used_up=grant.used_up, replaces=replaces)
        device.tell(received, dies=dies)

    # The backend's storage

    def restarts(self) -> None:
        self.ledger.close()
        self.ledger = self._opened()

    def keeps_a_copy(self) -> None:
        self.ledger.close()
        self.older = self.folder / "older"
        shutil.copy(self.folder / "ledger", self.older)
        self.ledger = self._opened()

    def is_put_back(self) -> None:
        """To the older copy; the witness lies elsewhere and is not."""
        if self.older is None:
            return
        self.ledger.close()
        for suffix in ("-wal", "-shm"):
            (self.folder / f"ledger{suffix}").unlink(missing_ok=True)
        shutil.copy(self.older, self.folder / "ledger")
        self.ledger = self._opened()

    def standings(self) -> list[Standing]:
        return self.ledger.standings(self.now)

    def close(self) -> None:
        with closing(self.ledger):
            pass
