"""What the machine knows: how the device is wired, what is going on, and the few ways in which that changes.

The state is immutable and replaced as a whole, so that whoever performs the effects can put the one of before back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar

from agent.core.budgets import Holdings
from agent.core.effects import (
    Effect,
    WakeAt,
)
from agent.core.history import History
from agent.core.pending import Pending
from agent.core.policy import Policy
from agent.core.presence import Presence
from agent.core.prices import Prices
from agent.core.quotes import Quote
from agent.core.requests import Place, Source
from agent.core.sessions import Phase, Session
from agent.core.whereabouts import Fix

Effects = tuple[Effect, ...]
K = TypeVar("K", bound=str)
V = TypeVar("V")

REMEMBERED_ENDED_SESSIONS = 32  # late charger events about these are recognised as late
REMEMBERED_CONTRADICTIONS = 16  # for each charger; what it repeats of these is not recorded again
FAULT = "fault "  # such complaints are forgotten when the charger is well again


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a phase may last before the machine looks again."""

    start_timeout_ms: int = 120_000
    stop_timeout_ms: int = 30_000
    resume_timeout_ms: int = 300_000
    meter_record_every_ms: int = 60_000
    ask_timeout_ms: int = 1_500
    contract_session_s: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How this device is wired: which charger a reader stands for, where each charger is, whose vehicle this is.

    `prices` and `quotes` are those of chargers whose prices never change; `unmetered` chargers tell no energy.
    `break_glass` is this device's secret for codes over the phone; without it there are none.
    """

    version: str
    readers: Mapping[str, str]
    chargers: Mapping[str, Place]
    vehicle: str | None = None
    prices: Mapping[str, Prices] = field(default_factory=lambda: MappingProxyType({}))
    quotes: Mapping[str, Quote] = field(default_factory=lambda: MappingProxyType({}))
    unmetered: frozenset[str] = frozenset()
    break_glass: bytes | None = field(default=None, repr=False)
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    policy: Policy | None = None
    sessions: Mapping[str, Session] = field(default_factory=lambda: MappingProxyType({}))
    presences: Mapping[str, Presence] = field(default_factory=lambda: MappingProxyType({}))
    reachable: frozenset[str] = frozenset()
    lost_readers: frozenset[str] = frozenset()
    contradictions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    storage_full: bool = False
    history: History = field(default_factory=History)
    holdings: Holdings = field(default_factory=Holdings)
    link_up: bool = False
    pending: Mapping[str, Pending] = field(default_factory=lambda: MappingProxyType({}))
    fixes: Mapping[Source, Fix] = field(default_factory=lambda: MappingProxyType({}))
    linked: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # charger to the EVSE it says it is

    @property
    def open_sessions(self) -> tuple[Session, ...]:
        return tuple(session for session in self.sessions.values() if session.is_open)

    def open_at(self, charger: str | None) -> Session | None:
        return next((session for session in self.open_sessions if session.charger == charger), None)


class Memory:
    """The one place where the state is replaced; the parts of the machine share it, one turn at a time."""

    def __init__(self, setup: Setup, state: State) -> None:
        self.setup = setup
        self.state = state

    def change(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def keep(self, session: Session) -> None:
        sessions = dict(self.state.sessions)
        sessions[session.id] = session
        over = [each.id for each in sessions.values() if not each.is_open][:-REMEMBERED_ENDED_SESSIONS]
        for forgotten in over:
            del sessions[forgotten]
        self.change(sessions=MappingProxyType(sessions))

    def is_news(self, charger: str, key: str) -> bool:
        """Once for each kind of complaint: a charger that repeats itself cannot fill the journal."""
        said = self.state.contradictions.get(charger, ())
        if key in said:
            return False
        kept = (*said, key)[-REMEMBERED_CONTRADICTIONS:]
        self.change(contradictions=with_item(self.state.contradictions, charger, kept))
        return True

    def link(self, charger: str, evse: str | None) -> None:
        """What the charger says of itself holds until the vehicle leaves it or nothing is heard of it."""
        if self.state.linked.get(charger) == evse:
            return
        others = {name: each for name, each in self.state.linked.items() if name != charger}
        self.change(linked=MappingProxyType(others if evse is None else {**others, charger: evse}))

    def forget(self, charger: str, prefix: str) -> None:
        said = self.state.contradictions.get(charger, ())
        kept = tuple(key for key in said if not key.startswith(prefix))
        if kept != said:
            self.change(contradictions=with_item(self.state.contradictions, charger, kept))

    def due_ms(self, session: Session) -> int | None:
        timing = self.setup.timing
        heard = session.charger in self.state.reachable
        lasting = {
            Phase.AUTHORISED: timing.start_timeout_ms,
            Phase.STOPPING: timing.stop_timeout_ms if heard else timing.resume_timeout_ms,
            Phase.INTERRUPTED: timing.resume_timeout_ms,
        }.get(session.phase)
        return None if lasting is None else session.watched_ms + lasting

    def deadline(self, session: Session) -> Effects:
        due = self.due_ms(session)
        return () if due is None else (WakeAt(monotonic_ms=due),)


def with_item(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return MappingProxyType({**mapping, key: value})
