"""What the machine must remember over a restart, from the journal's newest records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from agent.core.answers import Kept
from agent.core.budgets import Holdings
from agent.core.facts import (
    BackendAnswered,
    BudgetAsked,
    BudgetGranted,
    ClockSynchronised,
    CodeTried,
    ContractClosed,
    ContractOpened,
    Fact,
    JournalOpened,
    OverrideReceived,
    OverrideUsed,
    PinTried,
    SessionAuthorised,
    SessionEnded,
    SessionFact,
    SessionSigned,
    SessionStarted,
    UseEnd,
)
from agent.core.history import MOST_ANSWERS, MOST_OVERRIDES, MOST_USED, MOST_USES, UNTOLD, History, Visit
from agent.core.instants import EPOCH, ClockQuality
from agent.core.overrides import Override
from agent.core.recollection import recalled, use_of, wanted_by
from agent.core.sessions import Session, fold
from agent.journal import Journal
from agent.wire import TYPES, Envelope, Record, open_envelope

REMEMBERED_TRIES = 2_000
REMEMBERED_QUESTIONS = 50
REMEMBERED_BOOTS = 1_000
REMEMBERED_SESSIONS = 8  # that ended last: a charger has its late word within minutes
REMEMBERED_ENDS = 500  # of sessions, some 30 ms to read; further back is told as unknown

CREATED = "created"  # a journal that replaces none: before it there was nothing to know


def history_of(journal: Journal) -> History:
    ends = journal.recent(TYPES[SessionEnded], limit=REMEMBERED_ENDS)
    history = History()
    for record in reversed(ends):
        fact = record.fact
        if isinstance(fact, SessionEnded) and fact.started and fact.credential.is_identity:
            visit = Visit(began=fact.authorised_at, ended=fact.ended_at)
            history = history.with_visit(fact.credential.reference, visit)
    since = time_of(ends[-1], journal) if len(ends) == REMEMBERED_ENDS else beginning_of(journal)
    for record in reversed(journal.recent(TYPES[PinTried], limit=REMEMBERED_TRIES)):
        if isinstance(record.fact, PinTried):
            history = history.with_try(record.fact.driver, record.fact.salt, right=record.fact.right)
    for record in reversed(journal.recent(TYPES[SessionAuthorised], limit=REMEMBERED_ENDS)):
        fact = record.fact
        if isinstance(fact, SessionAuthorised) and fact.odometer_km is not None and fact.holder.vehicle is not None:
            history = history.with_odometer(fact.holder.vehicle, fact.odometer_km)
    return with_overrides(with_answers(with_uses(replace(history, since=since), journal), journal), journal)


def holdings_of(journal: Journal) -> Holdings:
    """A journal that no longer reaches back to a grant knows no leases, and takes none from before its memory again."""
    questions = [each.fact for each in reversed(journal.recent(TYPES[BudgetAsked], limit=REMEMBERED_QUESTIONS))]
    known = Holdings(journal=journal.head().journal, known_since=known_since(journal), wanted=wanted_by(questions))
    newest = next(iter(journal.recent(TYPES[BudgetGranted], limit=1)), None)
    if newest is None or not isinstance(newest.fact, BudgetGranted):
        return known
    later = [
        fact
        for kind in (SessionAuthorised, SessionEnded, BudgetAsked)
        for fact in _since(journal, kind, newest.sequence)
    ]
    return recalled(known, newest.fact, boot=newest.boot, received_ms=newest.monotonic_ms, later=later)


def known_since(journal: Journal) -> datetime | None:
    """As `beginning_of`; where nobody knows the time yet, leases name their journal, and that is all there is."""
    since = beginning_of(journal)
    return None if since == UNTOLD else since


def _since(journal: Journal, kind: type[Fact], sequence: int) -> Iterator[Fact]:
    before: int | None = None
    while page := journal.recent(TYPES[kind], limit=REMEMBERED_ENDS, before=before):
        for record in page:
            if record.sequence <= sequence:
                return
            yield record.fact
        before = page[-1].sequence


def with_uses(history: History, journal: Journal) -> History:
    """Contracts in use, and when those that are not any more were. A close is never older than its opening."""
    for record in reversed(journal.recent(TYPES[ContractOpened], limit=MOST_USES)):
        if isinstance(record.fact, ContractOpened):
            history = history.with_use(use_of(record.fact))
    for record in reversed(journal.recent(TYPES[ContractClosed], limit=MOST_USES)):
        fact = record.fact
        if isinstance(fact, ContractClosed):
            ended = fact.reason is UseEnd.ENDED
            history = (
                history.with_use_ended(fact.decision, record.time) if ended else history.without_use(fact.decision)
            )
    return history


def with_answers(history: History, journal: Journal) -> History:
    """What the backend said counts from then, however often it was used since, and never from a time yet to come."""
    for record in reversed(journal.recent(TYPES[BackendAnswered], limit=MOST_ANSWERS)):
        fact = record.fact
        if isinstance(fact, BackendAnswered) and fact.credential.is_identity:
            believed = record.quality is not ClockQuality.UNKNOWN
            kept = Kept(
                verdict=fact.verdict,
                answered_at=min(fact.answered_at, record.time) if believed else fact.answered_at,
                boot=record.boot,
                monotonic_ms=record.monotonic_ms,
                keep=timedelta(seconds=fact.keep_s),
            )
            history = history.with_answer(fact.credential.reference, kept)
    return history


def with_overrides(history: History, journal: Journal) -> History:
    """What was used up stays so; codes that were wrong count since the last right one."""
    used = journal.recent(TYPES[OverrideUsed], limit=MOST_USED)
    for record in reversed(journal.recent(TYPES[OverrideReceived], limit=MOST_OVERRIDES)):
        fact = record.fact
        if isinstance(fact, OverrideReceived):
            override = Override(
                id=fact.override,
                token=fact.token,
                waives=frozenset(fact.waives),
                why=fact.why,
                by=fact.by,
                issued=fact.issued,
                not_after=fact.not_after,
                max_energy_wh=fact.max_energy_wh,
                max_duration_s=fact.max_duration_s,
                max_cost=fact.max_cost,
                boot=record.boot,
                received_ms=record.monotonic_ms,
                jws=fact.jws,
            )
            history = history.with_override(override)
    right = 0
    for record in reversed(used):
        if isinstance(record.fact, OverrideUsed):
            history = history.with_used(record.fact.override, record.fact.counter)
            right = record.sequence if record.fact.counter is not None else right
    for record in reversed(journal.recent(TYPES[CodeTried], limit=REMEMBERED_TRIES)):
        if record.sequence > right:
            history = history.with_wrong_code(record.time)
    return history


def ended_lately(journal: Journal) -> tuple[Session, ...]:
    """So that what a charger says late of them, such as a signed meter record, still finds its session."""
    found = []
    for end in reversed(journal.recent(TYPES[SessionEnded], limit=REMEMBERED_SESSIONS)):
        kinds = (SessionAuthorised, SessionStarted, SessionEnded, SessionSigned)
        about = [each.fact for each in journal.of_kinds(end.subject or "", *(TYPES[kind] for kind in kinds))]
        session = fold(fact for fact in about if isinstance(fact, SessionFact))
        if session is not None and not session.is_open:
            signed = dict.fromkeys(fact.sha256 for fact in about if isinstance(fact, SessionSigned))
            found.append(replace(session, signed=tuple(signed)))
    return tuple(found)


def beginning_of(journal: Journal) -> datetime | None:
    """The time of the oldest record, unless there was nothing before it."""
    oldest = journal.read(journal.head().first - 1, records=1, size_bytes=1)
    if not oldest:
        return None
    envelope = open_envelope(oldest[0].body)
    created = envelope.type == TYPES[JournalOpened] and envelope.data.get("reason") == CREATED
    return None if created else time_of(envelope, journal)


def time_of(one: Envelope | Record, journal: Journal) -> datetime:
    """Of a record that was sealed while nobody knew the time: what its boot, or the next that knew it, tells later."""
    if one.quality is not ClockQuality.UNKNOWN:
        return one.time
    for told in journal.recent(TYPES[ClockSynchronised], limit=REMEMBERED_BOOTS):
        if isinstance(told.fact, ClockSynchronised) and told.fact.boot == one.boot:
            return EPOCH + timedelta(milliseconds=told.fact.offset_ms + one.monotonic_ms)
    later = map(open_envelope, (each.body for each in journal.read(one.sequence, records=1_000, size_bytes=2**20)))
    return next((each.time for each in later if each.quality is not ClockQuality.UNKNOWN), UNTOLD)
