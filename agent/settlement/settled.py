"""One ended session with everything that settles it, folded from its records; and all of them out of a stream.

Carried, never guessed: what no record says is None. Records come from a device's journal or a backend's database, in
order; only what is open, or may still get a late meter record, is held in memory. What is written how is elsewhere in
this folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from agent.core.facts import SessionAuthorised, SessionEnded, SessionFact, SessionPriced, SessionSigned
from agent.core.instants import ClockQuality
from agent.core.prices import Prices
from agent.core.running_cost import NOTHING_YET, Bill, Tally, bill_by, counted, priced
from agent.core.sessions import Session, fold
from agent.core.tariff.priced import Priced
from agent.ocpi.quotes import quote_of
from agent.wire import Record, Unreadable, open_record, origin_of

LATE_AT_MOST: Final = 200  # ended sessions of a journal that wait for late meter records before they are told
_ABOUT_SESSIONS: Final = b'"type":"io.roamkey.session.'
_FREE: Final = Prices(currency="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """`record` is where its end stands in `journal`. `priced` is None when nobody told a price."""

    device: str
    fleet: str
    journal: str
    record: int
    clock: ClockQuality
    begun: SessionAuthorised
    ended: SessionEnded
    tally: Tally = NOTHING_YET
    priced: Priced | None = None
    tariff: SessionPriced | None = None
    zone: str | None = None
    signed: tuple[SessionSigned, ...] = ()
    sequences: tuple[int, ...] = field(default=(), repr=False)

    @property
    def id(self) -> str:
        return self.ended.session

    @property
    def price_source(self) -> str:
        """`tariff` or `prices` as they were told before the session, or `none`."""
        return "none" if self.priced is None else "prices" if self.tariff is None else "tariff"


def settled_in(bodies: Iterable[bytes], *, worked_out: bool = True) -> Iterator[Settled]:
    """Of one journal's records in their order: each session that has ended and has a beginning, once.

    `worked_out`: with its charging periods and its price line by line, and not only the cost that its end says.
    """
    open_: dict[str, list[Record]] = {}
    waiting: dict[str, None] = {}
    for body in bodies:
        if _ABOUT_SESSIONS not in body:
            continue
        try:
            record = open_record(body)
        except Unreadable:
            continue  # of a newer version: what it says cannot be settled here
        if record.subject is None:
            continue
        if isinstance(record.fact, SessionAuthorised) or record.subject in open_:
            open_.setdefault(record.subject, []).append(record)
        if isinstance(record.fact, SessionEnded) and record.subject in open_:
            waiting[record.subject] = None
        if len(waiting) > LATE_AT_MOST:
            first = next(iter(waiting))
            del waiting[first]
            yield from _settled(open_.pop(first), worked_out=worked_out)
    for session in waiting:
        yield from _settled(open_.pop(session), worked_out=worked_out)


def _settled(records: list[Record], *, worked_out: bool) -> Iterator[Settled]:
    facts = [record.fact for record in records if isinstance(record.fact, SessionFact)]
    end = next(record for record in records if isinstance(record.fact, SessionEnded))
    begun, ended = facts[0], end.fact
    if not isinstance(begun, SessionAuthorised) or not isinstance(ended, SessionEnded):
        return
    fleet, device = origin_of(end.source)
    one = Settled(
        fleet=fleet,
        device=device,
        journal=end.journal,
        record=end.sequence,
        clock=end.quality,
        begun=begun,
        ended=ended,
        tariff=next((fact for fact in facts if isinstance(fact, SessionPriced)), None),
        signed=tuple(record.fact for record in records if isinstance(record.fact, SessionSigned)),
        sequences=tuple(record.sequence for record in records),
    )
    yield _worked_out(one, facts) if worked_out else one


def _worked_out(one: Settled, facts: list[SessionFact]) -> Settled:
    session = fold((fact for fact in facts if not isinstance(fact, SessionEnded)), quote_of)
    if session is None:
        return one
    tally, bill = tally_of(session, one.ended)
    known = bill if one.tariff is None or session.quote is not None else None
    return replace(
        one,
        tally=tally,
        priced=None if known is None or not one.ended.started else priced(tally, known),
        zone=None if session.quote is None or session.quote.zone is None else session.quote.zone.key,
    )


def tally_of(session: Session, ended: SessionEnded) -> tuple[Tally, Bill | None]:
    """The readings and the end as charging periods; without a price those that a free session has."""
    bill = session.bill
    by = bill or bill_by(None, _FREE, ended.started_at)
    if by is None or not ended.started:
        return Tally(), bill
    tally = session.tally
    if bill is None:
        tally = Tally()
    tally = counted(tally, by, duration_ms=ended.duration_s * 1000, energy_wh=ended.energy_wh)
    return tally, bill


def once(settled: Iterable[Settled]) -> Iterator[Settled]:
    """A session that was sealed anew into another journal is one session; the first that is complete counts."""
    incomplete: dict[str, Settled] = {}
    seen: set[str] = set()
    for each in settled:
        if each.id in seen:
            continue
        if each.ended.complete:
            seen.add(each.id)
            incomplete.pop(each.id, None)
            yield each
        else:
            incomplete.setdefault(each.id, each)
    yield from incomplete.values()
