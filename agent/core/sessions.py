"""A charging session: folded from its facts, and the table that says what each event means in each phase.

Pure. The table is total: late, duplicate and contradictory events have their rows too (test: every cell is filled).
What a step then records and asks for is agent.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

from agent.core.budgets import LeaseUse
from agent.core.credentials import Credential
from agent.core.facts import (
    EndReason,
    Holder,
    SessionAuthorised,
    SessionEnded,
    SessionFact,
    SessionInterrupted,
    SessionMetered,
    SessionPriced,
    SessionResumed,
    SessionStarted,
    SessionStopRequested,
)
from agent.core.instants import ClockQuality, Instant
from agent.core.prices import CostLimit, Prices
from agent.core.quotes import Quote
from agent.core.requests import Place
from agent.core.running_cost import (
    NOTHING_YET,
    Bill,
    Cost,
    Exposure,
    Tally,
    bill_by,
    cost_of,
    counted,
    exposure_of,
)

LONGEST_S = 7 * 24 * 3600  # a session without a limit of its own is taken to last no longer
LARGEST_WH = 1_000_000  # nor to take more: the largest lorry's battery, and losses


class Phase(StrEnum):
    AUTHORISED = "authorised"
    CHARGING = "charging"
    STOPPING = "stopping"
    INTERRUPTED = "interrupted"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`watched_ms` is when the present phase began on this boot's monotonic clock; phases that must end look at it.

    `power_w` was last told at `metered_ms`, on that same clock: from there the session is taken to go on (limits.py).
    `tally` and `exposure` are what the recorded readings come to by the `quote`, or else by plain `prices`.
    """

    id: str
    phase: Phase
    decision: str
    credential: Credential
    holder: Holder
    place: Place
    reader: str | None
    charger: str
    max_energy_wh: int | None
    authorised_at: datetime
    boot: str
    authorised_ms: int
    started_at: datetime | None = None
    started_boot: str | None = None
    started_clock: ClockQuality | None = None
    started_ms: int | None = None
    meter_start_wh: int | None = None
    meter_last_wh: int | None = None
    stop_reason: EndReason | None = None
    interrupted: bool = False
    watched_ms: int = 0
    recorded_ms: int | None = None
    max_duration_s: int | None = None
    target_soc_percent: int | None = None
    cost: CostLimit | None = None
    power_w: int | None = None
    metered_ms: int | None = None
    prices: Prices | None = None
    quote: Quote | None = None
    tally: Tally = NOTHING_YET
    exposure: Exposure | None = None
    signed: tuple[str, ...] = ()
    route: str | None = None

    @property
    def bill(self) -> Bill | None:
        """None when nobody told what it costs."""
        known = self.started_clock is not ClockQuality.UNKNOWN
        return bill_by(self.quote, self.prices, self.started_at if known else None)

    reserved: tuple[LeaseUse, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.phase is not Phase.ENDED

    @property
    def energy_wh(self) -> int:
        if self.meter_start_wh is None or self.meter_last_wh is None:
            return 0
        return max(0, self.meter_last_wh - self.meter_start_wh)


def start(fact: SessionAuthorised) -> Session:
    return Session(
        id=fact.session,
        phase=Phase.AUTHORISED,
        decision=fact.decision,
        credential=fact.credential,
        holder=fact.holder,
        place=fact.place,
        reader=fact.reader,
        charger=fact.charger,
        max_energy_wh=fact.max_energy_wh,
        authorised_at=fact.authorised_at,
        boot=fact.boot,
        authorised_ms=fact.monotonic_ms,
        watched_ms=fact.monotonic_ms,
        max_duration_s=fact.max_duration_s,
        target_soc_percent=fact.target_soc_percent,
        cost=fact.cost,
        prices=fact.prices if fact.cost is None else fact.cost.prices,
        reserved=fact.leases or (),
        route=fact.route,
    )


def evolve(session: Session, fact: SessionFact) -> Session:
    """Total: what has ended stays as it was sealed, and what began twice began the first time."""
    if session.phase is Phase.ENDED:
        return session
    match fact:
        case SessionAuthorised():
            return session  # the same authorisation told twice
        case SessionPriced():
            return session  # what its document says is read by the shell: see fold
        case SessionStarted() if session.meter_start_wh is not None:
            return session
        case SessionStarted():
            begun = replace(
                session,
                phase=Phase.CHARGING if session.phase is Phase.AUTHORISED else session.phase,
                started_at=fact.started_at,
                started_boot=fact.boot,
                started_clock=fact.clock,
                started_ms=fact.monotonic_ms,
                meter_start_wh=fact.meter_wh,
                meter_last_wh=fact.meter_wh,
            )
            return tallied(begun, 0, None)
        case SessionMetered():
            return tallied(replace(session, meter_last_wh=fact.meter_wh), fact.duration_ms, fact.power_w)
        case SessionStopRequested():
            return replace(session, phase=Phase.STOPPING, stop_reason=fact.reason)
        case SessionInterrupted():
            return replace(session, phase=Phase.INTERRUPTED, interrupted=True)
        case SessionResumed():
            last = session.meter_last_wh if fact.meter_wh is None else fact.meter_wh
            return replace(session, phase=phase_after_resuming(session), meter_last_wh=last)
        case SessionEnded():
            return replace(session, phase=Phase.ENDED, meter_last_wh=fact.meter_stop_wh)
        case _:
            assert_never(fact)


def tallied(session: Session, duration_ms: int | None, power_w: int | None) -> Session:
    """With its last reading counted, as a recorded one is."""
    bill = session.bill
    if bill is None or duration_ms is None or session.meter_start_wh is None:
        return session
    tally = counted(session.tally, bill, duration_ms=duration_ms, energy_wh=session.energy_wh, power_w=power_w)
    exposure = None
    if session.cost is not None and session.quote is not None:
        most_wh = session.max_energy_wh or max(LARGEST_WH, 2 * session.energy_wh)
        most_s = session.max_duration_s or max(LONGEST_S, duration_ms // 500)  # always as long again as it has lasted
        exposure = exposure_of(tally, bill, most_wh, most_s)
    return replace(session, tally=tally, exposure=exposure)


def cost_so_far(session: Session, duration_ms: int, power_w: int | None = None) -> Cost | None:
    """What would have to be paid if it ended now, at its last reading."""
    bill = session.bill
    if bill is None or session.meter_start_wh is None:
        return None
    tally = counted(session.tally, bill, duration_ms=duration_ms, energy_wh=session.energy_wh, power_w=power_w)
    return cost_of(tally, bill)


def unread(fact: SessionPriced) -> Quote | None:
    """For whoever does not ask what a session costs."""
    return None


def fold(facts: Iterable[SessionFact], quote_of: Callable[[SessionPriced], Quote | None] = unread) -> Session | None:
    """A session from its facts in order; None when its beginning is missing. `quote_of` reads its tariff."""
    session: Session | None = None
    for fact in facts:
        if session is not None and isinstance(fact, SessionPriced):
            session = replace(session, quote=quote_of(fact))
        elif session is not None:
            session = evolve(session, fact)
        elif isinstance(fact, SessionAuthorised):
            session = start(fact)
    return session


def facts_of(session: Session) -> tuple[SessionFact, ...]:
    """An open session as facts again, for a journal that has lost its own: `fold` of them is where it stands."""
    authorised = SessionAuthorised(
        session=session.id,
        decision=session.decision,
        credential=session.credential,
        holder=session.holder,
        place=session.place,
        reader=session.reader,
        charger=session.charger,
        max_energy_wh=session.max_energy_wh,
        authorised_at=session.authorised_at,
        boot=session.boot,
        monotonic_ms=session.authorised_ms,
        max_duration_s=session.max_duration_s,
        target_soc_percent=session.target_soc_percent,
        cost=session.cost,
        prices=session.prices if session.cost is None else None,
        leases=session.reserved or None,
        route=session.route,
    )
    facts: list[SessionFact] = [authorised]
    if session.quote is not None:
        facts.append(priced_by(session.id, session.quote))
    if (
        session.meter_start_wh is not None
        and session.started_at is not None
        and session.started_boot is not None
        and session.started_ms is not None
    ):
        facts.append(
            SessionStarted(
                session=session.id,
                meter_wh=session.meter_start_wh,
                started_at=session.started_at,
                boot=session.started_boot,
                monotonic_ms=session.started_ms,
                clock=session.started_clock,
            )
        )
    facts += _readings(session)
    if session.stop_reason is not None:
        facts.append(SessionStopRequested(session=session.id, reason=session.stop_reason, by=None))
    if session.interrupted and session.phase is Phase.INTERRUPTED:
        facts.append(SessionInterrupted(session=session.id, last_meter_wh=session.meter_last_wh))
    return tuple(facts)


def priced_by(session: str, quote: Quote) -> SessionPriced:
    zone = None if quote.zone is None else quote.zone.key
    return SessionPriced(session=session, sha256=quote.sha256, document=quote.document, zone=zone)


def _readings(session: Session) -> Iterator[SessionMetered]:
    """One where each period of its tally ends, and the last that is known."""
    if session.meter_last_wh is None or session.meter_start_wh is None:
        return
    hours, kwh = Decimal(0), Decimal(0)
    for period in session.tally.periods:
        hours, kwh = hours + period.time_h + period.parking_h, kwh + period.energy_kwh
        energy_wh = round(kwh * 1000)
        yield SessionMetered(
            session=session.id,
            meter_wh=session.meter_start_wh + energy_wh,
            energy_wh=energy_wh,
            power_w=None if period.power_kw is None else round(period.power_kw * 1000),
            duration_ms=round(hours * 3_600_000),
        )
    if session.energy_wh > session.tally.energy_wh:
        yield SessionMetered(
            session=session.id, meter_wh=session.meter_last_wh, energy_wh=session.energy_wh, power_w=None
        )


def phase_after_resuming(session: Session) -> Phase:
    if session.stop_reason is not None:
        return Phase.STOPPING
    return Phase.AUTHORISED if session.meter_start_wh is None else Phase.CHARGING


class Event(StrEnum):
    """What a charger, or the passing of time, can say about a session."""

    STARTED = "started"
    METERED = "metered"
    STOPPED = "stopped"
    UNPLUGGED = "unplugged"
    FOUND_CHARGING = "found charging"
    FOUND_WAITING = "found waiting with it"
    FOUND_IDLE = "found idle"
    FOUND_OTHER = "found charging something else"
    PLUGGED_IN = "plugged in"
    TIME_OUT = "time out"


class Step(StrEnum):
    """What follows from an event."""

    BEGIN = "begin"
    METER = "meter"
    RESUME = "resume"
    FINISH = "finish"
    FINISH_INCOMPLETE = "finish with what is known"
    WITHDRAW = "withdraw"
    STOP_AGAIN = "ask again to stop"
    START_AGAIN = "ask again to start"
    IGNORE = "ignore"
    CONTRADICT = "contradict"
    CONTRADICT_AND_STOP = "contradict and stop the charger"
    CONTRADICT_AND_FINISH = "contradict and finish with what is known"


TRANSITIONS: dict[Phase, dict[Event, Step]] = {
    Phase.AUTHORISED: {
        Event.STARTED: Step.BEGIN,
        Event.METERED: Step.BEGIN,  # the start was missed: what is metered now is the first that is known
        Event.STOPPED: Step.WITHDRAW,
        Event.UNPLUGGED: Step.WITHDRAW,
        Event.FOUND_CHARGING: Step.BEGIN,
        Event.FOUND_WAITING: Step.IGNORE,
        Event.FOUND_IDLE: Step.START_AGAIN,
        Event.FOUND_OTHER: Step.CONTRADICT_AND_FINISH,
        Event.PLUGGED_IN: Step.START_AGAIN,  # tapped first, plugged in then: it had nothing to start before
        Event.TIME_OUT: Step.WITHDRAW,
    },
    Phase.CHARGING: {
        Event.STARTED: Step.IGNORE,  # duplicate
        Event.METERED: Step.METER,
        Event.STOPPED: Step.FINISH,
        Event.UNPLUGGED: Step.FINISH_INCOMPLETE,
        Event.FOUND_CHARGING: Step.METER,
        Event.FOUND_WAITING: Step.METER,  # paused by the car or by load management
        Event.FOUND_IDLE: Step.FINISH_INCOMPLETE,
        Event.FOUND_OTHER: Step.CONTRADICT_AND_FINISH,
        Event.PLUGGED_IN: Step.IGNORE,
        Event.TIME_OUT: Step.IGNORE,  # charging may last
    },
    Phase.STOPPING: {
        Event.STARTED: Step.STOP_AGAIN,  # the start overtook the stop: what flows is counted
        Event.METERED: Step.METER,  # still running down
        Event.STOPPED: Step.FINISH,
        Event.UNPLUGGED: Step.FINISH_INCOMPLETE,
        Event.FOUND_CHARGING: Step.STOP_AGAIN,
        Event.FOUND_WAITING: Step.STOP_AGAIN,
        Event.FOUND_IDLE: Step.FINISH_INCOMPLETE,
        Event.FOUND_OTHER: Step.CONTRADICT_AND_FINISH,
        Event.PLUGGED_IN: Step.IGNORE,
        Event.TIME_OUT: Step.STOP_AGAIN,
    },
    Phase.INTERRUPTED: {
        Event.STARTED: Step.RESUME,
        Event.METERED: Step.RESUME,
        Event.STOPPED: Step.FINISH,
        Event.UNPLUGGED: Step.FINISH_INCOMPLETE,
        Event.FOUND_CHARGING: Step.RESUME,
        Event.FOUND_WAITING: Step.RESUME,
        Event.FOUND_IDLE: Step.FINISH_INCOMPLETE,
        Event.FOUND_OTHER: Step.CONTRADICT_AND_FINISH,
        Event.PLUGGED_IN: Step.IGNORE,  # what it is doing has been asked
        Event.TIME_OUT: Step.FINISH_INCOMPLETE,
    },
    Phase.ENDED: {
        Event.STARTED: Step.CONTRADICT_AND_STOP,
        Event.METERED: Step.CONTRADICT,  # late sample: kept as told, the sealed end stays
        Event.STOPPED: Step.IGNORE,  # duplicate
        Event.UNPLUGGED: Step.IGNORE,
        Event.FOUND_CHARGING: Step.CONTRADICT_AND_STOP,
        Event.FOUND_WAITING: Step.CONTRADICT_AND_STOP,
        Event.FOUND_IDLE: Step.IGNORE,
        Event.FOUND_OTHER: Step.IGNORE,
        Event.PLUGGED_IN: Step.IGNORE,
        Event.TIME_OUT: Step.IGNORE,
    },
}


def ended(session: Session, *, reason: EndReason, meter_wh: int | None, complete: bool, now: Instant) -> SessionEnded:
    """The end as far as it is known: an end that was not seen keeps the last meter value and says so."""
    final = session.meter_last_wh if meter_wh is None else meter_wh
    final_session = replace(session, meter_last_wh=final)
    duration_ms, source = duration(session, now)
    return SessionEnded(
        session=session.id,
        decision=session.decision,
        credential=session.credential,
        holder=session.holder,
        place=session.place,
        charger=session.charger,
        reason=reason,
        started=session.meter_start_wh is not None,
        complete=complete,
        interrupted=session.interrupted,
        authorised_at=session.authorised_at,
        started_at=session.started_at,
        ended_at=now.utc,
        meter_start_wh=session.meter_start_wh,
        meter_stop_wh=final,
        energy_wh=final_session.energy_wh,
        duration_s=duration_ms // 1000,
        duration_source=source,
        cost=cost_so_far(final_session, duration_ms // 1000 * 1000),
    )


def duration(session: Session, now: Instant) -> tuple[int, str]:
    """(milliseconds, source): monotonic within one boot, else the wall clocks' difference, never negative.

    A wall clock that nobody vouches for (1970) is no measure: then it has lasted at least as long as this boot.
    """
    if session.started_at is None or session.started_ms is None:
        return 0, "none"
    if session.started_boot == now.boot:
        return max(0, now.monotonic_ms - session.started_ms), "monotonic"
    if ClockQuality.UNKNOWN in (session.started_clock, now.quality):
        return max(0, now.monotonic_ms), "at_least"
    return max(0, int((now.utc - session.started_at).total_seconds() * 1000)), "wall"
