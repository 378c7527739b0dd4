"""The journal: every fact, sealed, in sequence, durable on return. The outbox is a cursor over it.

One object, one thread, one connection; the shell gives it a thread of its own. Bytes are made in agent/wire.py, the
chain is judged in verification.py, damaged files are read in salvage.py.

Its folder holds `journal.db` (and its WAL), `journal.id` (the journal's id: tells an empty device from one that lost
its storage), `journal.running` (there while it is open: tells a clean stop), `ballast`, and journals that were moved
aside: `journal.db.corrupt-1` until its readable records are in tables here (earlier.py), then `journal.db.adopted-1`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Final, Protocol, Self

from agent.core.facts import (
    Checkpoint,
    Fact,
    GivenUp,
    RecordsGivenUp,
    SessionEnded,
    SessionFact,
    SessionInterrupted,
    SessionResumed,
    SessionStarted,
    SessionStopRequested,
)
from agent.core.instants import Instant
from agent.journal import earlier, quarantine
from agent.journal.ballast import BALLAST_BYTES, Ballast, free_bytes
from agent.journal.copies import copy_out
from agent.journal.divergence import part_ways
from agent.journal.earlier import Adoption, Earlier, Pruned
from agent.journal.errors import JournalError, StorageBroken, StorageFull
from agent.journal.folder import JournalFolder
from agent.journal.opening import Opened, chain, open_store, session_facts
from agent.journal.salvage import parted
from agent.journal.schema import PAGE_BYTES, carry_over, insert, is_full
from agent.journal.space import KEPT_COPIES, MAX_BYTES, RESERVE, Space
from agent.wire import CHECKPOINT_TYPE, Record, checkpoint_claims, hash_of, open_record, origin_of
from sync.ports import Head, Sealed

# What may use the ballast: sessions that already run must be able to end truthfully. A new session may not: it is
# refused while there is still room for the ends of the others. Meter values come again in the end's figures.
ESSENTIAL: Final = (SessionStarted, SessionStopRequested, SessionInterrupted, SessionResumed, SessionEnded)

# Journals named to the backend at once, the present one among them.
MOST_HEADS: Final = 8

# Deleted in one transaction, so that pruning never makes a tap wait; fewer where the WAL has no room for more.
PRUNE_RECORDS = (500, 50, 5)
# Fewer are not given up before their time: the record that tells it would take their place.
FEWEST_RELIEVED: Final = 5


class Signer(Protocol):
    """The device's key. The vault is one."""

    def sign(self, payload: Mapping[str, object], *, typ: str) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """For status and warnings. `tight`: no reserve is left, so new sessions should be refused. `quarantined` counts all
    that ever were, also those whose copies were given up.

    `backlog` counts what the backend has not acknowledged, also of the `earlier_journals`.
    """

    journal: str
    records: int
    backlog: int
    earlier_journals: int
    quarantined: int
    open_sessions: int
    size_bytes: int
    max_bytes: int
    free_bytes: int
    tight: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A record that the backend could not take: kept whole while there is room for it (quarantine.py)."""

    journal: str
    sequence: int
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Telling:
    """How a deletion before its time is recorded."""

    what: GivenUp
    why: str
    now: Instant

    def entry(self, gone: Pruned) -> tuple[Fact, Instant]:
        fact = RecordsGivenUp(
            what=self.what,
            journal=gone.journal,
            first=gone.first,
            last=gone.last,
            count=gone.count,
            reason=self.why,
        )
        return fact, self.now


class Journal:
    """See the module. Made by `open`; every method may raise StorageBroken, after which only `close` is left."""

    def __init__(self, folder: JournalFolder, lock: int, opened: Opened, source: str, max_bytes: int) -> None:
        self._folder = folder
        self._lock = lock
        self._database = opened.database
        self._head = opened.head
        self._source = source
        self._max_pages = max(1, max_bytes // PAGE_BYTES)
        self._ballast = Ballast(folder.ballast)
        self._broken = False
        self._salvaged_tail = opened.tail
        self._adoption: Adoption | None = None
        self._adopts = folder.to_adopt() is not None
        self._earlier_known: list[Earlier] | None = None
        self._reserve_is_open = False
        self._keep_reserve()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        source: str,
        now: Instant,
        max_bytes: int = MAX_BYTES,
        check_same_thread: bool = True,
    ) -> Self:
        """The journal of this folder, made if there is none. What was lost or damaged becomes a new journal, whose
        first record says so; it never stops the service. The database file stays below `max_bytes`."""
        origin_of(source)
        place = JournalFolder(folder)
        lock = place.claim()
        try:
            opened = open_store(place, source=source, now=now, check_same_thread=check_same_thread)
        except BaseException:
            os.close(lock)
            raise
        journal = cls(place, lock, opened, source, max_bytes)
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

    def heads(self) -> list[Head]:
        """The present journal, then earlier ones with records that the backend may lack, those to deliver first."""
        known = [each.head for each in self._earlier() if each.head.last]
        known.sort(key=lambda head: head.acknowledged >= head.last)
        return [self._head, *known[: MOST_HEADS - 1]]

    def read(self, after: int, *, records: int, size_bytes: int, journal: str | None = None) -> list[Sealed]:
        """Records after a sequence, in order; at least one if there is any, however large it is."""
        taken: list[Sealed] = []
        total = 0
        after, records = max(0, after), max(1, records)
        rows = "SELECT sequence, hash, body FROM record WHERE sequence > ? ORDER BY sequence LIMIT ?"
        values: tuple[int, ...] = (after, records)
        if journal is not None and journal != self._head.journal:
            one_before = self._earlier_named(journal)
            if one_before is None:
                return []
            rows, values = earlier.read(one_before, after, records)
        for one in self._records(rows, values):
            total += len(one.body)
            if taken and total > size_bytes:
                break
            taken.append(one)
        return taken

    def hash_at(self, sequence: int, *, journal: str | None = None) -> str | None:
        """None when the journal does not hold that record. The last pruned one is still known."""
        with self._reading() as database:
            if journal is not None and journal != self._head.journal:
                one_before = self._earlier_named(journal)
                return earlier.hash_at(database, one_before, sequence) if one_before is not None else None
            row = database.execute("SELECT hash FROM record WHERE sequence = ?", (sequence,)).fetchone()
            if row is not None:
                return bytes(row[0]).hex()
            base, base_hash = database.execute("SELECT base_sequence, base_hash FROM about").fetchone()
        return str(base_hash) if sequence == base > 0 else None

    def type_at(self, sequence: int, *, journal: str) -> str | None:
        """The CloudEvents type of a record that is held here."""
        with self._reading() as database:
            if journal != self._head.journal:
                one_before = self._earlier_named(journal)
                return earlier.type_at(database, one_before, sequence) if one_before is not None else None
            row = database.execute("SELECT type FROM record WHERE sequence = ?", (sequence,)).fetchone()
        return str(row[0]) if row is not None else None

    def acknowledge(self, *, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        """Durable on return; never moves back; deletes nothing. For a journal that is not known it does nothing."""
        if journal != self._head.journal:
            self._acknowledge_earlier(journal, through, quarantined)
            return
        if through > self._head.last:
            raise JournalError(f"acknowledged up to {through}, but the journal ends at {self._head.last}")
        acknowledged = max(through, self._head.acknowledged)
        if acknowledged == self._head.acknowledged and not quarantined:
            return

        def work() -> None:
            self._database.execute("UPDATE about SET acknowledged = ?", (acknowledged,))
            quarantine.keep(self._database, journal=journal, table="record", reasons=quarantined)

        # Essential too: what is acknowledged can be pruned, and pruning makes room.
        self._durably(work, essential=True)
        self._head = replace(self._head, acknowledged=acknowledged)

    def _acknowledge_earlier(self, journal: str, through: int, quarantined: Mapping[int, str]) -> None:
        """The backend may have more of it than could be read here: then all of it is delivered."""
        one = self._earlier_named(journal)
        if one is None:
            return
        acknowledged = max(min(through, one.head.last), one.head.acknowledged)
        if acknowledged == one.head.acknowledged and not quarantined:
            return

        def work() -> None:
            earlier.acknowledge(self._database, one, acknowledged)
            quarantine.keep(self._database, journal=journal, table=one.table, reasons=quarantined)

        self._durably(work, essential=True)
        self._earlier_known = None

    def adopt(self) -> bool:
        """Take a bounded piece of what can be read in a damaged file into tables; False when there is nothing to take.

        An earlier journal is delivered once all of it is here: before that it is not known what of it is lost.
        """
        if self._adoption is None:
            file = self._folder.to_adopt()
            if file is None:
                return False
            self._adoption = Adoption(file, self._source)
        adoption = self._adoption
        if adoption.piece:
            # A full journal that was damaged must fit beside the new one, or it could never be delivered.
            self._reserve_is_open = True
            self._limit_pages(2 * self._max_pages)
            self._durably(lambda: earlier.adopt(self._database, adoption.piece), essential=False)
            adoption.advance()
            return True
        before = parted(adoption.file)
        if before:
            self._durably(lambda: earlier.inherit(self._database, before), essential=False)
        self._folder.mark_adopted(adoption.file)
        self._adoption = None
        self._adopts = self._folder.to_adopt() is not None
        self._earlier_known = None
        return True

    def diverge(self, *, journal: str, agreed: int, now: Instant) -> bool:
        """The backend holds another record after `agreed`: go on under a new id (divergence.py).

        False when it is about another journal, or about a record that this one never reached: then nothing happens.
        """
        agreed = max(agreed, self._head.first - 1)
        if journal != self._head.journal or agreed > self._head.last:
            return False
        heads: list[Head] = []

        def work() -> None:
            heads.append(part_ways(self._database, self._head, agreed=agreed, source=self._source, now=now))

        self._durably(work, essential=True)
        self._head = heads[-1]
        self._earlier_known = None
        self._folder.mark_open(self._head.journal)
        return True

    def holds(self, record: Sealed, *, journal: str) -> bool:
        """Whether exactly this record is durable: here, or among what was salvaged when the journal was opened."""
        wanted = hash_of(record.body)
        if self._salvaged_tail.get((journal, record.sequence)) == wanted:
            return True
        return record.sequence <= self._head.last and self.hash_at(record.sequence, journal=journal) == wanted

    def sealed_next(self, entries: Sequence[tuple[Fact, Instant]]) -> list[Sealed]:
        """What `append` would store now: the same entries give the same bytes."""
        return chain(entries, head=self._head, source=self._source)

    def prune(self, *, keep: timedelta, now: Instant) -> int:
        """Delete acknowledged records older than `keep`, oldest first, a bounded number; returns how many.

        What is not acknowledged, the last record, and everything since the start of an open session stay. With a
        clock that cannot be trusted nothing is old. The hash of the last one deleted is kept: the chain goes on.
        """
        if not now.trusted:
            return 0
        return self._pruned(int((now.utc - keep).timestamp()), None)

    def relieve(self, *, now: Instant) -> int:
        """Under pressure: delete what may go before its time, a bounded number; how many. A record made in the same
        transaction tells what and why.

        First copies of quarantined records beyond their share, then acknowledged records, oldest first, however young.
        What an open session needs to go on after a restart is kept apart, so that it cannot hold up everything.
        """
        space = self.space()
        why = f"little room: {space.in_words}"
        most_bytes = int(space.room_bytes * KEPT_COPIES)
        copies = self._delete(
            lambda: quarantine.trim(self._database, most_bytes=most_bytes, at_most=PRUNE_RECORDS[0]),
            _Telling(what=GivenUp.COPIES, why=why, now=now),
        )
        return copies or self._pruned(None, _Telling(what=GivenUp.ACKNOWLEDGED, why=why, now=now))

    def _pruned(self, oldest_kept: int | None, telling: _Telling | None) -> int:
        for at_most in PRUNE_RECORDS:
            with suppress(StorageFull):
                count = self._prune_earlier(oldest_kept, at_most, telling)
                count = count or self._prune(oldest_kept, at_most, telling)
                return count or self._folder.remove_adopted(older_than_s=oldest_kept)
        raise StorageFull(f"not even room to prune the journal in {self._folder.path}: free some space there")

    def _prune_earlier(self, oldest_kept: int | None, at_most: int, telling: _Telling | None) -> int:
        if self._adopts:
            return 0
        count = 0
        for one in self._earlier():
            count += self._delete(partial(earlier.prune, self._database, one, oldest_kept, at_most), telling)
        if count:
            self._earlier_known = None
        return count

    def _delete(self, work: Callable[[], list[Pruned]], telling: _Telling | None) -> int:
        """In one transaction with the records that tell it; how many."""
        gone: list[Pruned] = []
        told: list[Sealed] = []

        def both() -> None:
            gone[:] = work()
            entries = [] if telling is None else [telling.entry(each) for each in gone]
            told[:] = chain(entries, head=self._head, source=self._source)
            insert(self._database, entries, told)

        self._durably(both, essential=True)
        if told:
            self._head = replace(self._head, last=told[-1].sequence, hash=hash_of(told[-1].body))
        return sum(each.count for each in gone)

    def _prune(self, oldest_kept: int | None, at_most: int, telling: _Telling | None) -> int:
        with self._reading() as database:
            first_open = database.execute("SELECT min(sequence) FROM open_session").fetchone()[0]
            limit = min(self._head.acknowledged, self._head.last - 1, self._head.first + at_most - 1)
            young = None
            if oldest_kept is not None:
                limit = limit if first_open is None else min(limit, first_open - 1)
                young = database.execute(
                    "SELECT sequence FROM record WHERE sequence <= ? AND sealed_at >= ? ORDER BY sequence LIMIT 1",
                    (limit, oldest_kept),
                ).fetchone()
        through = limit if young is None else young[0] - 1
        base_hash = self.hash_at(through)
        first, count = self._head.first, through - self._head.first + 1
        if count < (1 if telling is None else FEWEST_RELIEVED) or base_hash is None:
            return 0

        def work() -> list[Pruned]:
            carry_over(self._database, through)
            self._database.execute("DELETE FROM record WHERE sequence <= ?", (through,))
            self._database.execute("UPDATE about SET base_sequence = ?, base_hash = ?", (through, base_hash))
            return [Pruned(journal=self._head.journal, first=first, last=through, count=count)]

        self._delete(work, telling)
        self._head = replace(self._head, first=through + 1)
        return count

    def open_sessions(self) -> list[list[SessionFact]]:
        """The facts of each session that was authorised and has not ended, in order: what a restart goes on with."""
        with self._reading() as database:
            names = [row[0] for row in database.execute("SELECT session FROM open_session ORDER BY sequence")]
        return [session_facts([*self._carried_of(name), *self._bodies_of(name)]) for name in names]

    def open_session_names(self) -> frozenset[str]:
        with self._reading() as database:
            return frozenset(row[0] for row in database.execute("SELECT session FROM open_session"))

    def backlog(self) -> int:
        """What the backend has not acknowledged, also of earlier journals."""
        heads = [self._head, *(each.head for each in self._earlier())]
        return sum(max(0, head.last - head.acknowledged) for head in heads)

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

    def of_kinds(self, subject: str, *kinds: str) -> list[Record]:
        """The same, but only records of these CloudEvents types: a long session has thousands of samples."""
        rows = (
            "SELECT sequence, hash, body FROM record WHERE subject = ? "
            "AND type IN (SELECT value FROM json_each(?)) ORDER BY sequence"
        )
        return [open_record(one.body) for one in self._records(rows, (subject, json.dumps(kinds)))]

    def first_of(self, kind: str, *, after: int) -> int | None:
        """The sequence of the first record of this CloudEvents type behind another."""
        with self._reading() as database:
            row = database.execute(
                "SELECT sequence FROM record WHERE sequence > ? AND type = ? ORDER BY sequence LIMIT 1", (after, kind)
            ).fetchone()
        return None if row is None else int(row[0])

    def quarantined(self) -> list[Quarantined]:
        with self._reading() as database:
            rows = database.execute(
                "SELECT journal, sequence, reason, body FROM quarantined ORDER BY journal, sequence"
            ).fetchall()
        return [Quarantined(journal=row[0], sequence=row[1], reason=row[2], body=row[3]) for row in rows]

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
            open_count = database.execute("SELECT count(*) FROM open_session").fetchone()[0]
            quarantined = quarantine.total(database)
        files = (self._folder.database, self._folder.wal)
        return Statistics(
            journal=self._head.journal,
            records=self._head.last - self._head.first + 1,
            backlog=self.backlog(),
            earlier_journals=len(self._earlier()),
            quarantined=quarantined,
            open_sessions=open_count,
            size_bytes=sum(file.stat().st_size for file in files if file.exists()),
            max_bytes=self._max_pages * PAGE_BYTES,
            free_bytes=free_bytes(self._folder.path),
            tight=self.tight,
        )

    def regain_reserve(self, monotonic_ms: int) -> None:
        """Somebody may have made room while nothing was written; to be asked now and then."""
        self._ballast.restore(monotonic_ms)

    @property
    def tight(self) -> bool:
        """No reserve is left, neither as ballast nor as pruned pages: new sessions should be refused."""
        if self._ballast.present:
            return False
        _, spare = self._pages()
        return spare * PAGE_BYTES < BALLAST_BYTES

    def space(self) -> Space:
        """Pages that pruning freed are room: the file never shrinks, it is filled again."""
        pages, spare = self._pages()
        used = pages - spare
        room = min(self._max_pages, pages + free_bytes(self._folder.path) // PAGE_BYTES)
        return Space(used_bytes=used * PAGE_BYTES, room_bytes=room * PAGE_BYTES, no_reserve=self.tight)

    def _pages(self) -> tuple[int, int]:
        """(all pages of the file, those that are free inside it)"""
        with self._reading() as database:
            pages = database.execute("PRAGMA page_count").fetchone()[0]
            spare = database.execute("PRAGMA freelist_count").fetchone()[0]
        return int(pages), int(spare)

    def close(self) -> None:
        """After a failure the mark of an unclean stop stays, so that the next start checks everything."""
        with suppress(sqlite3.Error):
            self._database.close()
        if not self._broken:
            self._folder.mark_closed()
        lock, self._lock = self._lock, -1  # a number closed twice may be somebody else's by then
        with suppress(OSError):
            os.close(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bodies_of(self, subject: str) -> list[bytes]:
        rows = "SELECT sequence, hash, body FROM record WHERE subject = ? ORDER BY sequence"
        return [one.body for one in self._records(rows, (subject,))]

    def _carried_of(self, session: str) -> list[bytes]:
        rows = "SELECT number, hash, body FROM carried WHERE session = ? ORDER BY number"
        return [one.body for one in self._records(rows, (session,))]

    def _earlier(self) -> list[Earlier]:
        """None of them while a damaged file is being taken over: what of it is lost is not known before."""
        if self._adopts:
            return []
        if self._earlier_known is None:
            with self._reading() as database:
                self._earlier_known = earlier.earlier_journals(database)
        return self._earlier_known

    def _earlier_named(self, journal: str) -> Earlier | None:
        return next((each for each in self._earlier() if each.head.journal == journal), None)

    def _records(self, question: str, values: tuple[object, ...]) -> Iterator[Sealed]:
        """What was sealed and nothing else: SQLite does not notice when the disk turns a bit inside a row."""
        with self._reading() as database:
            for sequence, digest, body in database.execute(question, values):
                if sha256(body).digest() != digest:
                    raise self._damaged(f"record {sequence} is not what was sealed")
                yield Sealed(sequence=sequence, body=body)

    def _durably(self, work: Callable[[], None], *, essential: bool) -> None:
        """On a full disk: fold the WAL into the file, which frees pages, then for an essential fact the reserves."""
        try:
            if self._written(work):
                return
            self._fold()
            if self._written(work):
                return
            while essential and self._release_reserves():
                if self._written(work):
                    return
        finally:
            if self._reserve_is_open and not self._broken:
                self._keep_reserve()
        raise StorageFull(self._full())

    def _full(self) -> str:
        if self._pages()[0] >= self._bound(RESERVE):
            return (
                f"the journal in {self._folder.path} has reached its bound of {self._max_pages * PAGE_BYTES} bytes: "
                "bring the backend back, or raise max_bytes in [journal]"
            )
        return f"no room left for the journal in {self._folder.path}: free some space on this file system"

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

    def _release_reserves(self) -> bool:
        """The last part of the bound, and a piece of the ballast where the disk is full. False when all is given."""
        at_the_bound = self._pages()[0] >= self._bound(RESERVE)
        was_open, self._reserve_is_open = self._reserve_is_open, True
        self._limit_pages(self._max_pages)
        if not at_the_bound and self._ballast.release():
            self._fold()
            return True
        return not was_open

    def _keep_reserve(self) -> None:
        self._reserve_is_open = False
        self._limit_pages(self._bound(RESERVE))

    def _bound(self, reserve: float) -> int:
        return max(1, ceil(self._max_pages * (1 - reserve)))

    def _limit_pages(self, pages: int) -> None:
        """SQLite itself then says SQLITE_FULL. A file that is larger already keeps its size."""
        try:
            self._database.execute(f"PRAGMA max_page_count = {int(pages)}").fetchone()
        except sqlite3.Error as error:
            raise self._failed(error) from error

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
