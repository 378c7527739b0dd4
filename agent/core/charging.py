"""What chargers say, and what follows for their sessions: one method a step of the table in sessions.py."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from agent.core import facts, observations
from agent.core.budgeting import Budgeting
from agent.core.credentials import Credential
from agent.core.effects import (
    QueryCharger,
    Record,
    Seal,
    StartCharging,
    StopCharging,
    WakeAt,
)
from agent.core.facts import EndReason
from agent.core.history import Visit
from agent.core.instants import Instant
from agent.core.limits import near_its_cost, progress_of, reached, remaining_ms
from agent.core.memory import FAULT, Effects, Memory
from agent.core.sessions import (
    TRANSITIONS,
    Event,
    Phase,
    Session,
    Step,
    cost_so_far,
    duration,
    ended,
    evolve,
    tallied,
)

PART_CHARS = 16 * 1024  # of a signed meter record, in one record of ours: a batch takes 64 KiB
SIGNED_AT_MOST = 32  # signed meter records of one session: begin, end and some between
RECORDS_NEAR_LIMIT = 12  # times as many meter samples are recorded where a cost limit is near


class Charging:
    def __init__(self, memory: Memory, budgets: Budgeting) -> None:
        self._memory = memory
        self._budgets = budgets

    def found(self, seen: observations.ChargerFound, now: Instant) -> Effects:
        known = seen.charger in self._memory.state.reachable
        self._memory.change(reachable=self._memory.state.reachable | {seen.charger})
        self._memory.forget(seen.charger, FAULT if known else "")
        found = Record(facts=(facts.ChargerFound(charger=seen.charger, state=seen.state),))
        said = () if known else (found,)
        session = self._memory.state.open_at(seen.charger)
        other = seen.session is not None and (session is None or seen.session != session.id)
        if other and seen.charging:
            first = self.happened(Event.FOUND_OTHER, seen.charger, session.id, None, None, now) if session else ()
            return (
                *said,
                *first,
                *self.happened(Event.FOUND_CHARGING, seen.charger, seen.session, seen.meter_wh, None, now),
            )
        if seen.charging:
            event = Event.FOUND_CHARGING
        elif session is not None and seen.session == session.id:
            event = Event.FOUND_WAITING
        else:
            event = Event.FOUND_IDLE
        return (*said, *self.happened(event, seen.charger, session.id if session else None, seen.meter_wh, None, now))

    def happened(
        self,
        event: Event,
        charger: str,
        session_id: str | None,
        meter_wh: int | None,
        power_w: int | None,
        now: Instant,
        reason: EndReason | None = None,
        soc_percent: int | None = None,
    ) -> Effects:
        session = (
            self._memory.state.open_at(charger) if session_id is None else self._memory.state.sessions.get(session_id)
        )
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
                return self._meter(session, event, meter_wh, power_w, now, soc_percent)
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
            session=session.id,
            meter_wh=meter_wh,
            started_at=now.utc,
            boot=now.boot,
            monotonic_ms=now.monotonic_ms,
            clock=now.quality,
        )
        self._memory.forget(session.charger, FAULT)
        begun = replace(evolve(session, started), recorded_ms=now.monotonic_ms, metered_ms=now.monotonic_ms)
        self._memory.keep(begun)
        return (Record(facts=(started,)), *self.held(begun, now))

    def _meter(
        self,
        session: Session,
        event: Event,
        meter_wh: int | None,
        power_w: int | None,
        now: Instant,
        soc_percent: int | None = None,
    ) -> Effects:
        if meter_wh is None:
            return ()
        if session.meter_start_wh is None:
            return self._begin(session, meter_wh, now)
        if runs_backwards(session, meter_wh):
            return self._contradict(session, event, session.charger, meter_wh)
        metered = replace(session, meter_last_wh=meter_wh, power_w=power_w, metered_ms=now.monotonic_ms)
        every_ms = self._memory.setup.timing.meter_record_every_ms
        duration_ms = duration(metered, now)[0]
        if near_its_cost(metered, now, duration_ms, every_ms):
            every_ms //= RECORDS_NEAR_LIMIT  # what is recorded is counted exactly, what is not at the highest price
        due = session.recorded_ms is None or now.monotonic_ms - session.recorded_ms >= every_ms
        sample = facts.SessionMetered(
            session=session.id,
            meter_wh=meter_wh,
            energy_wh=metered.energy_wh,
            power_w=power_w,
            duration_ms=duration_ms,
            cost=cost_so_far(metered, duration_ms, power_w) if due else None,
        )
        if due:
            metered = replace(tallied(metered, duration_ms, power_w), recorded_ms=now.monotonic_ms)
        self._memory.keep(metered)
        kept: Effects = (Record(facts=(sample,), urgent=False),) if due else ()
        target = session.target_soc_percent
        if metered.phase is Phase.CHARGING and target is not None and soc_percent is not None and soc_percent >= target:
            return (*kept, *self.stop(metered, EndReason.SOC_LIMIT, None, now))
        return (*kept, *self.held(metered, now))

    def signed(self, seen: observations.MeterSigned) -> Effects:
        """Kept with its session, also when it comes after the end; each once, and never without bound."""
        state = self._memory.state
        if seen.session is not None:
            session = state.sessions.get(seen.session)
        else:
            newest = (each for each in reversed(tuple(state.sessions.values())) if each.charger == seen.charger)
            session = state.open_at(seen.charger) or next(newest, None)
        if session is None or session.charger != seen.charger or seen.sha256 in session.signed:
            return ()
        if len(session.signed) >= SIGNED_AT_MOST:
            return self._tell(seen.charger, f"{session.id}/signed", session.id, "signed", session.phase, None)
        self._memory.keep(replace(session, signed=(*session.signed, seen.sha256)))
        pieces = [seen.content[at : at + PART_CHARS] for at in range(0, len(seen.content), PART_CHARS)]
        told = tuple(
            facts.SessionSigned(
                session=session.id,
                charger=seen.charger,
                format=seen.format,
                sha256=seen.sha256,
                part=number,
                parts=len(pieces),
                text=None if seen.boxed else piece,
                box=piece if seen.boxed else None,
                public_key=seen.public_key if number == 1 else None,
            )
            for number, piece in enumerate(pieces, 1)
        )
        return (Record(facts=told), *(() if session.is_open else (Seal(),)))

    def held(self, session: Session, now: Instant) -> Effects:
        """Stop the session at its limit; before that, look again when it will be there."""
        if session.phase is not Phase.CHARGING:
            return ()
        progress = progress_of(session, now, duration(session, now)[0])
        reason = reached(session, progress)
        if reason is not None:
            return self.stop(session, reason, None, now)
        wait_ms = remaining_ms(session, progress)
        return () if wait_ms is None else (WakeAt(monotonic_ms=now.monotonic_ms + max(1, wait_ms)),)

    def stop(
        self, session: Session, reason: EndReason, by: Credential | None, now: Instant, answers: Effects = ()
    ) -> Effects:
        fact = facts.SessionStopRequested(session=session.id, reason=reason, by=by)
        self._memory.keep(replace(evolve(session, fact), watched_ms=now.monotonic_ms))
        return (
            Record(facts=(fact,)),
            *answers,
            StopCharging(charger=session.charger, session=session.id),
            *self._memory.deadline(self._memory.state.sessions[session.id]),
        )

    def _resume(self, session: Session, event: Event, meter_wh: int | None, now: Instant) -> Effects:
        """The charger still has our session: go on where it stands. Energy of the gap is in the meter's difference."""
        contradicted: Effects = ()
        if event is Event.STARTED and session.meter_start_wh is not None:
            meter_wh = None  # a start repeats the reading at the start
        if meter_wh is not None and runs_backwards(session, meter_wh):
            contradicted = self._contradict(session, event, session.charger, meter_wh)
            meter_wh = None
        resumed = facts.SessionResumed(session=session.id, meter_wh=meter_wh)
        session = replace(
            evolve(session, resumed),
            watched_ms=now.monotonic_ms,
            recorded_ms=now.monotonic_ms,
            power_w=None,
            metered_ms=now.monotonic_ms,
        )
        self._memory.keep(session)
        effects: Effects = (*contradicted, Record(facts=(resumed,)))
        if session.meter_start_wh is None and event is not Event.FOUND_WAITING:
            effects = (*effects, *self._begin(session, meter_wh, now))
        if session.phase is Phase.STOPPING:
            effects = (*effects, StopCharging(charger=session.charger, session=session.id))
        held = self.held(self._memory.state.sessions[session.id], now)
        if any(isinstance(each, StopCharging) for each in held):
            return (*effects, *held)
        return (*effects, *held, *self._memory.deadline(self._memory.state.sessions[session.id]))

    def _stop_again(self, session: Session, event: Event, meter_wh: int | None, now: Instant) -> Effects:
        """Until it stops. One that never began is withdrawn; one whose charger stays away ends with what is known."""
        if session.meter_start_wh is None and event not in (Event.STARTED, Event.FOUND_CHARGING):
            return self._withdraw(session, None, now)
        if event is Event.TIME_OUT and session.charger not in self._memory.state.reachable:
            return self._finish(session, None, None, False, now)
        # A start told again repeats the reading at the start; it is no sample.
        said = (
            ()
            if event is Event.STARTED and session.meter_start_wh is not None
            else self._meter(session, event, meter_wh, None, now)
        )
        session = replace(self._memory.state.sessions[session.id], watched_ms=now.monotonic_ms)
        self._memory.keep(session)
        return (*said, StopCharging(charger=session.charger, session=session.id), *self._memory.deadline(session))

    def _may_start_again(self, session: Session, now: Instant) -> bool:
        """Cut off between the green light and the start: the driver still waits, if it was only just."""
        return (
            session.meter_start_wh is None
            and session.stop_reason is None
            and session.boot == now.boot
            and now.monotonic_ms - session.authorised_ms < self._memory.setup.timing.start_timeout_ms
        )

    def _start_again(self, session: Session, now: Instant) -> Effects:
        """Ask again, never for longer than was granted: else a stranger could plug in an hour later."""
        ask = StartCharging(charger=session.charger, session=session.id, max_energy_wh=session.max_energy_wh)
        if session.phase is Phase.AUTHORISED:
            return (ask,)
        resumed = facts.SessionResumed(session=session.id, meter_wh=None)
        session = replace(evolve(session, resumed), watched_ms=session.authorised_ms)
        self._memory.keep(session)
        return (Record(facts=(resumed,)), ask, *self._memory.deadline(session))

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
        fact = self._budgets.settled(session, ended(session, reason=why, meter_wh=meter_wh, complete=complete, now=now))
        self._memory.keep(evolve(session, fact))
        if fact.started and fact.credential.is_identity:
            visit = Visit(began=fact.authorised_at, ended=fact.ended_at)
            self._memory.change(history=self._memory.state.history.with_visit(fact.credential.reference, visit))
        return (*contradicted, Record(facts=(fact,)), Seal())

    def _withdraw(self, session: Session, reason: EndReason | None, now: Instant) -> Effects:
        """Authorised but never started: ended with nothing charged, and the charger told so."""
        why = session.stop_reason or reason or EndReason.TIMEOUT
        fact = self._budgets.settled(session, ended(session, reason=why, meter_wh=None, complete=True, now=now))
        self._memory.keep(evolve(session, fact))
        return (Record(facts=(fact,)), Seal(), StopCharging(charger=session.charger, session=session.id))

    def _unknown(self, event: Event, charger: str, session_id: str | None, meter_wh: int | None) -> Effects:
        """The charger speaks of a session that is not ours: charging without authorisation is stopped and told."""
        if event not in (Event.STARTED, Event.METERED, Event.FOUND_CHARGING):
            return ()
        told = self._tell(charger, f"{session_id}/{event}", None, event, "none", meter_wh)
        if session_id is None or not (told or event is Event.FOUND_CHARGING):
            return told
        ours = (QueryCharger(charger=charger),) if self._memory.state.open_at(charger) is not None else ()
        return (*told, StopCharging(charger=charger, session=session_id), *(ours if told else ()))

    def _contradict(self, session: Session, event: Event, charger: str, meter_wh: int | None) -> Effects:
        return self._tell(charger, f"{session.id}/{event}/{session.phase}", session.id, event, session.phase, meter_wh)

    def _tell(
        self, charger: str, key: str, session: str | None, event: str, phase: str, meter_wh: int | None
    ) -> Effects:
        if not self._memory.is_news(charger, key):
            return ()
        fact = facts.SessionContradicted(session=session, charger=charger, event=event, phase=phase, meter_wh=meter_wh)
        return (Record(facts=(fact,)),)


def runs_backwards(session: Session, meter_wh: int) -> bool:
    return session.meter_last_wh is not None and meter_wh < session.meter_last_wh


def end_reason(text: str) -> EndReason:
    """The charger's word for why it stopped; what we do not know is `Other`, as in OCPP."""
    return next((reason for reason in EndReason if reason.value.lower() == text.lower()), EndReason.FAULT)
