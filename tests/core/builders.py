"""Small builders that default everything, and a Yard: the machine, its clocks and whoever stands beside it.

Every default describes one ordinary weekday at one charger where the fleet's card is welcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from agent.core import observations as seen
from agent.core.agent import Agent
from agent.core.credentials import RANDOM, Assurance, Credential, reference
from agent.core.decisions import Decision, decide
from agent.core.effects import Record, Signal
from agent.core.facts import Fact
from agent.core.instants import ClockQuality, Instant
from agent.core.memory import Effects, Setup, State, Timing
from agent.core.observations import Observation, Presented
from agent.core.policy import Driver, Group, Policy, Token, Vehicle
from agent.core.requests import Place, Request, Usage
from agent.core.sessions import Session
from agent.core.terms import Schedule, Window

NOON = datetime(2027, 3, 10, 12, 0, tzinfo=UTC)  # a Wednesday
BOOT = "boot-1"
KEY = b"a key of the tests"
CARD = "04A1B2C3D4E5F6"
WEEK = frozenset(range(7))
BERLIN = ZoneInfo("Europe/Berlin")

F = TypeVar("F")


def an_instant(utc: datetime = NOON, **changes: Any) -> Instant:
    defaults: dict[str, Any] = {
        "utc": utc,
        "floor": datetime(2026, 11, 1, tzinfo=UTC),
        "monotonic_ms": 1_000_000,
        "boot": BOOT,
        "quality": ClockQuality.SYNCHRONISED,
        "entropy": b"0123456789abcdef",
    }
    return Instant(**{**defaults, **changes})


def a_credential(uid: str = CARD, assurance: Assurance = Assurance.STATIC) -> Credential:
    return Credential(reference=reference(KEY, uid), assurance=assurance)


def a_phone(uid: str = "08112233") -> Credential:
    """A random UID as a careless shell might hand it in: with a reference, although it names nobody."""
    return Credential(reference=reference(KEY, uid), assurance=Assurance.RANDOM)


def a_token(uid: str = CARD, **changes: Any) -> Token:
    defaults: dict[str, Any] = {"reference": reference(KEY, uid), "label": f"card {uid[-4:]}", "group": "drivers"}
    return Token(**{**defaults, **changes})


def a_group(id: str = "drivers", **changes: Any) -> Group:
    for several in ("networks", "countries"):
        if changes.get(several) is not None:
            changes[several] = frozenset(changes[several])
    return Group(id=id, **changes)


def a_window(start: str, end: str, weekdays: Iterable[int] = WEEK) -> Window:
    return Window(weekdays=frozenset(weekdays), start_minute=minutes(start), end_minute=minutes(end))


def a_schedule(*windows: Window, zone: str = "Europe/Berlin") -> Schedule:
    return Schedule(zone=ZoneInfo(zone), windows=windows)


def a_policy(*groups: Group, **changes: Any) -> Policy:
    """Groups as given; other words go to the one group `drivers`, or to the policy if it has such a field."""
    own = {name: changes.pop(name) for name in list(changes) if name in Policy.__dataclass_fields__}
    everyone = groups or (a_group(**changes),)
    defaults: dict[str, Any] = {
        "fleet": "acme",
        "revision": 7,
        "fingerprint": "f00d",
        "confirmed": NOON - timedelta(hours=1),
        "confirmed_boot": BOOT,
        "confirmed_ms": 0,
        "stale_after": timedelta(hours=24),
        "expired_after": timedelta(days=7),
        "groups": {group.id: group for group in everyone},
        "drivers": {"anna": Driver(id="anna", language="de", cost_centre="4711")},
        "vehicles": {"van": Vehicle(id="van", cost_centre="0815")},
    }
    return Policy(**{**defaults, **own})


def a_place(**changes: Any) -> Place:
    defaults: dict[str, Any] = {"evse": "DE*ABC*E1", "network": "DE*ABC", "country": "DE", "site": "depot"}
    return Place(**{**defaults, **changes})


def a_request(token: Token | None = None, **changes: Any) -> Request:
    token = token or a_token()
    defaults: dict[str, Any] = {
        "credential": Credential(reference=token.reference, assurance=Assurance.STATIC),
        "token": token,
        "reader": "door",
        "charger": "bay",
        "place": a_place(),
    }
    return Request(**{**defaults, **changes})


def presented(uid: str = CARD, token: Token | None = None, *, unknown: bool = False, **changes: Any) -> Presented:
    defaults: dict[str, Any] = {
        "credential": a_credential(uid),
        "token": None if unknown else token or a_token(uid),
    }
    return Presented(**{**defaults, **changes})


def a_tap(uid: str = CARD, token: Token | None = None, *, reader: str = "door", **changes: Any) -> seen.Tapped:
    return seen.Tapped(reader=reader, presented=presented(uid, token, **changes))


def ask(request: Request | None = None, policy: Policy | None = None, **changes: Any) -> Decision:
    """decide() with everything that is not named here being in order; `policy=None` is the default policy."""
    return decide(
        request or a_request(), policy or a_policy(), changes.pop("usage", Usage()), changes.pop("now", an_instant())
    )


def codes(decision: Decision) -> tuple[str, ...]:
    return tuple(reason.code.value for reason in getattr(decision, "reasons", ()))


def a_setup(**changes: Any) -> Setup:
    defaults: dict[str, Any] = {
        "version": "test",
        "readers": {"door": "bay", "gate": "yard"},
        "chargers": {"bay": a_place(), "yard": a_place(evse="DE*ABC*E2")},
        "timing": Timing(),
    }
    return Setup(**{**defaults, **changes})


def an_agent(policy: Policy | None = None, *, reachable: Iterable[str] = ("bay", "yard"), **changes: Any) -> Agent:
    state = State(policy=policy or a_policy(), reachable=frozenset(reachable))
    return Agent(a_setup(**changes), state)


@dataclass(kw_only=True)
class Yard:
    """A place where things happen one after another: each method is one observation and returns its effects."""

    agent: Agent = field(default_factory=an_agent)
    now: Instant = field(default_factory=an_instant)
    journal: list[Fact] = field(default_factory=list)
    tokens: dict[str, Token | None] = field(default_factory=dict)
    happened: int = 0

    def tell(self, observation: Observation) -> Effects:
        self.happened += 1
        self.now = replace(self.now, entropy=self.happened.to_bytes(16, "big"))
        effects = self.agent.handle(observation, self.now)
        self.journal += recorded(effects)
        return effects

    def passes(self, *, milliseconds: int = 0, **time: float) -> None:
        span = timedelta(milliseconds=milliseconds, **time)
        self.now = replace(
            self.now, utc=self.now.utc + span, monotonic_ms=self.now.monotonic_ms + int(span.total_seconds() * 1000)
        )

    def tick_after(self, **time: float) -> Effects:
        self.passes(**time)
        return self.tell(seen.Tick())

    def knows(self, uid: str, **changes: Any) -> None:
        self.tokens[uid] = a_token(uid, **changes)

    def shows(self, *uids: str, reader: str = "door") -> Effects:
        """One look of the reader; what it sees lies there now."""
        cards = tuple(self.look_up(uid) for uid in uids)
        return self.tell(seen.Sighted(reader=reader, presented=cards, monotonic_ms=self.now.monotonic_ms))

    def taps(self, uid: str = CARD, *, reader: str = "door") -> Effects:
        """A card is held against the reader for a moment and taken away again."""
        effects = self.shows(uid, reader=reader)
        for _ in range(8):
            self.passes(milliseconds=250)
            self.shows(reader=reader)
        return effects

    def look_up(self, uid: str) -> Presented:
        if uid.startswith("08"):
            return Presented(credential=RANDOM, token=None)
        return presented(uid, self.tokens.get(uid), unknown=uid in self.tokens and self.tokens[uid] is None)

    def started(self, session: Session | str | None = None, meter_wh: int = 1000, charger: str = "bay") -> Effects:
        return self.tell(seen.ChargingStarted(charger=charger, session=name(session), meter_wh=meter_wh))

    def metered(
        self, meter_wh: int, session: Session | str | None = None, charger: str = "bay", power_w: int | None = 11_000
    ) -> Effects:
        return self.tell(
            seen.Metered(charger=charger, session=name(session), meter_wh=meter_wh, power_w=power_w),
        )

    def stopped(
        self,
        meter_wh: int | None,
        session: Session | str | None = None,
        charger: str = "bay",
        reason: str = "StoppedByEV",
    ) -> Effects:
        return self.tell(seen.ChargingStopped(charger=charger, session=name(session), meter_wh=meter_wh, reason=reason))

    def plugs_in(self, charger: str = "bay") -> Effects:
        return self.tell(seen.PluggedIn(charger=charger))

    def unplugs(self, charger: str = "bay") -> Effects:
        return self.tell(seen.Unplugged(charger=charger))

    def loses(self, charger: str = "bay") -> Effects:
        return self.tell(seen.ChargerLost(charger=charger, cause="no answer"))

    def finds(
        self,
        charger: str = "bay",
        *,
        charging: bool = False,
        session: Session | str | None = None,
        meter_wh: int | None = None,
    ) -> Effects:
        state = "charging" if charging else "available"
        return self.tell(
            seen.ChargerFound(charger=charger, charging=charging, state=state, session=name(session), meter_wh=meter_wh)
        )

    def dies(self) -> tuple[Session, ...]:
        """Killed: what was open stays in the journal, the machine's memory is gone."""
        left = self.agent.state.open_sessions
        policy = self.agent.state.policy
        self.agent = Agent(self.agent.setup, State(policy=policy))
        return left

    def reboots(self, **time: float) -> tuple[Session, ...]:
        """Power is lost and comes back: the monotonic clock begins again."""
        left = self.dies()
        self.passes(**time)
        self.now = replace(self.now, boot=self.now.boot + "'", monotonic_ms=5_000)
        return left

    def wakes(self, left: Iterable[Session]) -> Effects:
        return self.tell(seen.Woken(version="test", sessions=tuple(left)))

    @property
    def session(self) -> Session:
        """The newest session."""
        return list(self.agent.state.sessions.values())[-1]

    def told(self, kind: type[F]) -> list[F]:
        return [fact for fact in self.journal if isinstance(fact, kind)]


def a_yard(policy: Policy | None = None, *, tokens: Mapping[str, Token | None] | None = None, **setup: Any) -> Yard:
    return Yard(agent=an_agent(policy, **setup), tokens=dict(tokens or {}))


def charging_yard(policy: Policy | None = None, **setup: Any) -> Yard:
    """A yard where the fleet's card has begun to charge at the bay, at 1000 Wh."""
    yard = a_yard(policy, **setup)
    yard.taps()
    yard.started(yard.session, 1000)
    return yard


def recorded(effects: Effects) -> list[Fact]:
    return [fact for effect in effects if isinstance(effect, Record) for fact in effect.facts]


def of(kind: type[F], effects: Iterable[object]) -> list[F]:
    return [effect for effect in effects if isinstance(effect, kind)]


def shown(effects: Effects) -> list[str]:
    return [effect.feedback.value for effect in of(Signal, effects)]


def name(session: Session | str | None) -> str | None:
    return session.id if isinstance(session, Session) else session


def minutes(clock: str) -> int:
    hour, minute = clock.split(":")
    return int(hour) * 60 + int(minute)
