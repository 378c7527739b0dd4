"""The machine: observations in, effects out. Pure and total: no clock, files or network; "no" is never an exception.

`Agent.state` is immutable. Whoever performs the effects may put the state of before back when the first of them, the
durable record, could not be made: then nothing has happened (agent/service.py). Taps are tapping.py, what chargers
say charging.py; what that means in each phase is sessions.py, what counts as a tap presence.py, who may charge
decisions.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from agent.core import facts, observations
from agent.core.answers import Silence
from agent.core.budgeting import Budgeting
from agent.core.charging import Charging, end_reason
from agent.core.effects import (
    Effect,
    QueryCharger,
    Record,
    Seal,
)
from agent.core.facts import EndReason
from agent.core.instants import Instant
from agent.core.memory import FAULT, Effects, Memory, Setup, State, with_item
from agent.core.observations import Observation
from agent.core.sessions import Event, Phase, evolve
from agent.core.tapping import Tapping


class Agent:
    def __init__(self, setup: Setup, state: State | None = None) -> None:
        self._memory = Memory(setup, state or State())
        self._budgets = Budgeting(self._memory)
        self._charging = Charging(self._memory, self._budgets)
        self._taps = Tapping(self._memory, self._charging, self._budgets)

    @property
    def setup(self) -> Setup:
        return self._memory.setup

    @property
    def state(self) -> State:
        return self._memory.state

    @state.setter
    def state(self, state: State) -> None:
        self._memory.state = state

    def handle(self, seen: Observation, now: Instant) -> Effects:
        return (*self._handle(seen, now), *self._budgets.look(now))

    def _handle(self, seen: Observation, now: Instant) -> Effects:
        match seen:
            case observations.Sighted():
                return self._taps.look(seen, now)
            case observations.Tapped():
                return self._taps.tap(seen.reader, seen.presented, now, request=seen.request, told=seen.told)
            case observations.DecisionRequested():
                return self._taps.answer(seen, now)
            case observations.ContractReleased():
                return self._taps.released(seen, now)
            case observations.ReaderFound():
                self._note_reader(seen.reader, lost=False)
                self._taps.reader_is_back(seen.reader, now)
                found = facts.ReaderFound(
                    reader=seen.reader, model=seen.model, firmware=seen.firmware, findings=seen.findings
                )
                return (Record(facts=(found,)),)
            case observations.ReaderLost():
                if seen.reader in self._memory.state.lost_readers:
                    return ()
                self._note_reader(seen.reader, lost=True)
                return (Record(facts=(facts.ReaderLost(reader=seen.reader, cause=seen.cause),)),)
            case observations.Positioned():
                self._memory.change(fixes=with_item(self._memory.state.fixes, seen.fix.source, seen.fix))
                return ()
            case observations.PluggedIn():
                if seen.evse is not None:
                    self._memory.link(seen.charger, seen.evse)
                return self._charging.happened(Event.PLUGGED_IN, seen.charger, None, None, None, now)
            case observations.Unplugged():
                self._memory.link(seen.charger, None)
                return self._charging.happened(
                    Event.UNPLUGGED, seen.charger, None, None, None, now, reason=EndReason.EV_DISCONNECTED
                )
            case observations.ChargingStarted():
                return self._charging.happened(Event.STARTED, seen.charger, seen.session, seen.meter_wh, None, now)
            case observations.Metered():
                return self._charging.happened(
                    Event.METERED,
                    seen.charger,
                    seen.session,
                    seen.meter_wh,
                    seen.power_w,
                    now,
                    soc_percent=seen.soc_percent,
                )
            case observations.MeterSigned():
                return self._charging.signed(seen)
            case observations.ChargingStopped():
                return self._charging.happened(
                    Event.STOPPED, seen.charger, seen.session, seen.meter_wh, None, now, reason=end_reason(seen.reason)
                )
            case observations.Faulted():
                if not self._memory.is_news(seen.charger, f"{FAULT}{seen.code}"):
                    return ()
                return (Record(facts=(facts.ChargerFaulted(charger=seen.charger, code=seen.code),)),)
            case observations.ChargerFound():
                if seen.evse is not None:
                    self._memory.link(seen.charger, seen.evse)
                return self._charging.found(seen, now)
            case observations.ChargerLost():
                self._memory.link(seen.charger, None)
                if seen.charger not in self._memory.state.reachable:
                    return ()
                self._memory.change(reachable=self._memory.state.reachable - {seen.charger})
                session = self._memory.state.open_at(seen.charger)
                deadline = self._memory.deadline(session) if session is not None else ()
                return (Record(facts=(facts.ChargerLost(charger=seen.charger, cause=seen.cause),)), *deadline)
            case observations.PolicyActivated():
                return self._activate(seen)
            case observations.Noted():
                if isinstance(seen.fact, facts.ClockSynchronised):
                    self._memory.change(history=self._memory.state.history.with_time_known(now))
                return (Record(facts=(seen.fact,)),)
            case observations.ClockStepped():
                return (Record(facts=(facts.ClockStepped(step_ms=seen.step_ms, quality=seen.quality),)),)
            case observations.StorageChanged():
                self._memory.change(storage_full=seen.full)
                if seen.full:
                    self._memory.change(pending={})  # whoever waits is told by service.py: nothing was decided
                    return ()
                # A time-out that could not be recorded was undone as a whole: it comes again now.
                return tuple(
                    wake
                    for session in self._memory.state.open_sessions
                    for wake in (*self._memory.deadline(session), *self._charging.held(session, now))
                )
            case observations.Woken():
                return self._wake(seen, now)
            case observations.GrantReceived():
                return self._budgets.granted(seen, now)
            case observations.JournalChanged():
                return self._budgets.began_anew(seen)
            case observations.Leaving():
                stopped = facts.AgentStopped(open_sessions=len(self._memory.state.open_sessions))
                return (Record(facts=(stopped,)), Seal())
            case observations.BackendAnswered():
                return self._taps.answered(seen, now)
            case observations.LinkChanged():
                self._memory.change(link_up=seen.up)
                return () if seen.up else self._taps.unanswered(Silence.OFFLINE, now, all_of_them=True)
            case observations.OverrideOffered():
                return self._taps.offered(seen, now)
            case observations.Tick():
                return (*self._taps.unanswered(Silence.DEADLINE, now, all_of_them=False), *self._tick(now))
            case _:
                assert_never(seen)

    def _activate(self, seen: observations.PolicyActivated) -> Effects:
        previous = self._memory.state.policy
        self._memory.change(policy=seen.policy)
        if not seen.announce:
            return ()
        fact = facts.PolicyActivated(
            revision=seen.policy.revision,
            fingerprint=seen.policy.fingerprint,
            previous_revision=previous.revision if previous is not None else None,
            tokens=seen.tokens,
        )
        return (Record(facts=(fact,)),)

    def _wake(self, seen: observations.Woken, now: Instant) -> Effects:
        """Sessions open in the journal are interrupted until their charger says what became of them."""
        self._memory.change(history=seen.history, holdings=seen.holdings)
        policy = self._memory.state.policy
        left = tuple(session for session in seen.sessions if session.is_open)
        told: list[facts.Fact] = [
            facts.AgentStarted(
                version=seen.version,
                boot=now.boot,
                open_sessions=len(left),
                policy_revision=policy.revision if policy is not None else None,
            )
        ]
        effects: list[Effect] = []
        for session in seen.sessions:
            if not session.is_open:
                self._memory.keep(session)
        for session in left:
            cut = facts.SessionInterrupted(session=session.id, last_meter_wh=session.meter_last_wh)
            if session.phase is not Phase.INTERRUPTED:
                told.append(cut)
            session = replace(evolve(session, cut), watched_ms=now.monotonic_ms)
            self._memory.keep(session)
            effects += [QueryCharger(charger=session.charger), *self._memory.deadline(session)]
        return (Record(facts=tuple(told)), *effects)

    def _tick(self, now: Instant) -> Effects:
        effects: Effects = ()
        for session in self._memory.state.open_sessions:
            effects += self._charging.held(session, now)
            due = self._memory.due_ms(session)
            if due is not None and now.monotonic_ms >= due:
                effects += self._charging.happened(Event.TIME_OUT, session.charger, session.id, None, None, now)
        return effects

    def _note_reader(self, reader: str, *, lost: bool) -> None:
        others = self._memory.state.lost_readers - {reader}
        self._memory.change(lost_readers=others | {reader} if lost else others)
