"""Journals of this device that came before the present one and still have something to say.

Two kinds: what was salvaged from a damaged file, and what the device wrote before it and the backend parted
(divergence.py). Each keeps its id, its sequences and its exact bytes, in a table of its own: nothing is merged. What
the backend lacks of them is delivered like the present journal's records; what could not be read is told as lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

from agent.journal.salvage import Found, readable
from sync.ports import Head

# One piece of an adoption: a few milliseconds, so that no tap waits for it.
ADOPT_RECORDS: Final = 200
# Holes told in one hello.
MOST_GAPS: Final = 500


@dataclass(slots=True)
class Adoption:
    """Taking the readable records of one file that was moved aside into tables, piece by piece."""

    file: Path
    source: str
    _bodies: Iterator[Found] = field(init=False)
    _piece: list[Found] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._bodies = readable(self.file, self.source)

    @property
    def piece(self) -> Sequence[Found]:
        """The same until `advance`; empty at the end."""
        if not self._piece:
            self._piece = list(islice(self._bodies, ADOPT_RECORDS))
        return self._piece

    def advance(self) -> None:
        self._piece = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """`agreed`: the backend has another continuation after this record, so only up to there is it offered."""

    number: int
    agreed: int | None
    head: Head

    @property
    def table(self) -> str:
        return table_of(self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was deleted of one journal: between `first` and `last`, both included, `count` records."""

    journal: str
    first: int
    last: int
    count: int


def table_of(number: int) -> str:
    return f"earlier_{int(number)}"


def adopt(database: sqlite3.Connection, piece: Sequence[Found]) -> None:
    """In the caller's transaction. What is there already stays."""
    for found in piece:
        database.execute(
            f"INSERT OR IGNORE INTO {_table_for(database, found.journal)} "
            "(sequence, type, subject, sealed_at, hash, body) VALUES (?, ?, ?, ?, ?, ?)",
            (
                found.sequence,
                found.type,
                found.subject,
                int(found.time.timestamp()),
                sha256(found.body).digest(),
                found.body,
            ),
        )


def inherit(database: sqlite3.Connection, parted: Sequence[tuple[str, int]]) -> None:
    """In the caller's transaction: of (journal, agreed), what the backend parted from is not offered again."""
    database.executemany("UPDATE predecessor SET agreed = ? WHERE journal = ?", [(each[1], each[0]) for each in parted])


def earlier_journals(database: sqlite3.Connection) -> list[Earlier]:
    """Oldest first."""
    rows = database.execute("SELECT number, journal, acknowledged, agreed FROM predecessor ORDER BY number").fetchall()
    found = (_earlier(database, *row) for row in rows)
    return [each for each in found if each is not None]


def read(earlier: Earlier, after: int, count: int) -> tuple[str, tuple[int, int, int]]:
    """The question for records after a sequence, and its values."""
    return (
        f"SELECT sequence, hash, body FROM {earlier.table} "
        "WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
        (after, earlier.head.last, count),
    )


def hash_at(database: sqlite3.Connection, earlier: Earlier, sequence: int) -> str | None:
    row = database.execute(f"SELECT hash FROM {earlier.table} WHERE sequence = ?", (sequence,)).fetchone()
    return bytes(row[0]).hex() if row is not None else None


def type_at(database: sqlite3.Connection, earlier: Earlier, sequence: int) -> str | None:
    row = database.execute(f"SELECT type FROM {earlier.table} WHERE sequence = ?", (sequence,)).fetchone()
    return str(row[0]) if row is not None else None


def acknowledge(database: sqlite3.Connection, earlier: Earlier, acknowledged: int) -> None:
    """In the caller's transaction."""
    database.execute("UPDATE predecessor SET acknowledged = ? WHERE number = ?", (acknowledged, earlier.number))


def prune(database: sqlite3.Connection, earlier: Earlier, oldest_kept: int | None, at_most: int) -> list[Pruned]:
    """In the caller's transaction: the oldest acknowledged ones, then what the backend parted from."""
    through = _prunable(database, earlier, oldest_kept, at_most)
    (first,) = database.execute(f"SELECT min(sequence) FROM {earlier.table}").fetchone()
    gone = database.execute(f"DELETE FROM {earlier.table} WHERE sequence <= ?", (through,)).rowcount
    left = database.execute(f"SELECT 1 FROM {earlier.table} LIMIT 1").fetchone()
    if left is None:
        database.execute(f"DROP TABLE {earlier.table}")
        database.execute("DELETE FROM predecessor WHERE number = ?", (earlier.number,))
    return [Pruned(journal=earlier.head.journal, first=first, last=through, count=gone)] if gone else []


def _prunable(database: sqlite3.Connection, earlier: Earlier, oldest_kept: int | None, at_most: int) -> int:
    rows = database.execute(
        f"SELECT sequence, sealed_at FROM {earlier.table} ORDER BY sequence LIMIT ?",
        (at_most,),
    )
    through = 0
    for sequence, sealed_at in rows:
        is_delivered = sequence <= earlier.head.acknowledged
        is_superseded = earlier.agreed is not None and sequence > earlier.agreed
        if not (is_delivered or is_superseded) or (oldest_kept is not None and sealed_at >= oldest_kept):
            break
        through = sequence
    return through


def _table_for(database: sqlite3.Connection, journal: str) -> str:
    row = database.execute("SELECT number FROM predecessor WHERE journal = ?", (journal,)).fetchone()
    if row is not None:
        return table_of(row[0])
    number = database.execute("INSERT INTO predecessor (journal) VALUES (?)", (journal,)).lastrowid
    table = table_of(number or 0)
    database.execute(
        f"CREATE TABLE {table} (sequence INTEGER PRIMARY KEY, type TEXT NOT NULL, subject TEXT, "
        "sealed_at INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL) STRICT"
    )
    return table


def _earlier(
    database: sqlite3.Connection, number: int, journal: str, acknowledged: int, agreed: int | None
) -> Earlier | None:
    table = table_of(number)
    end = 2**62 if agreed is None else agreed
    first, last = database.execute(
        f"SELECT (SELECT min(sequence) FROM {table}), (SELECT max(sequence) FROM {table} WHERE sequence <= ?)",
        (end,),
    ).fetchone()
    if first is None:
        return None
    if last is None:  # only what the backend parted from is left: kept, never offered
        return Earlier(
            number=number, agreed=agreed, head=Head(journal=journal, first=1, last=0, hash="", acknowledged=0)
        )
    (digest,) = database.execute(f"SELECT hash FROM {table} WHERE sequence = ?", (last,)).fetchone()
    head = Head(
        journal=journal,
        first=first,
        last=last,
        hash=bytes(digest).hex(),
        acknowledged=acknowledged,
        lost=_told_gaps(database, table, acknowledged, last),
    )
    return Earlier(number=number, agreed=agreed, head=head)


def _told_gaps(database: sqlite3.Connection, table: str, acknowledged: int, last: int) -> tuple[tuple[int, int], ...]:
    """All, or, where they are too many, the first ones behind what is acknowledged: the others' turn comes."""
    every = _gaps(database, table, 0, last)
    if len(every) <= MOST_GAPS:
        return every
    return _gaps(database, table, acknowledged, last)[:MOST_GAPS] or every[:MOST_GAPS]


def _gaps(database: sqlite3.Connection, table: str, after: int, last: int) -> tuple[tuple[int, int], ...]:
    rows = database.execute(
        "SELECT sequence, next FROM (SELECT sequence, lead(sequence) OVER (ORDER BY sequence) AS next "
        f"FROM {table} WHERE sequence BETWEEN coalesce((SELECT max(sequence) FROM {table} WHERE sequence <= ?), 0) "
        "AND ?) WHERE next > sequence + 1 ORDER BY sequence LIMIT ?",
        (after, last, MOST_GAPS + 1),
    )
    return tuple((sequence + 1, following - 1) for sequence, following in rows)
