"""Laws of the machine that hold whatever is seen: random days with kills, reboots, full disks and lying chargers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from agent.core import facts
from agent.core import observations as seen
from agent.core.agent import Agent
from agent.core.effects import (
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
from agent.core.instants import ClockQuality
from agent.core.memory import Effects, State
from agent.core.observations import Observation, Presented
from agent.core.policy import TokenStatus
from agent.core.quotes import Quote
from agent.core.sessions import Phase, Session, fold
from agent.core.tariff.tariffs import Component, Dimension, Element, Tariff
from tests.core.builders import (
    Yard,
    a_phone,
    a_place,
    a_policy,
    a_token,
    an_agent,
    of,
    presented,
    recorded,
)

CARDS = ("04000001", "04000002", "04000003")
CHARGERS = ("bay", "yard")
READERS = ("door", "gate", "nowhere")
A_QUOTE = Quote(
    document="{}",
    sha256="0" * 64,
    tariff=Tariff(
        id="t",
        currency="EUR",
        elements=(
            Element(components=(Component(dimension=Dimension.ENERGY, price=Decimal("0.4"), taxes=(), step_size=100),)),
        ),
    ),
)


def the_quote(fact: facts.SessionPriced) -> Quote:
    return A_QUOTE


@dataclass(kw_only=True)
class Day(Yard):
    """A yard where anything happens, drawn from a seed. The journal is all that outlives a kill."""

    draw: random.Random
    wakes_at: set[int] = field(default_factory=set)
    told_before: int = 0
    laws: Callable[[Day, State, Observation, Effects], None] = lambda day, before, observation, effects: None

    def tell(self, observation: Observation) -> Effects:
        before = self.agent.state
        effects = super().tell(observation)
        self.wakes_at |= {wake.monotonic_ms for wake in of(WakeAt, effects)}
        if self.draw.random() < 0.03 and of(Record, effects):  # the disk is full: nothing has happened
            del self.journal[len(self.journal) - len(recorded(effects)) :]
            self.agent.state = before
            return ()
        self.laws(self, before, observation, effects)
        return effects

    def anything(self) -> None:
        draw = self.draw
        self.passes(milliseconds=draw.choice((0, 1, 150, 700, 1_500, 10_000, 40_000, 130_000, 400_000)))
        while due := {at_ms for at_ms in self.wakes_at if at_ms <= self.now.monotonic_ms}:
            self.wakes_at -= due
            self.tell(seen.Tick())
        weights = (12, 4, 1, 1, 1, 2, 2, 8, 8, 6, 1, 6, 2, 1, 1, 1, 1, 2, 1)
        (happening,) = draw.choices(HAPPENINGS, weights)
        happening(self)

    def some_card(self) -> Presented:
        uid = self.draw.choice(CARDS)
        token = a_token(
            uid,
            parent=self.draw.choice((None, "family", "FAMILY")),
            vehicle=self.draw.choice((None, "van")),
            status=self.draw.choice((*[TokenStatus.ACTIVE] * 5, TokenStatus.BLOCKED)),
        )
        kind = self.draw.random()
        if kind < 0.08:
            return presented("08", credential=a_phone(f"08{self.draw.randrange(2**24):06X}"))
        return presented(uid, token, unknown=kind > 0.95, lookup_failed=kind > 0.97)

    def some_session(self) -> str | None:
        known = list(self.agent.state.sessions)
        return self.draw.choice((None, "foreign", *known[-3:], *known[-1:] * 3))

    def some_meter(self) -> int:
        return max(0, self.now.monotonic_ms // 1_000 + self.draw.choice((0, 0, 0, 0, -500, 10**9)))

    def shows_something(self) -> None:
        cards = [self.some_card() for _ in range(self.draw.choice((0, 1, 1, 1, 1, 2)))]
        self.tell(
            seen.Sighted(reader=self.draw.choice(READERS), presented=tuple(cards), monotonic_ms=self.now.monotonic_ms)
        )

    def is_killed(self, *, reboot: bool = False) -> None:
        names = dict.fromkeys(fact.session for fact in self.journal if isinstance(fact, facts.SessionAuthorised))
        folded = [fold(facts_of(self, name), the_quote) for name in names]
        left = tuple(session for session in folded if session is not None and session.is_open)
        self.agent = Agent(self.agent.setup, State(policy=self.agent.state.policy))
        self.wakes_at = set()
        if reboot:
            self.now = replace(self.now, boot=self.now.boot + "'", monotonic_ms=self.draw.randrange(10**6))
        while not of(Record, self.tell(seen.Woken(version="test", sessions=left))):
            pass


def facts_of(day: Day, session: str) -> list[Any]:
    return [fact for fact in day.journal if isinstance(fact, facts.SessionFact) and fact.session == session]


HAPPENINGS: tuple[Callable[[Day], object], ...] = (
    Day.shows_something,
    lambda day: day.tell(
        seen.Tapped(
            reader=day.draw.choice(READERS), presented=day.some_card(), request=day.draw.choice((None, "request"))
        )
    ),
    lambda day: day.tell(
        seen.DecisionRequested(
            request="r", presented=day.some_card(), charger=day.draw.choice((None, *CHARGERS)), place=a_place()
        )
    ),
    lambda day: day.tell(seen.ReaderFound(reader=day.draw.choice(READERS), model="m", firmware="1")),
    lambda day: day.tell(seen.ReaderLost(reader=day.draw.choice(READERS), cause="c")),
    lambda day: day.plugs_in(day.draw.choice(CHARGERS)),
    lambda day: day.unplugs(day.draw.choice(CHARGERS)),
    lambda day: day.started(day.some_session(), day.some_meter(), day.draw.choice(CHARGERS)),
    lambda day: day.metered(
        day.some_meter(), day.some_session(), day.draw.choice(CHARGERS), day.draw.choice((None, 0, 11_000))
    ),
    lambda day: day.stopped(
        day.draw.choice((None, day.some_meter())), day.some_session(), day.draw.choice(CHARGERS), "whatever"
    ),
    lambda day: day.tell(seen.Faulted(charger=day.draw.choice(CHARGERS), code=day.draw.choice("AB"))),
    lambda day: day.finds(
        day.draw.choice(CHARGERS),
        charging=day.draw.random() < 0.5,
        session=day.some_session(),
        meter_wh=day.draw.choice((None, day.some_meter())),
    ),
    lambda day: day.loses(day.draw.choice(CHARGERS)),
    lambda day: day.tell(
        seen.PolicyActivated(
            policy=a_policy(confirmed=day.now.utc, max_energy_wh=day.draw.choice((None, 1_000))),
            tokens=3,
            announce=day.draw.random() < 0.5,
        )
    ),
    lambda day: day.tell(seen.ClockStepped(step_ms=5, quality=ClockQuality.HOLDOVER)),
    lambda day: day.tell(seen.StorageChanged(full=day.draw.random() < 0.5)),
    lambda day: day.is_killed(reboot=day.draw.random() < 0.5),
    lambda day: day.tell(seen.Tick()),
    lambda day: day.tell(seen.Leaving()),
)


def a_day(seed: int, steps: int = 60, **changes: Any) -> Day:
    day = Day(agent=an_agent(quotes={"yard": A_QUOTE}), draw=random.Random(seed), **changes)
    for _ in range(steps):
        day.anything()
    return day


MANY = pytest.param(6_000, marks=pytest.mark.slow, id="many")
FEW = pytest.param(120, id="few")


@pytest.mark.parametrize("count", [FEW, MANY])
def test_every_session_of_any_day_is_told_truthfully_and_once(count: int) -> None:
    ends = 0
    for seed in range(count):
        day = a_day(seed)
        for name in {fact.session for fact in day.told(facts.SessionAuthorised)}:
            story = facts_of(day, name)
            kinds = [type(fact) for fact in story]
            assert kinds[0] is facts.SessionAuthorised, seed
            for once in (facts.SessionAuthorised, facts.SessionStarted, facts.SessionEnded):
                assert kinds.count(once) <= 1, seed
            assert facts.SessionEnded not in kinds[:-1], seed
            ends += kinds[-1] is facts.SessionEnded
            assert_truthful(day, story, seed)
        assert {fact.session for fact in day.told(facts.SessionEnded)} <= {
            fact.session for fact in day.told(facts.SessionAuthorised)
        }
    assert ends > count


def assert_truthful(day: Day, story: list[Any], seed: int) -> None:
    readings = [fact.meter_wh for fact in story if isinstance(fact, facts.SessionStarted | facts.SessionMetered)]
    assert readings == sorted(readings), seed
    for fact in story:
        if isinstance(fact, facts.SessionMetered):
            assert fact.energy_wh >= 0, seed
        if isinstance(fact, facts.SessionEnded):
            assert fact.energy_wh >= 0, seed
            assert fact.duration_s >= 0, seed
            assert fact.started is any(isinstance(each, facts.SessionStarted) for each in story), seed
            assert fact.interrupted is any(isinstance(each, facts.SessionInterrupted) for each in story), seed
            assert fact.started or fact.energy_wh == 0, seed
            if fact.started and fact.meter_stop_wh is not None and fact.meter_start_wh is not None:
                assert fact.energy_wh == fact.meter_stop_wh - fact.meter_start_wh, seed


def days_under(law: Callable[[Day, State, Observation, Effects], None], count: int = 60) -> None:
    for seed in range(count):
        a_day(seed, laws=law)


def test_what_is_recorded_comes_before_whatever_the_outside_can_see() -> None:
    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        visible = [index for index, effect in enumerate(effects) if isinstance(effect, Signal | Reply | StartCharging)]
        records = [index for index, effect in enumerate(effects) if isinstance(effect, Record)]
        assert not visible or not records or max(records) < min(visible)
        told = any(isinstance(effect, Signal | Reply) for effect in effects)
        already_stopping = any(session.phase is Phase.STOPPING for session in before.open_sessions)
        assert not told or records or already_stopping
        for signal in of(Signal, effects):
            green = (facts.SessionAuthorised, facts.SessionStopRequested)
            if signal.feedback is Feedback.GRANTED and records:
                assert any(isinstance(fact, green) for fact in recorded(effects))

    days_under(law)


def test_charging_is_started_only_for_an_open_session_that_is_in_the_journal() -> None:
    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        for start in of(StartCharging, effects):
            session = day.agent.state.sessions[start.session]
            assert session.phase is Phase.AUTHORISED
            assert session.charger == start.charger
            assert any(fact.session == start.session for fact in day.told(facts.SessionAuthorised))

    days_under(law)


def test_only_a_tap_that_was_granted_authorises() -> None:
    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        for fact in recorded(effects):
            if isinstance(fact, facts.SessionAuthorised):
                assert isinstance(observation, seen.Sighted | seen.Tapped)
                (made,) = [each for each in recorded(effects) if isinstance(each, facts.DecisionMade)]
                assert (made.outcome, made.decision) == (facts.Outcome.GRANTED, fact.decision)
                assert fact.credential.is_identity

    days_under(law)


def test_a_charger_and_a_token_have_at_most_one_open_session() -> None:
    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        sessions = day.agent.state.open_sessions
        assert len({session.charger for session in sessions}) == len(sessions)
        assert len({session.credential.reference for session in sessions}) == len(sessions)

    days_under(law)


def test_the_journal_says_the_same_of_every_session_as_the_memory_does() -> None:
    """But for meter samples that were not worth a record yet: a kill loses those and nothing else."""

    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        for session in day.agent.state.sessions.values():
            told = fold(facts_of(day, session.id), the_quote)
            assert told is not None
            assert (session.meter_last_wh or 0) >= (told.meter_last_wh or 0)
            assert comparable(session) == comparable(told)

    def comparable(session: Session) -> Session:
        return replace(session, meter_last_wh=None, watched_ms=0, recorded_ms=None, power_w=None, metered_ms=None)

    days_under(law)


def test_the_same_state_observation_and_instant_give_the_same_effects_and_undoing_is_complete() -> None:
    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        after = day.agent.state
        again = Agent(day.agent.setup, before)
        assert again.handle(observation, day.now) == effects
        assert again.state == after
        again.state = before
        assert again.handle(observation, day.now) == effects
        assert again.state == after

    days_under(law)


def test_sessions_end_with_a_seal() -> None:
    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        ends = [fact for fact in recorded(effects) if isinstance(fact, facts.SessionEnded)]
        assert not ends or of(Seal, effects)

    days_under(law)


def test_every_wait_has_an_end() -> None:
    """Whatever happened: ten minutes after the chargers fell silent only sessions that charge are open."""
    for seed in range(100):
        day = a_day(seed)
        calm = Calm(agent=day.agent, now=day.now, journal=day.journal, wakes_at=day.wakes_at, draw=day.draw)
        calm.tell(seen.StorageChanged(full=False))
        for charger in CHARGERS:
            calm.loses(charger)
        for _ in range(60):
            calm.passes(seconds=10)
            if any(at_ms <= calm.now.monotonic_ms for at_ms in calm.wakes_at):
                calm.wakes_at = {at_ms for at_ms in calm.wakes_at if at_ms > calm.now.monotonic_ms}
                calm.tell(seen.Tick())

        assert {session.phase for session in calm.agent.state.open_sessions} <= {Phase.CHARGING}, seed


class Calm(Day):
    def tell(self, observation: Observation) -> Effects:
        effects = Yard.tell(self, observation)
        self.wakes_at |= {wake.monotonic_ms for wake in of(WakeAt, effects)}
        return effects


def test_a_silent_loop_of_ticks_asks_for_nothing_in_the_past() -> None:
    """A wake-up that is due at once again would be a busy loop."""

    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        if isinstance(observation, seen.Tick):
            assert all(wake.monotonic_ms > day.now.monotonic_ms for wake in of(WakeAt, effects))

    days_under(law)


def test_chargers_that_chatter_cannot_make_the_memory_grow() -> None:
    day = a_day(1, steps=1_500)
    state = day.agent.state

    assert len(state.sessions) <= 32 + len(CHARGERS)
    assert all(len(said) <= 16 for said in state.contradictions.values())
    assert set(state.presences) <= set(READERS)


def test_the_random_days_do_meet_what_they_are_meant_to_meet() -> None:
    met: set[str] = set()

    def law(day: Day, before: State, observation: Observation, effects: Effects) -> None:
        met.update(type(effect).__name__ for effect in effects)
        met.update(type(fact).__name__ for fact in recorded(effects))

    days_under(law)

    all_effects = (QueryCharger, Record, Reply, Seal, Signal, StartCharging, StopCharging, WakeAt)
    session_facts = {kind.__name__ for kind in (*facts.SessionFact.__args__, facts.SessionContradicted)}
    assert {kind.__name__ for kind in all_effects} | session_facts <= met


def test_time_flows_in_the_random_days() -> None:
    day = a_day(3)

    assert day.now.utc - Yard().now.utc > timedelta(minutes=30)
