"""The journal's tables and how a connection to them is set up. What they mean is told in journal.py."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from agent.core.facts import Fact, SessionAuthorised, SessionEnded, SessionMetered
from agent.core.instants import Instant
from agent.journal.errors import JournalTooNew
from agent.wire import TYPES, subject_of
from sync.ports import Sealed

# Also made anew when a journal parts from the backend's (divergence.py).
NEW_RECORD_TABLE: Final = (
    """
    CREATE TABLE record (
        sequence INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        subject TEXT,
        sealed_at INTEGER NOT NULL,
        hash BLOB NOT NULL,
        body BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX record_by_subject ON record (subject) WHERE subject IS NOT NULL",
)

# One entry a version, applied in order; PRAGMA user_version counts them.
MIGRATIONS: Final = (
    """
    CREATE TABLE about (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        journal TEXT NOT NULL,
        source TEXT NOT NULL,
        acknowledged INTEGER NOT NULL DEFAULT 0,
        base_sequence INTEGER NOT NULL DEFAULT 0,
        base_hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE record (
        sequence INTEGER PRIMARY KEY,
        type TEXT NOT NULL,
        subject TEXT,
        sealed_at INTEGER NOT NULL,
        hash BLOB NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX record_by_subject ON record (subject) WHERE subject IS NOT NULL;
    CREATE TABLE open_session (
        session TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE quarantine (
        sequence INTEGER PRIMARY KEY,
        reason TEXT NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    """,
    # Journals before this one (earlier.py); facts of open sessions whose records are no longer in this journal.
    """
    CREATE TABLE quarantined (
        journal TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        reason TEXT NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (journal, sequence)
    ) STRICT;
    INSERT INTO quarantined SELECT (SELECT journal FROM about), sequence, reason, body FROM quarantine;
    DROP TABLE quarantine;
    CREATE TABLE carried (
        number INTEGER PRIMARY KEY,
        session TEXT NOT NULL,
        hash BLOB NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE predecessor (
        number INTEGER PRIMARY KEY,
        journal TEXT NOT NULL UNIQUE,
        acknowledged INTEGER NOT NULL DEFAULT 0,
        agreed INTEGER
    ) STRICT;
    """,
    # Copies of quarantined records that were given up (quarantine.py): the highest sequence of each journal, how many.
    """
    CREATE TABLE given_up_copies (
        journal TEXT PRIMARY KEY,
        through INTEGER NOT NULL,
        count INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)

CURRENT_VERSION: Final = len(MIGRATIONS)

# Measured: the default of 1000 pages lets 47 records into 256 KiB; 100 costs hardly more writes. On a tiny partition
# less still, an eighth of the room: a WAL that has taken the last of it can no longer be folded into the database.
WAL_PAGES = 100
FEWEST_WAL_PAGES = 8
PAGE_BYTES = 4096  # SQLite's default
WAL_BYTES = 512 * 1024
# Another program may look into the file for a moment; a second roamkey is stopped by the folder's lock before.
LOCK_WAIT_S = 0.25

_FULL = 13  # SQLITE_FULL
_BUSY = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
# The device, a permission or memory fails, the content may be good: PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL,
# CANTOPEN, AUTH. Everything else, also what Python raises without a code, says that the content is bad.
_NOT_THE_CONTENT = (3, 5, 6, 7, 8, 10, 13, 14, 23)
# A block that cannot be read (SQLITE_IOERR_READ, _SHORT_READ) is lost content, and comes again at each start.
_UNREADABLE_BLOCK = (266, 522)


def connect(path: Path, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """The one connection. EXCLUSIVE is set before the first access: then there is no -shm file (SIGBUS on full disks
    with 1 KiB blocks), no WAL-reset race of SQLite before 3.51.3, and no second writer."""
    database = sqlite3.connect(path, isolation_level=None, timeout=LOCK_WAIT_S, check_same_thread=check_same_thread)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA wal_autocheckpoint = {_wal_pages(path)}")
        database.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        database.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        database.close()
        raise
    return database


def _wal_pages(path: Path) -> int:
    room = os.statvfs(path.parent)
    return max(FEWEST_WAL_PAGES, min(WAL_PAGES, room.f_bavail * room.f_frsize // 8 // PAGE_BYTES))


def version_of(database: sqlite3.Connection) -> int:
    """0 is a file without tables. Raises JournalTooNew."""
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > CURRENT_VERSION:
        raise JournalTooNew(
            f"the journal has format {version}, this version of roamkey knows up to {CURRENT_VERSION}: "
            "install the newer version again"
        )
    return version


def migrate(database: sqlite3.Connection, version: int) -> None:
    """Bring the tables up to date; inside the caller's transaction, so that a crash leaves the old format."""
    for script in MIGRATIONS[version:]:
        for statement in filter(str.strip, script.split(";")):
            database.execute(statement)
    database.execute(f"PRAGMA user_version = {CURRENT_VERSION}")


def insert(database: sqlite3.Connection, entries: Sequence[tuple[Fact, Instant]], sealed: Sequence[Sealed]) -> None:
    """Records, and which sessions are open, in the caller's one transaction."""
    for (fact, now), one in zip(entries, sealed, strict=True):
        sealed_at = int(now.latest.timestamp())
        database.execute(
            "INSERT INTO record (sequence, type, subject, sealed_at, hash, body) VALUES (?, ?, ?, ?, ?, ?)",
            (one.sequence, TYPES[type(fact)], subject_of(fact), sealed_at, sha256(one.body).digest(), one.body),
        )
        match fact:
            case SessionAuthorised():
                database.execute("INSERT OR IGNORE INTO open_session VALUES (?, ?)", (fact.session, one.sequence))
            case SessionEnded():
                database.execute("DELETE FROM open_session WHERE session = ?", (fact.session,))
                database.execute("DELETE FROM carried WHERE session = ?", (fact.session,))
            case _:
                pass


def carry_over(database: sqlite3.Connection, through: int) -> None:
    """Before records are pruned: keep what open sessions are folded from, of meter values only the newest."""
    database.execute(
        "INSERT INTO carried (session, hash, body) SELECT subject, hash, body FROM record AS one "
        "WHERE sequence <= :through AND sequence >= (SELECT begun.sequence FROM open_session AS begun "
        "WHERE begun.session = one.subject) "
        "AND (type != :metered OR sequence = (SELECT max(sequence) FROM record AS newer "
        "WHERE newer.subject = one.subject AND newer.type = :metered AND newer.sequence <= :through)) "
        "ORDER BY sequence",
        {"through": through, "metered": TYPES[SessionMetered]},
    )


def is_full(error: sqlite3.Error) -> bool:
    return _code(error) & 0xFF == _FULL


def is_busy(error: sqlite3.Error) -> bool:
    return _code(error) & 0xFF in _BUSY


def is_damage(error: sqlite3.Error) -> bool:
    """The file's content is bad, as opposed to a device or a permission that fails."""
    return _code(error) in _UNREADABLE_BLOCK or _code(error) & 0xFF not in _NOT_THE_CONTENT


def _code(error: sqlite3.Error) -> int:
    """SQLite's extended code, 0 when the error is Python's own."""
    return int(getattr(error, "sqlite_errorcode", 0))
