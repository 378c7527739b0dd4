"""This device and the backend hold different records under the same numbers: go on under a new journal id.

It comes of storage that lost what it had confirmed (a flash that lies about FLUSH, power gone), or of an older image
that was put back: the numbering went back a little, and what was recorded then took numbers that the backend already
holds. Both are true. What the backend has stays its own; what came here after the last common record is sealed anew,
in order, in a new journal, with the moments at which it was first sealed. The old records stay here as evidence.
"""

from __future__ import annotations

import sqlite3
import uuid

from agent.core.facts import Checkpoint, JournalOpened, SessionAuthorised, SessionMetered
from agent.core.instants import Instant
from agent.journal.earlier import table_of
from agent.journal.schema import NEW_RECORD_TABLE, insert
from agent.wire import GENESIS, TYPES, hash_of, reseal, seal
from sync.ports import Head, Sealed


def part_ways(database: sqlite3.Connection, head: Head, *, agreed: int, source: str, now: Instant) -> Head:
    """In the caller's transaction: all of it or nothing."""
    new = str(uuid.uuid4())
    number = database.execute(
        "INSERT INTO predecessor (journal, acknowledged, agreed) VALUES (?, ?, ?)", (head.journal, agreed, agreed)
    ).lastrowid
    old = table_of(number or 0)
    database.execute("DROP INDEX record_by_subject")
    database.execute(f"ALTER TABLE record RENAME TO {old}")
    for statement in NEW_RECORD_TABLE:
        database.execute(statement)
    database.execute("UPDATE about SET journal = ?, acknowledged = 0, base_sequence = 0, base_hash = ?", (new, GENESIS))
    _carry_open_sessions(database, old, agreed)
    opened = JournalOpened(reason="diverged", predecessor=head.journal, salvaged=None, agreed=agreed)
    body = seal(opened, sequence=1, previous=GENESIS, journal=new, source=source, now=now)
    insert(database, [(opened, now)], [Sealed(sequence=1, body=body)])
    sequence, previous = _seal_anew(database, old, agreed, journal=new, previous=hash_of(body))
    return Head(journal=new, first=1, last=sequence, hash=previous, acknowledged=0)


def _carry_open_sessions(database: sqlite3.Connection, old: str, agreed: int) -> None:
    """What a restart needs to go on with them, of meter values only the newest."""
    database.execute(
        "INSERT INTO carried (session, hash, body) "
        f"SELECT subject, hash, body FROM {old} WHERE sequence <= :agreed "
        "AND subject IN (SELECT session FROM open_session) AND (type != :metered OR sequence = "
        f"(SELECT max(sequence) FROM {old} AS newer WHERE newer.subject = {old}.subject AND newer.type = :metered "
        "AND newer.sequence <= :agreed)) ORDER BY sequence",
        {"agreed": agreed, "metered": TYPES[SessionMetered]},
    )
    database.execute("UPDATE open_session SET sequence = 1")


def _seal_anew(database: sqlite3.Connection, old: str, agreed: int, *, journal: str, previous: str) -> tuple[int, str]:
    """Checkpoints are left behind: what they sign is the old chain."""
    sequence = 1
    rows = database.execute(
        f"SELECT type, subject, sealed_at, body FROM {old} WHERE sequence > ? AND type != ? ORDER BY sequence",
        (agreed, TYPES[Checkpoint]),
    )
    for kind, subject, sealed_at, body in rows:
        sequence += 1
        again = reseal(body, sequence=sequence, previous=previous, journal=journal)
        previous = hash_of(again)
        database.execute(
            "INSERT INTO record (sequence, type, subject, sealed_at, hash, body) VALUES (?, ?, ?, ?, ?, ?)",
            (sequence, kind, subject, sealed_at, bytes.fromhex(previous), again),
        )
        if kind == TYPES[SessionAuthorised]:
            database.execute("UPDATE open_session SET sequence = ? WHERE session = ?", (sequence, subject))
    return sequence, previous
