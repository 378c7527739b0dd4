"""Open the journal of a folder: go on with the one that is there, or begin a new one and say why.

A new journal gets a new id, so that nothing is ever merged in silence. Reasons, as in the first record:
`created`, `storage lost` (the device has a history, its journal has not), `corrupt` (moved aside, readable records
counted and delivered under the old id, sessions still open carried over), `device changed` (the file is another
device's: a swapped card). A fifth, `diverged`, comes while the journal is open (divergence.py).
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256

from agent.core.facts import Fact, JournalOpened, SessionFact
from agent.core.instants import Instant
from agent.files import sync_folder
from agent.journal.errors import AlreadyRunning, StorageBroken, StorageFull
from agent.journal.folder import JournalFolder
from agent.journal.salvage import Survey, survey
from agent.journal.schema import (
    CURRENT_VERSION,
    connect,
    insert,
    is_busy,
    is_damage,
    is_full,
    migrate,
    version_of,
)
from agent.wire import GENESIS, Unreadable, hash_of, open_record, seal
from sync.ports import Head, Sealed


class State(StrEnum):
    """What stands in the file."""

    GOOD = "good"
    EMPTY = "empty"
    CORRUPT = "corrupt"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Why a journal begins, and what of the one before it is taken along."""

    reason: str
    predecessor: str | None = None
    salvaged: int | None = None
    carried: tuple[SessionFact, ...] = ()
    tail: Mapping[tuple[str, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """`tail`: hashes of the newest records that were salvaged just now, by (journal, sequence)."""

    database: sqlite3.Connection
    head: Head
    tail: Mapping[tuple[str, int], str] = field(default_factory=dict)


def open_store(folder: JournalFolder, *, source: str, now: Instant, check_same_thread: bool) -> Opened:
    """The folder is claimed by the caller. Raises only when the device, the room or a permission fails."""
    database, state, head = _look(folder, source, check_same_thread)
    if database is not None and head is not None:
        folder.mark_open(head.journal)
        return Opened(database=database, head=head)
    folder.adopt_again()
    beginning = _beginning(folder, source, state, head)
    database = _connect(folder, check_same_thread)
    try:
        head = _begin(folder, database, beginning, source, now)
    except BaseException:
        database.close()
        raise
    folder.mark_open(head.journal)
    return Opened(database=database, head=head, tail=beginning.tail)


def chain(entries: Iterable[tuple[Fact, Instant]], *, head: Head, source: str) -> list[Sealed]:
    """Seal facts one after the other behind the head, each with the instant at which it was seen."""
    sealed: list[Sealed] = []
    sequence, previous = head.last, head.hash or GENESIS
    for fact, now in entries:
        sequence += 1
        body = seal(fact, sequence=sequence, previous=previous, journal=head.journal, source=source, now=now)
        previous = hash_of(body)
        sealed.append(Sealed(sequence=sequence, body=body))
    return sealed


def session_facts(bodies: Iterable[bytes]) -> list[SessionFact]:
    """Those that a session is folded from. One that cannot be read (a newer version's) must not stop a start."""
    facts: list[SessionFact] = []
    for body in bodies:
        with suppress(Unreadable):
            fact = open_record(body).fact
            if isinstance(fact, SessionFact):
                facts.append(fact)
    return facts


def _look(
    folder: JournalFolder, source: str, check_same_thread: bool
) -> tuple[sqlite3.Connection | None, State, Head | None]:
    """An open connection only if the journal is good; the head also when it is another device's."""
    thorough = folder.stopped_uncleanly()
    database: sqlite3.Connection | None = None
    state, head, good = State.CORRUPT, None, False
    try:
        database = connect(folder.database, check_same_thread=check_same_thread)
        state, head = _judged(database, source, thorough=thorough)
        good = state is State.GOOD
    except sqlite3.Error as error:
        if not is_damage(error):
            raise _refused(folder, error) from error
    finally:
        if database is not None and not good:
            with suppress(sqlite3.Error):
                database.close()
    return (database if good else None), state, head


def _judged(database: sqlite3.Connection, source: str, *, thorough: bool) -> tuple[State, Head | None]:
    version = version_of(database)
    if version == 0:
        tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        return (State.CORRUPT if tables else State.EMPTY), None
    if thorough and not _sound(database, version):
        return State.CORRUPT, None
    if version < CURRENT_VERSION:
        database.execute("BEGIN IMMEDIATE")
        migrate(database, version)
        database.execute("COMMIT")
    about = database.execute("SELECT journal, source, acknowledged, base_sequence FROM about").fetchone()
    first, last = database.execute(
        "SELECT (SELECT min(sequence) FROM record), (SELECT max(sequence) FROM record)"
    ).fetchone()
    if about is None or last is None or first != about[3] + 1:
        return State.CORRUPT, None
    digest, body = database.execute("SELECT hash, body FROM record WHERE sequence = ?", (last,)).fetchone()
    if sha256(body).digest() != digest:
        return State.CORRUPT, None
    head = Head(journal=about[0], first=first, last=last, hash=digest.hex(), acknowledged=about[2])
    return (State.GOOD if about[1] == source else State.FOREIGN), head


def _sound(database: sqlite3.Connection, version: int) -> bool:
    """SQLite's own check, then each record against its hash: SQLite keeps no checksum of what it stores."""
    if database.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
        return False
    others = database.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'earlier_[0-9]*'").fetchall()
    for table in ("carried", *(name for (name,) in others)):
        if version >= 2 and any(
            sha256(body).digest() != digest for digest, body in database.execute(f"SELECT hash, body FROM {table}")
        ):
            return False
    expected = database.execute("SELECT base_sequence FROM about").fetchone()[0]
    for sequence, digest, body in database.execute("SELECT sequence, hash, body FROM record ORDER BY sequence"):
        expected += 1
        if sequence != expected or sha256(body).digest() != digest:
            return False
    return True


def _beginning(folder: JournalFolder, source: str, state: State, head: Head | None) -> Beginning:
    match state:
        case State.EMPTY:
            reason = "storage lost" if folder.has_history() else "created"
            return _unfinished(folder, source) or Beginning(reason=reason, predecessor=folder.known_journal())
        case State.FOREIGN:
            folder.move_aside("foreign")
            return Beginning(reason="device changed", predecessor=head.journal if head else None)
        case State.CORRUPT | State.GOOD:
            return _salvaged(folder, source)


def _salvaged(folder: JournalFolder, source: str) -> Beginning:
    """The readable records are taken over later, piece by piece (earlier.py); here they are only looked at."""
    return _after(survey(folder.move_aside("corrupt"), source), folder.known_journal())


def _unfinished(folder: JournalFolder, source: str) -> Beginning | None:
    """A salvage that was killed, or found no room, before its new journal began: the file stands aside already, and
    the folder's mark still names the journal in it. Its open sessions must not be forgotten for that."""
    aside = folder.newest_damaged()
    if aside is None:
        return None
    found = survey(aside, source)
    known = folder.known_journal()
    return _after(found, known) if found.journal is not None and known in (None, found.journal) else None


def _after(found: Survey, predecessor: str | None) -> Beginning:
    return Beginning(
        reason="corrupt",
        predecessor=predecessor or found.journal,
        salvaged=found.records,
        carried=found.still_open,
        tail=found.tail,
    )


def _begin(
    folder: JournalFolder, database: sqlite3.Connection, beginning: Beginning, source: str, now: Instant
) -> Head:
    """Tables and first records in one transaction: after a crash there is a whole journal or none."""
    opened = JournalOpened(reason=beginning.reason, predecessor=beginning.predecessor, salvaged=beginning.salvaged)
    entries: list[tuple[Fact, Instant]] = [(fact, now) for fact in (opened, *beginning.carried)]
    empty = Head(journal=str(uuid.uuid4()), first=1, last=0, hash="", acknowledged=0)
    sealed = chain(entries, head=empty, source=source)
    try:
        try:
            _write_first(database, empty.journal, source, entries, sealed)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            folder.ballast.unlink(missing_ok=True)
            sync_folder(folder.path)
            _write_first(database, empty.journal, source, entries, sealed)
    except sqlite3.Error as error:
        raise _refused(folder, error) from error
    return replace(empty, last=sealed[-1].sequence, hash=hash_of(sealed[-1].body))


def _write_first(
    database: sqlite3.Connection,
    journal: str,
    source: str,
    entries: Sequence[tuple[Fact, Instant]],
    sealed: Sequence[Sealed],
) -> None:
    try:
        database.execute("BEGIN IMMEDIATE")
        migrate(database, 0)
        database.execute(
            "INSERT INTO about (only, journal, source, base_hash) VALUES (1, ?, ?, ?)", (journal, source, GENESIS)
        )
        insert(database, entries, sealed)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _connect(folder: JournalFolder, check_same_thread: bool) -> sqlite3.Connection:
    try:
        return connect(folder.database, check_same_thread=check_same_thread)
    except sqlite3.Error as error:
        raise _refused(folder, error) from error


def _refused(folder: JournalFolder, error: sqlite3.Error) -> Exception:
    if is_full(error):
        return StorageFull(f"no room to open the journal in {folder.path}: free some space on this file system")
    if is_busy(error):
        return AlreadyRunning(f"{folder.database} is open in another program: close that first")
    return StorageBroken(f"{folder.database} cannot be opened ({error}): check the device and the permissions")
