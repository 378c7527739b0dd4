"""The machine: observations in, effects out. Pure and total: no clock, files or network; "no" is never an exception.

`Agent.state` is immutable. Whoever performs the effects may put the state of before back when the first of them, the
durable record, could not be made: then nothing has happened (agent/performer.py).
What events mean in each phase is sessions.py, what counts as a tap is presence.py, who may charge is decisions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeVar, assert_never

from agent.core import facts, observations, texts
from agent.core.credentials import RANDOM, Assurance, Credential
from agent.core.decisions import Decision, Granted, Limits, Refused, decide
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
from agent.core.facts import EndReason, Holder, Outcome, Trigger
from agent.core.instants import Instant, time_ordered_id
from agent.core.observations import Observation, Presented
from agent.core.policy import Policy, Token, TokenStatus
from agent.core.presence import Crowd, Presence, Tap, anonymous, look, reader_back
from agent.core.requests import Place, Request, Usage
from agent.core.rules import policy_age
from agent.core.sessions import TRANSITIONS, Event, Phase, Session, Step, ended, evolve, start
from agent.core.statuses import statuses_of

Effects = tuple[Effect, ...]
V = TypeVar("V")

REMEMBERED_ENDED_SESSIONS = 32  # late charger events about these are recognised as late
REMEMBERED_CONTRADICTIONS = 16  # for each charger; what it repeats of these is not recorded again
FAULT = "fault "  # such complaints are forgotten when the charger is well again
STRANGER = Presented(credential=RANDOM, token=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a phase may last before the machine looks again."""

    start_timeout_ms: int = 120_000
    stop_timeout_ms: int = 30_000
    resume_timeout_ms: int = 300_000
    meter_record_every_ms: int = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How this device is wired: which charger a reader stands for, where each charger is, whose vehicle this is."""

    version: str
    readers: Mapping[str, str]
    chargers: Mapping[str, Place]
    vehicle: str | None = None
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

    @property
    def open_sessions(self) -> tuple[Session, ...]:
        return tuple(session for session in self.sessions.values() if session.is_open)

    def open_at(self, charger: str | None) -> Session | None:
        return next((session for session in self.open_sessions if session.charger == charger), None)


class Agent:
    def __init__(self, setup: Setup, state: State | None = None) -> None:
        self.setup = setup
        self.state = state or State()

    def handle(self, seen: Observation, now: Instant) -> Effects:
        match seen:
            case observations.Sighted():
                return self._look(seen, now)
            case observations.Tapped():
                return self._tap(seen.reader, seen.presented, now, request=seen.request)
            case observations.DecisionRequested():
                return self._answer(seen, now)
            case observations.ReaderFound():
                self._note_reader(seen.reader, lost=False)
                self._expect_what_lay_on(seen.reader, now)
                found = facts.ReaderFound(
                    reader=seen.reader, model=seen.model, firmware=seen.firmware, findings=seen.findings
                )
                return (Record(facts=(found,)),)
            case observations.ReaderLost():
                if seen.reader in self.state.lost_readers:
                    return ()
                self._note_reader(seen.reader, lost=True)
                return (Record(facts=(facts.ReaderLost(reader=seen.reader, cause=seen.cause),)),)
            case observations.PluggedIn():
                return self._event(Event.PLUGGED_IN, seen.charger, None, None, None, now)
            case observations.Unplugged():
                return self._event(
                    Event.UNPLUGGED, seen.charger, None, None, None, now, reason=EndReason.EV_DISCONNECTED
                )
            case observations.ChargingStarted():
                return self._event(Event.STARTED, seen.charger, seen.session, seen.meter_wh, None, now)
            case observations.Metered():
                return self._event(Event.METERED, seen.charger, seen.session, seen.meter_wh, seen.power_w, now)
            case observations.ChargingStopped():
                return self._event(
                    Event.STOPPED, seen.charger, seen.session, seen.meter_wh, None, now, reason=end_reason(seen.reason)
                )
            case observations.Faulted():
                if not self._is_news(seen.charger, f"{FAULT}{seen.code}"):
                    return ()
                return (Record(facts=(facts.ChargerFaulted(charger=seen.charger, code=seen.code),)),)
            case observations.ChargerFound():
                return self._charger_found(seen, now)
            case observations.ChargerLost():
                if seen.charger not in self.state.reachable:
                    return ()
                self._change(reachable=self.state.reachable - {seen.charger})
                session = self.state.open_at(seen.charger)
                deadline = self._deadline(session) if session is not None else ()
                return (Record(facts=(facts.ChargerLost(charger=seen.charger, cause=seen.cause),)), *deadline)
            case observations.PolicyActivated():
                return self._activate(seen)
            case observations.Noted():
                return (Record(facts=(seen.fact,)),)
            case observations.ClockStepped():
                return (Record(facts=(facts.ClockStepped(step_ms=seen.step_ms, quality=seen.quality),)),)
            case observations.StorageChanged():
                self._change(storage_full=seen.full)
                if seen.full:
                    return ()
                # A time-out that could not be recorded was undone as a whole: it comes again now.
                return tuple(wake for session in self.state.open_sessions for wake in self._deadline(session))
            case observations.Woken():
                return self._wake(seen, now)
            case observations.Leaving():
                stopped = facts.AgentStopped(open_sessions=len(self.state.open_sessions))
                return (Record(facts=(stopped,)), Seal())
            case observations.Tick():
                return self._tick(now)
            case _:
                assert_never(seen)

    # Taps and decisions

    def _look(self, seen: observations.Sighted, now: Instant) -> Effects:
        before = self.state.presences.get(seen.reader, Presence())
        cards = [presented.credential for presented in seen.presented]
        after, outcome = look(before, cards, seen.monotonic_ms)
        self._change(presences=with_item(self.state.presences, seen.reader, after))
        waited_ms = max(0, now.monotonic_ms - seen.monotonic_ms)
        match outcome:
            case Tap():
                return self._tap(seen.reader, seen.presented[0], now, waited_ms=waited_ms)  # one card, if twice
            case Crowd():
                return self._tap(seen.reader, STRANGER, now, waited_ms=waited_ms, crowded=True)
            case None:
                return ()
            case _:
                assert_never(outcome)

    def _tap(
        self,
        reader: str,
        presented: Presented,
        now: Instant,
        *,
        waited_ms: int = 0,
        crowded: bool = False,
        request: str | None = None,
    ) -> Effects:
        """Stop what this card began here, else decide whether it may begin."""
        presented = recognised(presented)
        charger = self.setup.readers.get(reader)
        active = self.state.open_at(charger) if charger is not None else None
        if active is not None and may_stop(active, presented):
            return self._stop_by_card(active, presented, reader, now, request)
        place = self.setup.chargers.get(charger, Place()) if charger is not None else Place()
        asked = self._request(presented, reader, charger, place, crowded)
        decision = decide(asked, self.state.policy, self._usage(asked), now)
        made = self._made(asked, decision, Trigger.TAP, waited_ms, now)
        reply = (Reply(request=request, decision_id=made.decision, decision=decision, session=None),) if request else ()
        match decision:
            case Granted() if charger is not None:
                return self._authorise(made, decision, reader, charger, now, request)
            case _:
                return (
                    Record(facts=(made,)),
                    Signal(reader=reader, feedback=Feedback.REFUSED, text=made.text),
                    *reply,
                )

    def _authorise(
        self, made: facts.DecisionMade, granted: Granted, reader: str, charger: str, now: Instant, request: str | None
    ) -> Effects:
        authorised = facts.SessionAuthorised(
            session=time_ordered_id(now, 1),
            decision=made.decision,
            credential=made.credential,
            holder=made.holder,
            place=made.place,
            reader=reader,
            charger=charger,
            max_energy_wh=granted.limits.max_energy_wh,
            authorised_at=now.utc,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
        )
        session = start(authorised)
        self._keep(session)
        reply = (
            Reply(request=request, decision_id=made.decision, decision=granted, session=session.id) if request else None
        )
        return (
            Record(facts=(made, authorised)),
            Signal(reader=reader, feedback=Feedback.GRANTED, text=made.text),
            *((reply,) if reply else ()),
            StartCharging(charger=charger, session=session.id, max_energy_wh=session.max_energy_wh),
            WakeAt(monotonic_ms=now.monotonic_ms + self.setup.timing.start_timeout_ms),
        )

    def _stop_by_card(
        self, session: Session, presented: Presented, reader: str, now: Instant, request: str | None
    ) -> Effects:
        language = self._language(presented.token)
        signal = Signal(reader=reader, feedback=Feedback.GRANTED, text=texts.say(texts.STOPPING, language))
        reply = (
            Reply(request=request, decision_id=session.decision, decision=Granted(limits=Limits()), session=session.id)
            if request
            else None
        )
        answers = (signal, *((reply,) if reply else ()))
        if session.phase is Phase.STOPPING:
            return (*answers, StopCharging(charger=session.charger, session=session.id))
        return self._stop(session, EndReason.LOCAL, presented.credential, now, answers)

    def _stop(
        self, session: Session, reason: EndReason, by: Credential | None, now: Instant, answers: Effects = ()
    ) -> Effects:
        fact = facts.SessionStopRequested(session=session.id, reason=reason, by=by)
        self._keep(replace(evolve(session, fact), watched_ms=now.monotonic_ms))
        return (
            Record(facts=(fact,)),
            *answers,
            StopCharging(charger=session.charger, session=session.id),
            *self._deadline(self.state.sessions[session.id]),
        )

    def _answer(self, seen: observations.DecisionRequested, now: Instant) -> Effects:
        place = self.setup.chargers.get(seen.charger) if seen.charger is not None else None
        asked = self._request(recognised(seen.presented), None, seen.charger, place or seen.place, False)
        decision = decide(asked, self.state.policy, self._usage(asked), now)
        made = self._made(asked, decision, Trigger.REQUEST, 0, now)
        return (
            Record(facts=(made,)),
            Reply(request=seen.request, decision_id=made.decision, decision=decision, session=None),
        )

    def _request(
        self, presented: Presented, reader: str | None, charger: str | None, place: Place, crowded: bool
    ) -> Request:
        token = presented.token
        vehicle = token.vehicle if token is not None and token.vehicle is not None else self.setup.vehicle
        return Request(
            credential=presented.credential,
            token=token,
            lookup_failed=presented.lookup_failed,
            reader=reader,
            charger=charger,
            place=place,
            vehicle=vehicle,
            crowded=crowded,
        )

    def _usage(self, asked: Request) -> Usage:
        at_charger = self.state.open_at(asked.charger) if asked.charger is not None else None
        wired = asked.charger in self.setup.chargers
        return Usage(
            sessions_of_token=tuple(
                each.id
                for each in self.state.open_sessions
                if asked.credential.is_identity and each.credential.reference == asked.credential.reference
            ),
            sessions_of_vehicle=tuple(
                each.id
                for each in self.state.open_sessions
                if asked.vehicle is not None and each.holder.vehicle == asked.vehicle
            ),
            session_at_charger=at_charger.id if at_charger is not None else None,
            charger_reachable=(asked.charger in self.state.reachable) if wired or asked.reader is not None else True,
            storage_full=self.state.storage_full,
        )

    def _made(
        self, asked: Request, decision: Decision, trigger: Trigger, waited_ms: int, now: Instant
    ) -> facts.DecisionMade:
        reasons = decision.reasons if isinstance(decision, Refused) else ()
        statuses = statuses_of(reasons)
        language = self._language(asked.token)
        decision_id = time_ordered_id(now, 0)
        policy = self.state.policy
        return facts.DecisionMade(
            decision=decision_id,
            trigger=trigger,
            outcome=Outcome.REFUSED if reasons else Outcome.GRANTED,
            credential=asked.credential,
            holder=self._holder(asked),
            place=asked.place,
            reader=asked.reader,
            charger=asked.charger,
            reasons=reasons,
            warnings=decision.warnings,
            max_energy_wh=decision.limits.max_energy_wh if isinstance(decision, Granted) else None,
            policy=None
            if policy is None
            else facts.PolicyStamp(
                revision=policy.revision,
                fingerprint=policy.fingerprint,
                age_s=int(policy_age(policy, now).total_seconds()),
            ),
            clock=now.quality,
            text=texts.refusal_text(reasons, language) if reasons else texts.say(texts.GRANTED, language),
            support=decision_id[-8:].upper(),
            waited_ms=waited_ms,
            ocpi=statuses.ocpi,
            ocpp16=statuses.ocpp16,
            ocpp201=statuses.ocpp201,
            oicp=statuses.oicp,
        )

    def _holder(self, asked: Request) -> Holder:
        token, policy = asked.token, self.state.policy
        if token is None:
            return Holder(vehicle=asked.vehicle)
        driver = policy.drivers.get(token.driver) if policy is not None and token.driver is not None else None
        vehicle = policy.vehicles.get(asked.vehicle) if policy is not None and asked.vehicle is not None else None
        return Holder(
            label=token.label,
            group=token.group,
            parent=token.parent,
            driver=token.driver,
            vehicle=asked.vehicle,
            cost_centre=(driver.cost_centre if driver else None) or (vehicle.cost_centre if vehicle else None),
        )

    def _language(self, token: Token | None) -> str:
        policy = self.state.policy
        if token is None or token.driver is None or policy is None or token.driver not in policy.drivers:
            return texts.DEFAULT_LANGUAGE
        return policy.drivers[token.driver].language

    # Chargers and sessions

    def _charger_found(self, seen: observations.ChargerFound, now: Instant) -> Effects:
        known = seen.charger in self.state.reachable
        self._change(reachable=self.state.reachable | {seen.charger})
        self._forget(seen.charger, FAULT if known else "")
        found = Record(facts=(facts.ChargerFound(charger=seen.charger, state=seen.state),))
        said = () if known else (found,)
        session = self.state.open_at(seen.charger)
        other = seen.session is not None and (session is None or seen.session != session.id)
        if other and seen.charging:
            first = self._event(Event.FOUND_OTHER, seen.charger, session.id, None, None, now) if session else ()
            return (
                *said,
                *first,
                *self._event(Event.FOUND_CHARGING, seen.charger, seen.session, seen.meter_wh, None, now),
            )
        if seen.charging:
            event = Event.FOUND_CHARGING
        elif session is not None and seen.session == session.id:
            event = Event.FOUND_WAITING
        else:
            event = Event.FOUND_IDLE
        return (*said, *self._event(event, seen.charger, session.id if session else None, seen.meter_wh, None, now))

    def _event(
        self,
        event: Event,
        charger: str,
        session_id: str | None,
        meter_wh: int | None,
        power_w: int | None,
        now: Instant,
        reason: EndReason | None = None,
    ) -> Effects:
        session = self.state.open_at(charger) if session_id is None else self.state.sessions.get(session_id)
        anonymous_idle = event is Event.METERED and session_id is None and not power_w
        if anonymous_idle and (session is None or session.meter_start_wh is None):
            return ()  # a meter that is read while nothing flows
        if session is None or session.charger != charger:
            return self._unknown(event, charger, session_id, meter_wh)
        step = TRANSITIONS[session.phase][event]
        match step:
            case Step.IGNORE:
                return ()
            case Step.BEGIN:
                return self._begin(session, meter_wh, now)
            case Step.METER:
                return self._meter(session, event, meter_wh, power_w, now)
            case Step.RESUME:
                return self._resume(session, event, meter_wh, now)
            case Step.FINISH:
                return self._finish(session, reason, meter_wh, meter_wh is not None, now)
            case Step.FINISH_INCOMPLETE if event is Event.FOUND_IDLE and self._may_start_again(session, now):
                return self._start_again(session, now)
            case Step.FINISH_INCOMPLETE:
                return self._finish(session, reason or EndReason.POWER_LOSS, meter_wh, False, now)
            case Step.WITHDRAW:
                return self._withdraw(session, reason, now)
            case Step.START_AGAIN:
                return self._start_again(session, now)
            case Step.STOP_AGAIN:
                return self._stop_again(session, event, meter_wh, now)
            case Step.CONTRADICT:
                return self._contradict(session, event, charger, meter_wh)
            case Step.CONTRADICT_AND_STOP:
                return (
                    *self._contradict(session, event, charger, meter_wh),
                    StopCharging(charger=charger, session=session.id),
                )
            case Step.CONTRADICT_AND_FINISH:
                return (
                    *self._contradict(session, event, charger, meter_wh),
                    *self._finish(session, EndReason.POWER_LOSS, None, False, now),
                )
            case _:
                assert_never(step)

    def _begin(self, session: Session, meter_wh: int | None, now: Instant) -> Effects:
        """From the first known reading on. An unknown one is not zero: the register counts since it was made."""
        if meter_wh is None:
            return ()
        started = facts.SessionStarted(
            session=session.id, meter_wh=meter_wh, started_at=now.utc, boot=now.boot, monotonic_ms=now.monotonic_ms
        )
        self._forget(session.charger, FAULT)
        self._keep(replace(evolve(session, started), recorded_ms=now.monotonic_ms))
        return (Record(facts=(started,)),)

    def _meter(
        self, session: Session, event: Event, meter_wh: int | None, power_w: int | None, now: Instant
    ) -> Effects:
        if meter_wh is None:
            return ()
        if session.meter_start_wh is None:
            return self._begin(session, meter_wh, now)
        if runs_backwards(session, meter_wh):
            return self._contradict(session, event, session.charger, meter_wh)
        metered = replace(session, meter_last_wh=meter_wh)
        due = session.recorded_ms is None or (
            now.monotonic_ms - session.recorded_ms >= self.setup.timing.meter_record_every_ms
        )
        self._keep(replace(metered, recorded_ms=now.monotonic_ms) if due else metered)
        sample = facts.SessionMetered(
            session=session.id, meter_wh=meter_wh, energy_wh=metered.energy_wh, power_w=power_w
        )
        kept: Effects = (Record(facts=(sample,), urgent=False),) if due else ()
        return (*kept, *self._stop_at_cap(session.id, now))

    def _stop_at_cap(self, session_id: str, now: Instant) -> Effects:
        session = self.state.sessions[session_id]
        cap = session.max_energy_wh
        if session.phase is not Phase.CHARGING or cap is None or session.energy_wh < cap:
            return ()
        return self._stop(session, EndReason.ENERGY_LIMIT, None, now)

    def _resume(self, session: Session, event: Event, meter_wh: int | None, now: Instant) -> Effects:
        """The charger still has our session: go on where it stands. Energy of the gap is in the meter's difference."""
        contradicted: Effects = ()
        if event is Event.STARTED and session.meter_start_wh is not None:
            meter_wh = None  # a start repeats the reading at the start
        if meter_wh is not None and runs_backwards(session, meter_wh):
            contradicted = self._contradict(session, event, session.charger, meter_wh)
            meter_wh = None
        resumed = facts.SessionResumed(session=session.id, meter_wh=meter_wh)
        session = replace(evolve(session, resumed), watched_ms=now.monotonic_ms, recorded_ms=now.monotonic_ms)
        self._keep(session)
        effects: Effects = (*contradicted, Record(facts=(resumed,)))
        if session.meter_start_wh is None and event is not Event.FOUND_WAITING:
            effects = (*effects, *self._begin(session, meter_wh, now))
        if session.phase is Phase.STOPPING:
            effects = (*effects, StopCharging(charger=session.charger, session=session.id))
        capped = self._stop_at_cap(session.id, now)
        return (*effects, *(capped or self._deadline(self.state.sessions[session.id])))

    def _stop_again(self, session: Session, event: Event, meter_wh: int | None, now: Instant) -> Effects:
        """Until it stops. One that never began is withdrawn; one whose charger stays away ends with what is known."""
        if session.meter_start_wh is None and event not in (Event.STARTED, Event.FOUND_CHARGING):
            return self._withdraw(session, None, now)
        if event is Event.TIME_OUT and session.charger not in self.state.reachable:
            return self._finish(session, None, None, False, now)
        # A start told again repeats the reading at the start; it is no sample.
        said = (
            ()
            if event is Event.STARTED and session.meter_start_wh is not None
            else self._meter(session, event, meter_wh, None, now)
        )
        session = replace(self.state.sessions[session.id], watched_ms=now.monotonic_ms)
        self._keep(session)
        return (*said, StopCharging(charger=session.charger, session=session.id), *self._deadline(session))

    def _may_start_again(self, session: Session, now: Instant) -> bool:
        """Cut off between the green light and the start: the driver still waits, if it was only just."""
        return (
            session.meter_start_wh is None
            and session.stop_reason is None
            and session.boot == now.boot
            and now.monotonic_ms - session.authorised_ms < self.setup.timing.start_timeout_ms
        )

    def _start_again(self, session: Session, now: Instant) -> Effects:
        """Ask again, never for longer than was granted: else a stranger could plug in an hour later."""
        ask = StartCharging(charger=session.charger, session=session.id, max_energy_wh=session.max_energy_wh)
        if session.phase is Phase.AUTHORISED:
            return (ask,)
        resumed = facts.SessionResumed(session=session.id, meter_wh=None)
        session = replace(evolve(session, resumed), watched_ms=session.authorised_ms)
        self._keep(session)
        return (Record(facts=(resumed,)), ask, *self._deadline(session))

    def _finish(
        self, session: Session, reason: EndReason | None, meter_wh: int | None, complete: bool, now: Instant
    ) -> Effects:
        """What stopped it first counts: a stop asked for here outranks the charger's echo of it."""
        why = session.stop_reason or reason or EndReason.FAULT
        if meter_wh is not None and runs_backwards(session, meter_wh):
            contradicted = self._contradict(session, Event.STOPPED, session.charger, meter_wh)
            meter_wh, complete = None, False
        else:
            contradicted = ()
        fact = ended(session, reason=why, meter_wh=meter_wh, complete=complete, now=now)
        self._keep(evolve(session, fact))
        return (*contradicted, Record(facts=(fact,)), Seal())

    def _withdraw(self, session: Session, reason: EndReason | None, now: Instant) -> Effects:
        """Authorised but never started: ended with nothing charged, and the charger told so."""
        why = session.stop_reason or reason or EndReason.TIMEOUT
        fact = ended(session, reason=why, meter_wh=None, complete=True, now=now)
        self._keep(evolve(session, fact))
        return (Record(facts=(fact,)), Seal(), StopCharging(charger=session.charger, session=session.id))

    def _unknown(self, event: Event, charger: str, session_id: str | None, meter_wh: int | None) -> Effects:
        """The charger speaks of a session that is not ours: charging without authorisation is stopped and told."""
        if event not in (Event.STARTED, Event.METERED, Event.FOUND_CHARGING):
            return ()
        told = self._tell(charger, f"{session_id}/{event}", None, event, "none", meter_wh)
        if session_id is None or not (told or event is Event.FOUND_CHARGING):
            return told
        ours = (QueryCharger(charger=charger),) if self.state.open_at(charger) is not None else ()
        return (*told, StopCharging(charger=charger, session=session_id), *(ours if told else ()))

    def _contradict(self, session: Session, event: Event, charger: str, meter_wh: int | None) -> Effects:
        return self._tell(charger, f"{session.id}/{event}/{session.phase}", session.id, event, session.phase, meter_wh)

    def _tell(
        self, charger: str, key: str, session: str | None, event: Event, phase: str, meter_wh: int | None
    ) -> Effects:
        if not self._is_news(charger, key):
            return ()
        fact = facts.SessionContradicted(session=session, charger=charger, event=event, phase=phase, meter_wh=meter_wh)
        return (Record(facts=(fact,)),)

    def _is_news(self, charger: str, key: str) -> bool:
        """Once for each kind of complaint: a charger that repeats itself cannot fill the journal."""
        said = self.state.contradictions.get(charger, ())
        if key in said:
            return False
        kept = (*said, key)[-REMEMBERED_CONTRADICTIONS:]
        self._change(contradictions=with_item(self.state.contradictions, charger, kept))
        return True

    def _forget(self, charger: str, prefix: str) -> None:
        said = self.state.contradictions.get(charger, ())
        kept = tuple(key for key in said if not key.startswith(prefix))
        if kept != said:
            self._change(contradictions=with_item(self.state.contradictions, charger, kept))

    # The service's own life

    def _activate(self, seen: observations.PolicyActivated) -> Effects:
        previous = self.state.policy
        self._change(policy=seen.policy)
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
        policy = self.state.policy
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
        for session in left:
            cut = facts.SessionInterrupted(session=session.id, last_meter_wh=session.meter_last_wh)
            if session.phase is not Phase.INTERRUPTED:
                told.append(cut)
            session = replace(evolve(session, cut), watched_ms=now.monotonic_ms)
            self._keep(session)
            effects += [QueryCharger(charger=session.charger), *self._deadline(session)]
        return (Record(facts=tuple(told)), *effects)

    def _tick(self, now: Instant) -> Effects:
        effects: Effects = ()
        for session in self.state.open_sessions:
            due = self._due_ms(session)
            if due is not None and now.monotonic_ms >= due:
                effects += self._event(Event.TIME_OUT, session.charger, session.id, None, None, now)
        return effects

    def _due_ms(self, session: Session) -> int | None:
        timing = self.setup.timing
        heard = session.charger in self.state.reachable
        lasting = {
            Phase.AUTHORISED: timing.start_timeout_ms,
            Phase.STOPPING: timing.stop_timeout_ms if heard else timing.resume_timeout_ms,
            Phase.INTERRUPTED: timing.resume_timeout_ms,
        }.get(session.phase)
        return None if lasting is None else session.watched_ms + lasting

    def _deadline(self, session: Session) -> Effects:
        due = self._due_ms(session)
        return () if due is None else (WakeAt(monotonic_ms=due),)

    # State

    def _change(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def _keep(self, session: Session) -> None:
        sessions = dict(self.state.sessions)
        sessions[session.id] = session
        over = [each.id for each in sessions.values() if not each.is_open][:-REMEMBERED_ENDED_SESSIONS]
        for forgotten in over:
            del sessions[forgotten]
        self._change(sessions=MappingProxyType(sessions))

    def _expect_what_lay_on(self, reader: str, now: Instant) -> None:
        presence = self.state.presences.get(reader)
        if presence is not None:
            back = reader_back(presence, now.monotonic_ms)
            self._change(presences=with_item(self.state.presences, reader, back))

    def _note_reader(self, reader: str, *, lost: bool) -> None:
        others = self.state.lost_readers - {reader}
        self._change(lost_readers=others | {reader} if lost else others)


def recognised(presented: Presented) -> Presented:
    """A random UID names nobody: neither its number nor what the table says of that number is kept."""
    if anonymous(presented.credential) == RANDOM:
        return replace(presented, credential=RANDOM, token=None)
    return presented


def may_stop(session: Session, presented: Presented) -> bool:
    """The card that began it, even if it was blocked since, or an active one of the same parent group.

    OCPI: a token's group_id, compared without case.
    """
    if presented.credential.assurance is Assurance.RANDOM or not presented.credential.is_identity:
        return False
    if presented.credential.reference == session.credential.reference:
        return True
    token = presented.token
    if token is None or token.status is not TokenStatus.ACTIVE or not token.parent or not session.holder.parent:
        return False
    return token.parent.lower() == session.holder.parent.lower()


def runs_backwards(session: Session, meter_wh: int) -> bool:
    return session.meter_last_wh is not None and meter_wh < session.meter_last_wh


def end_reason(text: str) -> EndReason:
    """The charger's word for why it stopped; what we do not know is `Other`, as in OCPP."""
    return next((reason for reason in EndReason if reason.value.lower() == text.lower()), EndReason.FAULT)


def with_item(mapping: Mapping[str, V], key: str, value: V) -> Mapping[str, V]:
    return MappingProxyType({**mapping, key: value})
