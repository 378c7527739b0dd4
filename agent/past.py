"""What the machine must remember over a restart, from the journal's newest records."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from agent.core.facts import JournalOpened, PinTried, SessionAuthorised, SessionEnded
from agent.core.history import History, Visit
from agent.journal import Journal
from agent.wire import TYPES, open_envelope

REMEMBERED_TRIES = 2_000
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
    since = ends[-1].time if len(ends) == REMEMBERED_ENDS else beginning_of(journal)
    for record in reversed(journal.recent(TYPES[PinTried], limit=REMEMBERED_TRIES)):
        if isinstance(record.fact, PinTried):
            history = history.with_try(record.fact.driver, record.fact.salt, right=record.fact.right)
    for record in reversed(journal.recent(TYPES[SessionAuthorised], limit=REMEMBERED_ENDS)):
        fact = record.fact
        if isinstance(fact, SessionAuthorised) and fact.odometer_km is not None and fact.holder.vehicle is not None:
            history = history.with_odometer(fact.holder.vehicle, fact.odometer_km)
    return replace(history, since=since)


def beginning_of(journal: Journal) -> datetime | None:
    """The time of the oldest record, unless there was nothing before it."""
    oldest = journal.read(journal.head().first - 1, records=1, size_bytes=1)
    if not oldest:
        return None
    envelope = open_envelope(oldest[0].body)
    created = envelope.type == TYPES[JournalOpened] and envelope.data.get("reason") == CREATED
    return None if created else envelope.time
