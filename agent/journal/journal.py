"""The journal: every fact, sealed, in sequence, durable on return. The outbox is a cursor over it.

One object, one thread, one connection; the shell gives it a thread of its own. Bytes are made in agent/wire.py, the
chain is judged in verification.py, damaged files are read in salvage.py.

Its folder holds `journal.db` (and its WAL), `journal.id` (the journal's id: tells an empty device from one that lost
its storage), `journal.running` (there while it is open: tells a clean stop), `ballast`, and journals that were moved
aside, `journal.db.corrupt-1` and so on, each with its readable records beside it as JSON Lines.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, Self

from agent.core.facts import (
    Checkpoint,
    Fact,
    SessionEnded,
    SessionFact,
    SessionInterrupted,
    SessionResumed,
    SessionStarted,
    SessionStopRequested,
)
from agent.core.instants import Instant
from agent.journal.ballast import BALLAST_BYTES, Ballast, free_bytes
from agent.journal.copies import copy_out
from agent.journal.errors import JournalError, StorageBroken, StorageFull
from agent.journal.folder import JournalFolder
from agent.journal.opening import chain, open_store, session_facts
from agent.journal.schema import PAGE_BYTES, insert, is_full
from agent.wire import CHECKPOINT_TYPE, Record, checkpoint_claims, hash_of, open_record, origin_of
from sync.ports import Head, Sealed

# What may use the ballast: sessions that already run must be able to end truthfully. A new session may not: it is
# refused while there is still room for the ends of the others. Meter values come again in the end's figures.
ESSENTIAL: Final = (SessionStarted, SessionStopRequested, SessionInterrupted, SessionResumed, SessionEnded)

# Deleted in one transaction, so that pruning never makes a tap wait; fewer where the WAL has no room for more.
PRUNE_RECORDS = (500, 50, 5)


class Signer(Protocol):
    """The device's key. The vault is one."""

    def sign(self, payload: Mapping[str, object], *, typ: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """For status and warnings. `tight`: no reserve is left, so new sessions should be refused."""

    journal: str
    records: int
    backlog: int
    quarantined: int
    open_sessions: int
    size_bytes: int
    free_bytes: int
    tight: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A record that the backend could not take: kept whole, for good."""

    sequence: int
    reason: str
    body: bytes


class Journal:
    """See the module. Made by `open`; every method may raise StorageBroken, after which only `close` is left."""

    def __init__(self, folder: JournalFolder, lock: int, database: sqlite3.Connection, head: Head, source: str) -> None:
        self._folder = folder
        self._lock = lock
        self._database = database
        self._head = head
        self._source = source
        self._ballast = Ballast(folder.ballast)
        self._broken = False

    @classmethod
    def open(cls, folder: Path, *, source: str, now: Instant, check_same_thread: bool = True) -> Self:
        """The journal of this folder, made if there is none. What was lost or damaged becomes a new journal, whose
        first record says so; it never stops the service."""
        origin_of(source)
        place = JournalFolder(folder)
        lock = place.claim()
        try:
            database, head = open_store(place, source=source, now=now, check_same_thread=check_same_thread)
        except BaseException:
            os.close(lock)
            raise
        journal = cls(place, lock, database, head, source)
        journal._ballast.restore(now.monotonic_ms)
        return journal

    def append(self, entries: Sequence[tuple[Fact, Instant]]) -> list[Sealed]:
        """All or none, in one transaction, durable on return. Raises StorageFull with nothing written."""
        if not entries:
            return []
        sealed = chain(entries, head=self._head, source=self._source)
        essential = any(isinstance(fact, ESSENTIAL) for fact, _ in entries)
        self._durably(lambda: insert(self._database, entries, sealed), essential=essential)
        # Only now: a head that was not committed must never be built upon.
        self._head = replace(self._head, last=sealed[-1].sequence, hash=hash_of(sealed[-1].body))
        self._ballast.restore(entries[-1][1].monotonic_ms)
        return sealed

    def seal_checkpoint(self, signer: Signer, now: Instant) -> Sealed:
        """Sign where the journal stands and append that: proof of everything before, without the whole log."""
        claims = checkpoint_claims(
            source=self._source, journal=self._head.journal, sequence=self._head.last, hash=self._head.hash
        )
        return self.append([(Checkpoint(jws=signer.sign(claims, typ=CHECKPOINT_TYPE)), now)])[0]

    def head(self) -> Head:
        return self._head

    def read(self, after: int, *, records: int, size_bytes: int) -> list[Sealed]:
        """Records after a sequence, in order; at least one if there is any, however large it is."""
        taken: list[Sealed] = []
        total = 0
        rows = "SELECT sequence, hash, body FROM record WHERE sequence > ? ORDER BY sequence LIMIT ?"
        for one in self._records(rows, (max(0, after), max(1, records))):
            total += len(one.body)
            if taken and total > size_bytes:
                break
            taken.append(one)
        return taken

    def hash_at(self, sequence: int) -> str | None:
        """None when the journal does not hold that record. The last pruned one is still known."""
        with self._reading() as database:
            row = database.execute("SELECT hash FROM record WHERE sequence = ?", (sequence,)).fetchone()
            if row is not None:
                return bytes(row[0]).hex()
            base, base_hash = database.execute("SELECT base_sequence, base_hash FROM about").fetchone()
        return str(base_hash) if sequence == base > 0 else None

    def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        """Durable on return; never moves back; deletes nothing. For another journal than this one it does nothing."""
        if journal != self._head.journal:
            return
        if through > self._head.last:
            raise JournalError(f"acknowledged up to {through}, but the journal ends at {self._head.last}")
        acknowledged = max(through, self._head.acknowledged)
        if acknowledged == self._head.acknowledged and not quarantined:
            return

        def work() -> None:
            self._database.execute("UPDATE about SET acknowledged = ?", (acknowledged,))
            self._database.executemany(
                "INSERT OR IGNORE INTO quarantine SELECT sequence, ?, body FROM record WHERE sequence = ?",
                [(reason, sequence) for sequence, reason in quarantined.items()],
            )

        # Essential too: what is acknowledged can be pruned, and pruning makes room.
        self._durably(work, essential=True)
        self._head = replace(self._head, acknowledged=acknowledged)

    def prune(self, *, keep: timedelta, now: Instant) -> int:
        """Delete acknowledged records older than `keep`, oldest first, a bounded number; returns how many.

        What is not acknowledged, the last record, and everything since the start of an open session stay. With a
        clock that cannot be trusted nothing is old. The hash of the last one deleted is kept: the chain goes on.
        """
        if not now.trusted:
            return 0
        for at_most in PRUNE_RECORDS:
            with suppress(StorageFull):
                return self._prune(int((now.utc - keep).timestamp()), at_most)
        raise StorageFull(f"not even room to prune the journal in {self._folder.path}: free some space there")

    def _prune(self, oldest_kept: int, at_most: int) -> int:
        with self._reading() as database:
            first_open = database.execute("SELECT min(sequence) FROM open_session").fetchone()[0]
            limit = min(self._head.acknowledged, self._head.last - 1, self._head.first + at_most - 1)
            limit = limit if first_open is None else min(limit, first_open - 1)
            young = database.execute(
                "SELECT sequence FROM record WHERE sequence <= ? AND sealed_at >= ? ORDER BY sequence LIMIT 1",
                (limit, oldest_kept),
            ).fetchone()
        through = limit if young is None else young[0] - 1
        base_hash = self.hash_at(through)
        if through < self._head.first or base_hash is None:
            return 0

        def work() -> None:
            self._database.execute("DELETE FROM record WHERE sequence <= ?", (through,))
            self._database.execute("UPDATE about SET base_sequence = ?, base_hash = ?", (through, base_hash))

        self._durably(work, essential=True)
        count = through - self._head.first + 1
        self._head = replace(self._head, first=through + 1)
        return count

    def open_sessions(self) -> list[list[SessionFact]]:
        """The facts of each session that was authorised and has not ended, in order: what a restart goes on with."""
        with self._reading() as database:
            names = [row[0] for row in database.execute("SELECT session FROM open_session ORDER BY sequence")]
        return [session_facts(self._bodies_of(name)) for name in names]

    def recent(self, kind: str | None = None, *, limit: int = 100, before: int | None = None) -> list[Record]:
        """The newest first, of one CloudEvents type or of all, optionally only those before a sequence."""
        rows = (
            "SELECT sequence, hash, body FROM record WHERE sequence < ? AND (? IS NULL OR type = ?) "
            "ORDER BY sequence DESC LIMIT ?"
        )
        end = self._head.last + 1 if before is None else before
        return [open_record(one.body) for one in self._records(rows, (end, kind, kind, limit))]

    def by_subject(self, subject: str) -> list[Record]:
        """Everything about one session or one decision, in order."""
        return [open_record(body) for body in self._bodies_of(subject)]

    def first_of(self, kind: str, *, after: int) -> int | None:
        """The sequence of the first record of this CloudEvents type behind another."""
        with self._reading() as database:
            row = database.execute(
                "SELECT sequence FROM record WHERE sequence > ? AND type = ? ORDER BY sequence LIMIT 1", (after, kind)
            ).fetchone()
        return None if row is None else int(row[0])

    def quarantined(self) -> list[Quarantined]:
        with self._reading() as database:
            rows = database.execute("SELECT sequence, reason, body FROM quarantine ORDER BY sequence").fetchall()
        return [Quarantined(sequence=row[0], reason=row[1], body=row[2]) for row in rows]

    def base(self) -> tuple[int, str]:
        """Sequence and hash of the record before the first one held: (0, GENESIS) until something was pruned."""
        with self._reading() as database:
            sequence, base_hash = database.execute("SELECT base_sequence, base_hash FROM about").fetchone()
        return int(sequence), str(base_hash)

    def export(self, target: Path) -> None:
        """A whole, consistent copy as one file that any SQLite opens. Refuses to overwrite."""
        self._usable()
        copy_out(self._database, target)

    def statistics(self) -> Statistics:
        with self._reading() as database:
            quarantined, open_count = database.execute(
                "SELECT (SELECT count(*) FROM quarantine), (SELECT count(*) FROM open_session)"
            ).fetchone()
        files = (self._folder.database, self._folder.wal)
        return Statistics(
            journal=self._head.journal,
            records=self._head.last - self._head.first + 1,
            backlog=self._head.last - self._head.acknowledged,
            quarantined=quarantined,
            open_sessions=open_count,
            size_bytes=sum(file.stat().st_size for file in files if file.exists()),
            free_bytes=free_bytes(self._folder.path),
            tight=self.tight,
        )

    @property
    def tight(self) -> bool:
        """No reserve is left, neither as ballast nor as pruned pages: new sessions should be refused."""
        if self._ballast.present:
            return False
        with self._reading() as database:
            spare_pages = database.execute("PRAGMA freelist_count").fetchone()[0]
        return bool(spare_pages * PAGE_BYTES < BALLAST_BYTES)

    def close(self) -> None:
        """After a failure the mark of an unclean stop stays, so that the next start checks everything."""
        with suppress(sqlite3.Error):
            self._database.close()
        if not self._broken:
            self._folder.mark_closed()
        with suppress(OSError):
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bodies_of(self, subject: str) -> list[bytes]:
        rows = "SELECT sequence, hash, body FROM record WHERE subject = ? ORDER BY sequence"
        return [one.body for one in self._records(rows, (subject,))]

    def _records(self, question: str, values: tuple[object, ...]) -> Iterator[Sealed]:
        """What was sealed and nothing else: SQLite does not notice when the disk turns a bit inside a row."""
        with self._reading() as database:
            for sequence, digest, body in database.execute(question, values):
                if sha256(body).digest() != digest:
                    raise self._damaged(f"record {sequence} is not what was sealed")
                yield Sealed(sequence=sequence, body=body)

    def _durably(self, work: Callable[[], None], *, essential: bool) -> None:
        """On a full disk: fold the WAL into the file, which frees pages, then for an essential fact the ballast."""
        for make_room in (self._fold, self._drop_ballast if essential else None, None):
            if self._written(work):
                return
            if make_room is None:
                break
            make_room()
        raise StorageFull(f"no room left for the journal in {self._folder.path}: free some space on this file system")

    def _written(self, work: Callable[[], None]) -> bool:
        """One transaction. False when there was no room, and then nothing happened."""
        self._usable()
        try:
            self._database.execute("BEGIN IMMEDIATE")
            work()
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            if is_full(error):
                return False
            raise self._failed(error) from error
        except BaseException:
            self._roll_back()
            raise
        return True

    def _roll_back(self) -> None:
        if not self._database.in_transaction:
            return
        try:
            self._database.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _fold(self) -> None:
        try:
            # Not TRUNCATE: the WAL keeps its blocks and starts over in them; a neighbour would take what we give back.
            self._database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.Error as error:
            if not is_full(error):
                raise self._failed(error) from error

    def _drop_ballast(self) -> None:
        if self._ballast.release():
            self._fold()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._usable()
        try:
            yield self._database
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _usable(self) -> None:
        if self._broken:
            raise StorageBroken(f"the journal in {self._folder.path} failed before: close it and open it again")

    def _failed(self, error: sqlite3.Error) -> StorageBroken:
        self._broken = True
        return StorageBroken(f"the journal in {self._folder.path} failed ({error}): open it again, which checks it")

    def _damaged(self, what: str) -> StorageBroken:
        self._broken = True
        return StorageBroken(f"the journal in {self._folder.path} is damaged: {what}; open it again, which salvages it")
