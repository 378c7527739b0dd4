"""The backend's record store in SQLite: every record once, in chain, whatever the wire did.

Keyed by (device, journal, sequence). The first bytes that come for a sequence stay; other bytes for it are a fork,
kept beside and reported. Unreadable records are kept aside and count as handled, so that nothing waits behind them.
MQTT is in `sync.backend.receiver`; reading a line is in `sync.backend.records`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sync.backend.checkpoints import Coverage, Keys
from sync.backend.records import Record, Unreadable
from sync.messages import MAX_QUARANTINED, MAX_RANGES, Hello

GENESIS = "0" * 64
# A gap is asked for by ranges; looking further ahead than this would cost more than the next acknowledgement.
_LOOK_AHEAD_RECORDS = 5000
# Lines without a place, kept for a person to look at; a device cannot fill the disk with them.
_MOST_UNPLACED = 1000
_MOST_FORKS = 1000

_SCHEMA = """
CREATE TABLE streams (
    stream INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    journal TEXT NOT NULL,
    nonce TEXT NOT NULL DEFAULT '',
    through INTEGER NOT NULL DEFAULT 0,
    through_hash TEXT NOT NULL,
    duplicates INTEGER NOT NULL DEFAULT 0,
    UNIQUE (device, journal)
) STRICT;
CREATE TABLE records (
    stream INTEGER NOT NULL REFERENCES streams (stream),
    sequence INTEGER NOT NULL,
    hash TEXT NOT NULL,
    previous TEXT,
    id TEXT,
    body BLOB,
    quarantined TEXT,
    UNIQUE (stream, sequence)
) STRICT;
CREATE INDEX quarantined_records ON records (stream, sequence) WHERE quarantined IS NOT NULL;
CREATE TABLE lost (
    stream INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (stream, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE forks (
    stream INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    hash TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    seen INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (stream, sequence, hash)
) STRICT;
CREATE TABLE unplaced (
    device TEXT NOT NULL,
    hash TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    seen INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (device, hash)
) STRICT;
PRAGMA user_version = 2;
"""
# Version 1 kept bodies in the key's own tree (WITHOUT ROWID), where each took a page of its own beside it.
_FROM_VERSION_1 = """
ALTER TABLE records RENAME TO records_1;
DROP INDEX quarantined_records;
CREATE TABLE records (
    stream INTEGER NOT NULL REFERENCES streams (stream),
    sequence INTEGER NOT NULL,
    hash TEXT NOT NULL,
    previous TEXT,
    id TEXT,
    body BLOB,
    quarantined TEXT,
    UNIQUE (stream, sequence)
) STRICT;
INSERT INTO records SELECT stream, sequence, hash, previous, id, body, quarantined FROM records_1;
DROP TABLE records_1;
CREATE INDEX quarantined_records ON records (stream, sequence) WHERE quarantined IS NOT NULL;
PRAGMA user_version = 2;
"""

# From each older version to this one.
_SCRIPTS = {0: _SCHEMA, 1: _FROM_VERSION_1}
_VERSION = 2
# 16 MB: at SQLite's default a drain would wait for the database's own fsync after every few thousand records.
_WAL_PAGES = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One batch as it came from one device, its lines read, in the order of the wire."""

    device: str
    lines: tuple[Record | Unreadable, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """Where one journal of one device stands, durably."""

    device: str
    journal: str
    nonce: str
    through: int
    hash: str
    missing: tuple[tuple[int, int], ...] = ()
    # The next sequence came with bytes that do not continue what is held here.
    fork: int | None = None
    quarantined: Mapping[int, str] = field(default_factory=dict)
    # Of the marks in a hello, the newest that is the same here; 0 when none is, None when none were told.
    agreed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAudit:
    """What is in the store for one journal, judged from the rows themselves."""

    device: str
    journal: str
    stored: int
    distinct_ids: int
    first: int
    last: int
    through: int
    gaps: tuple[tuple[int, int], ...]
    declared_lost: tuple[tuple[int, int], ...]
    forks: int
    chain_ok: bool
    duplicates_on_wire: int
    quarantined: Mapping[int, str]
    # Ranges that no checkpoint of the device's own key covers (yet); None when its key is not known here.
    unsigned: tuple[tuple[int, int], ...] | None = None
    bad_checkpoints: tuple[int, ...] = ()


class Store:
    """One writer. Everything given to one call is one transaction; on return it is durable."""

    def __init__(self, path: Path) -> None:
        # The receiver calls from a worker thread, one call at a time.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA busy_timeout = 5000")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version in _SCRIPTS:
                self._db.executescript(f"BEGIN IMMEDIATE;\n{_SCRIPTS[version]}\nCOMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(
                    f"{path} has schema version {version}; this program knows {_VERSION}: use the program that wrote it"
                )
        except sqlite3.Error:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def take(self, deliveries: Sequence[Delivery]) -> list[StreamState]:
        """Store what is new, count what is not, and say where each touched journal stands."""
        with self._transaction():
            touched: dict[int, bool] = {}
            for delivery in deliveries:
                whole = self._take_whole(delivery)
                if whole is not None:
                    touched[whole] = True
                    continue
                for stream, is_gap_possible in self._take_one(delivery):
                    touched[stream] = touched.get(stream, False) or is_gap_possible
            for stream in touched:
                self._advance(stream)
            return [self._state(stream) for stream in touched]

    def greet(self, device: str, hello: Hello) -> StreamState:
        """Note what a device holds, and answer with what is held here."""
        with self._transaction():
            stream = self._stream(device, hello.journal)
            self._db.execute("UPDATE streams SET nonce = ? WHERE stream = ?", (hello.nonce, stream))
            for sequence, record in hello.withheld.items():
                self._db.execute(
                    "INSERT OR IGNORE INTO records (stream, sequence, hash, quarantined) VALUES (?, ?, ?, ?)",
                    (stream, sequence, record.hash, record.reason),
                )
            self._declare_lost(stream, hello)
            self._advance(stream)
            return replace(self._state(stream), agreed=self._newest_agreed(stream, hello.marks))

    def states(self) -> list[StreamState]:
        rows = self._db.execute("SELECT stream FROM streams ORDER BY stream").fetchall()
        return [self._state(stream) for (stream,) in rows]

    def journals(self) -> list[tuple[str, str]]:
        """(device, journal) of all that ever came, devices in order, each one's journals as they began."""
        return self._db.execute("SELECT device, journal FROM streams ORDER BY device, stream").fetchall()

    def body(self, device: str, journal: str, sequence: int) -> bytes | None:
        """One record's exact bytes; None when it is not here, or quarantined."""
        row = self._db.execute(
            "SELECT body FROM records JOIN streams USING (stream) "
            "WHERE device = ? AND journal = ? AND sequence = ? AND quarantined IS NULL",
            (device, journal, sequence),
        ).fetchone()
        return None if row is None else row[0]

    def bodies(self, device: str, journal: str) -> Iterator[bytes]:
        """The stored records' exact bytes, in order; quarantined ones are left out."""
        for (body,) in self._db.execute(
            "SELECT body FROM records JOIN streams USING (stream) "
            "WHERE device = ? AND journal = ? AND quarantined IS NULL ORDER BY sequence",
            (device, journal),
        ):
            yield body

    def count(self) -> int:
        """How many records are stored, without judging them: cheap enough to ask every second."""
        (stored,) = self._db.execute("SELECT count(*) FROM records WHERE quarantined IS NULL").fetchone()
        return int(stored)

    def unplaced(self) -> dict[str, int]:
        """How many unreadable payloads without a known place are kept, by device."""
        return dict(self._db.execute("SELECT device, count(*) FROM unplaced GROUP BY device").fetchall())

    def audit(self, keys: Callable[[str], Keys | None] = lambda device: None) -> list[StreamAudit]:
        """`keys` knows the public keys of a device, if anybody told them: only then its checkpoints can be judged."""
        rows = self._db.execute(
            "SELECT stream, device, journal, through, duplicates FROM streams ORDER BY device, stream"
        ).fetchall()
        return [self._audit(*row, keys=keys(row[1])) for row in rows]

    # Taking

    def _take_whole(self, delivery: Delivery) -> int | None:
        """The journal's stream, when a batch is what it nearly always is: readable records of one journal, one after
        the other, none of them here yet. Nothing is stored otherwise: `_take_one` looks at each line then."""
        lines = delivery.lines
        records = [line for line in lines if isinstance(line, Record)]
        if not records or len(records) != len(lines):
            return None
        journal, first = records[0].journal, records[0].sequence
        if any(each.sequence != first + at or each.journal != journal for at, each in enumerate(records)):
            return None
        stream = self._stream(delivery.device, journal)
        taken = self._db.execute(
            "SELECT 1 FROM records WHERE stream = ? AND sequence BETWEEN ? AND ? LIMIT 1",
            (stream, first, first + len(records) - 1),
        ).fetchone()
        if taken is not None or self._unplaced_hashes(delivery.device):
            return None
        self._db.executemany(
            "INSERT INTO records (stream, sequence, hash, previous, id, body) VALUES (?, ?, ?, ?, ?, ?)",
            [(stream, each.sequence, each.hash, each.previous, each.id, each.body) for each in records],
        )
        return stream

    def _take_one(self, delivery: Delivery) -> Iterator[tuple[int, bool]]:
        streams: dict[str, int] = {}
        places = _places(delivery.lines)
        waiting = self._unplaced_hashes(delivery.device)
        for at, line in enumerate(delivery.lines):
            journal, sequence = places.get(at, (line.journal, line.sequence))
            if isinstance(line, Unreadable) and (journal is None or sequence is None):
                self._keep_unplaced(delivery.device, line)
                waiting.add(line.hash)
            if journal is None or sequence is None:
                continue
            if journal not in streams:
                streams[journal] = self._stream(delivery.device, journal)
            stream = streams[journal]
            yield stream, self._insert(stream, sequence, line)
            if waiting and line.previous in waiting and sequence > 1:
                self._place(delivery.device, stream, sequence - 1, line.previous)

    def _insert(self, stream: int, sequence: int, line: Record | Unreadable) -> bool:
        """Whether the line is stored now. A sequence that is there already is never overwritten."""
        id: str | None
        previous: str | None
        reason: str | None
        match line:
            case Record(id=id, previous=previous):
                reason = None
            case Unreadable(reason=reason):
                # What it says of its predecessor is as doubtful as the rest.
                id, previous = None, None
        inserted = self._db.execute(
            "INSERT OR IGNORE INTO records (stream, sequence, hash, previous, id, body, quarantined) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (stream, sequence, line.hash, previous, id, line.body, reason),
        )
        if inserted.rowcount == 1:
            return True
        held, body = self._db.execute(
            "SELECT hash, body FROM records WHERE stream = ? AND sequence = ?", (stream, sequence)
        ).fetchone()
        if body is None and reason is None:
            # Withheld once, arrived after all. A hello only claims a hash; the record itself is what counts.
            self._db.execute(
                "UPDATE records SET hash = ?, previous = ?, id = ?, body = ?, quarantined = NULL "
                "WHERE stream = ? AND sequence = ?",
                (line.hash, previous, id, line.body, stream, sequence),
            )
            if held != line.hash:
                self._go_back_to(stream, sequence - 1)
        elif held != line.hash:
            self._keep_fork(stream, sequence, line.hash, line.body, "another record has this sequence")
        else:
            self._db.execute("UPDATE streams SET duplicates = duplicates + 1 WHERE stream = ?", (stream,))
        return False

    def _advance(self, stream: int) -> None:
        """Move `through` over the contiguous, chained prefix."""
        through, hash = self._db.execute(
            "SELECT through, through_hash FROM streams WHERE stream = ?", (stream,)
        ).fetchone()
        before = through
        lost = dict(self._db.execute("SELECT first, last FROM lost WHERE stream = ?", (stream,)).fetchall())
        broken = None
        rows = self._db.execute(
            "SELECT sequence, hash, previous FROM records WHERE stream = ? AND sequence > ? ORDER BY sequence",
            (stream, through),
        )
        for sequence, row_hash, previous in rows:
            while through + 1 in lost and sequence > through + 1:
                through, hash = lost[through + 1], ""
            if sequence <= through:
                continue
            if sequence != through + 1:
                break
            if hash and previous is not None and previous != hash:
                broken = sequence
                break
            through, hash = sequence, row_hash
        rows.close()
        while through + 1 in lost:
            through, hash = lost[through + 1], ""
        if broken is not None:
            self._set_aside_as_fork(stream, broken)
        if through != before:
            self._db.execute(
                "UPDATE streams SET through = ?, through_hash = ? WHERE stream = ?", (through, hash, stream)
            )

    def _declare_lost(self, stream: int, hello: Hello) -> None:
        """What a device no longer holds and never delivered is a declared gap; a later hello may correct it."""
        gone = [(1, hello.first - 1), *hello.lost]
        declared = self._db.execute("SELECT first, last FROM lost WHERE stream = ?", (stream,)).fetchall()
        # A device may have more holes than it tells at once; that there are any at all, it always tells.
        wrong = [low for low, high in declared if high >= hello.first and (low <= hello.first or not hello.lost)]
        if wrong:
            self._db.executemany("DELETE FROM lost WHERE stream = ? AND first = ?", [(stream, low) for low in wrong])
            self._go_back_to(stream, min(wrong) - 1)
        self._advance(stream)
        (through,) = self._db.execute("SELECT through FROM streams WHERE stream = ?", (stream,)).fetchone()
        for first, last in gone:
            for low, high in self._missing_between(stream, max(through, first - 1), last + 1):
                self._db.execute("INSERT OR REPLACE INTO lost VALUES (?, ?, ?)", (stream, low, high))

    def _newest_agreed(self, stream: int, marks: Mapping[int, str]) -> int | None:
        same = [
            sequence
            for sequence, hash in marks.items()
            if self._db.execute(
                "SELECT 1 FROM records WHERE stream = ? AND sequence = ? AND hash = ?", (stream, sequence, hash)
            ).fetchone()
        ]
        return max(same, default=0) if marks else None

    def _go_back_to(self, stream: int, through: int) -> None:
        """Judge the chain again from there; nothing that is stored is touched."""
        held = self._db.execute(
            "SELECT hash FROM records WHERE stream = ? AND sequence = ?", (stream, through)
        ).fetchone()
        hash = held[0] if held else (GENESIS if through == 0 else "")
        self._db.execute(
            "UPDATE streams SET through = ?, through_hash = ? WHERE stream = ? AND through > ?",
            (through, hash, stream, through),
        )

    def _missing_between(self, stream: int, after: int, before: int) -> list[tuple[int, int]]:
        rows = self._db.execute(
            "SELECT sequence FROM records WHERE stream = ? AND sequence > ? AND sequence < ? ORDER BY sequence",
            (stream, after, before),
        ).fetchall()
        return _gaps((sequence for (sequence,) in rows), after=after, before=before)

    def _stream(self, device: str, journal: str) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO streams (device, journal, through_hash) VALUES (?, ?, ?)",
            (device, journal, GENESIS),
        )
        row = self._db.execute(
            "SELECT stream FROM streams WHERE device = ? AND journal = ?", (device, journal)
        ).fetchone()
        return int(row[0])

    def _state(self, stream: int) -> StreamState:
        device, journal, nonce, through, hash = self._db.execute(
            "SELECT device, journal, nonce, through, through_hash FROM streams WHERE stream = ?", (stream,)
        ).fetchone()
        ahead = self._db.execute(
            "SELECT sequence FROM records WHERE stream = ? AND sequence > ? ORDER BY sequence LIMIT ?",
            (stream, through, _LOOK_AHEAD_RECORDS),
        ).fetchall()
        quarantined = self._db.execute(
            "SELECT sequence, quarantined FROM records INDEXED BY quarantined_records "
            "WHERE stream = ? AND quarantined IS NOT NULL AND sequence <= ? ORDER BY sequence DESC LIMIT ?",
            (stream, through, MAX_QUARANTINED),
        ).fetchall()
        missing: list[tuple[int, int]] = []
        fork = through + 1 if self._is_forked(stream, through + 1) else None
        if ahead and fork is None:
            missing = _gaps((at for (at,) in ahead), after=through, before=ahead[-1][0])[:MAX_RANGES]
            # A line without a place can be placed by its successor: ask for that one as well.
            if self._unplaced_hashes(device):
                missing = [(first, last + 1) for first, last in missing]
        return StreamState(
            device=device,
            journal=journal,
            nonce=nonce,
            through=through,
            hash="" if through == 0 else hash,
            missing=tuple(missing),
            fork=fork,
            quarantined=dict(reversed(quarantined)),
        )

    # Forks and lines without a place

    def _keep_fork(self, stream: int, sequence: int, hash: str, body: bytes, reason: str) -> None:
        (kept,) = self._db.execute("SELECT count(*) FROM forks WHERE stream = ?", (stream,)).fetchone()
        if kept < _MOST_FORKS:
            self._db.execute(
                "INSERT INTO forks (stream, sequence, hash, reason, body) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET seen = seen + 1",
                (stream, sequence, hash, reason, body),
            )

    def _set_aside_as_fork(self, stream: int, sequence: int) -> None:
        hash, body = self._db.execute(
            "SELECT hash, body FROM records WHERE stream = ? AND sequence = ?", (stream, sequence)
        ).fetchone()
        self._keep_fork(stream, sequence, hash, body or b"", "its previous hash is not that of the record before")
        self._db.execute("DELETE FROM records WHERE stream = ? AND sequence = ?", (stream, sequence))

    def _is_forked(self, stream: int, sequence: int) -> bool:
        row = self._db.execute(
            "SELECT 1 FROM forks WHERE stream = ? AND sequence = ? LIMIT 1", (stream, sequence)
        ).fetchone()
        return row is not None

    def _unplaced_hashes(self, device: str) -> set[str]:
        rows = self._db.execute("SELECT hash FROM unplaced WHERE device = ?", (device,)).fetchall()
        return {hash for (hash,) in rows}

    def _keep_unplaced(self, device: str, line: Unreadable) -> None:
        (kept,) = self._db.execute("SELECT count(*) FROM unplaced WHERE device = ?", (device,)).fetchone()
        if kept < _MOST_UNPLACED:
            self._db.execute(
                "INSERT INTO unplaced (device, hash, reason, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET seen = seen + 1",
                (device, line.hash, line.reason, line.body),
            )

    def _place(self, device: str, stream: int, sequence: int, hash: str) -> None:
        """The record after it names its hash: now it is known where the unreadable line belongs."""
        reason, body = self._db.execute(
            "SELECT reason, body FROM unplaced WHERE device = ? AND hash = ?", (device, hash)
        ).fetchone()
        self._db.execute(
            "INSERT OR IGNORE INTO records (stream, sequence, hash, body, quarantined) VALUES (?, ?, ?, ?, ?)",
            (stream, sequence, hash, body, reason),
        )
        self._db.execute("DELETE FROM unplaced WHERE device = ? AND hash = ?", (device, hash))

    # Auditing

    def _audit(
        self, stream: int, device: str, journal: str, through: int, duplicates: int, *, keys: Keys | None
    ) -> StreamAudit:
        lost = self._db.execute("SELECT first, last FROM lost WHERE stream = ? ORDER BY first", (stream,)).fetchall()
        (forks,) = self._db.execute("SELECT count(*) FROM forks WHERE stream = ?", (stream,)).fetchone()
        ids: set[str] = set()
        sequences: list[int] = []
        quarantined: dict[int, str] = {}
        before, before_hash, chain_ok = 0, GENESIS, True
        coverage = None if keys is None else Coverage(keys=keys)
        for sequence, hash, previous, id, body, reason in self._db.execute(
            "SELECT sequence, hash, previous, id, body, quarantined FROM records WHERE stream = ? ORDER BY sequence",
            (stream,),
        ):
            sequences.append(sequence)
            if reason is None:
                ids.add(id)
            else:
                quarantined[sequence] = reason
            if body is not None and hashlib.sha256(body).hexdigest() != hash:
                chain_ok = False
            if sequence == before + 1 and previous is not None and previous != before_hash:
                chain_ok = False
            if coverage is not None:
                coverage.take(sequence, body, continues=sequence == before + 1 and previous == before_hash)
            before, before_hash = sequence, hash
        last = sequences[-1] if sequences else 0
        return StreamAudit(
            device=device,
            journal=journal,
            stored=len(sequences) - len(quarantined),
            distinct_ids=len(ids),
            first=sequences[0] if sequences else 0,
            last=last,
            through=through,
            gaps=tuple(_gaps(iter(sequences), after=0, before=last)),
            declared_lost=tuple(lost),
            forks=forks,
            chain_ok=chain_ok,
            duplicates_on_wire=duplicates,
            quarantined=quarantined,
            unsigned=None if coverage is None else coverage.ranges(),
            bad_checkpoints=() if coverage is None else tuple(coverage.bad),
        )

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """BEGIN IMMEDIATE ... COMMIT; anything raised inside rolls back."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _places(lines: Sequence[Record | Unreadable]) -> dict[int, tuple[str, int]]:
    """Where unreadable lines belong, from their neighbours: a batch is one contiguous range of one journal."""
    anchors = {(line.journal, line.sequence - at) for at, line in enumerate(lines) if isinstance(line, Record)}
    if len(anchors) != 1:
        return {}
    ((journal, offset),) = anchors
    return {
        at: (journal, offset + at) for at, line in enumerate(lines) if isinstance(line, Unreadable) and offset + at >= 1
    }


def _gaps(sequences: Iterable[int], *, after: int, before: int) -> list[tuple[int, int]]:
    """The ranges missing between `after` and `before`, both exclusive."""
    gaps = []
    for sequence in sequences:
        if sequence > after + 1:
            gaps.append((after + 1, sequence - 1))
        after = sequence
    if before > after + 1:
        gaps.append((after + 1, before - 1))
    return gaps
