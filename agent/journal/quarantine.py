"""Whole copies of the records that the backend could not take, kept when the records themselves are pruned.

They are bounded (KEPT_COPIES in space.py): beyond that the oldest go, and stay counted. What was given up of a journal
is remembered as one number, so that an old acknowledgement that comes again brings nothing back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from agent.journal.earlier import Pruned

# A row's own bytes: journal id, sequence, its entry in the index.
ROW_BYTES: Final = 120
# Trimmed so far below the bound that the next copies do not at once exceed it again.
TRIMMED_TO: Final = 0.8

_HELD = f"coalesce(sum(length(body) + length(reason) + {ROW_BYTES}), 0)"


def keep(database: sqlite3.Connection, *, journal: str, table: str, reasons: Mapping[int, str]) -> None:
    """In the caller's transaction: copies of these records, as far as they are in the table and not kept before."""
    database.executemany(
        "INSERT OR IGNORE INTO quarantined (journal, sequence, reason, body) "
        f"SELECT :journal, sequence, :reason, body FROM {table} WHERE sequence = :sequence "
        "AND sequence > coalesce((SELECT through FROM given_up_copies WHERE journal = :journal), 0)",
        [{"journal": journal, "sequence": sequence, "reason": reason} for sequence, reason in reasons.items()],
    )


def trim(database: sqlite3.Connection, *, most_bytes: int, at_most: int) -> list[Pruned]:
    """In the caller's transaction: where the copies exceed their bound the oldest go; which, by journal."""
    surplus = int(database.execute(f"SELECT {_HELD} FROM quarantined").fetchone()[0]) - most_bytes
    if surplus <= 0:
        return []
    surplus += int(most_bytes * (1 - TRIMMED_TO))
    gone: dict[str, list[int]] = {}
    last = 0
    oldest = (
        f"SELECT rowid, journal, sequence, length(body) + length(reason) + {ROW_BYTES} FROM quarantined "
        "ORDER BY rowid LIMIT ?"
    )
    for row, journal, sequence, size in database.execute(oldest, (at_most,)):
        gone.setdefault(journal, []).append(sequence)
        last, surplus = row, surplus - size
        if surplus <= 0:
            break
    database.execute("DELETE FROM quarantined WHERE rowid <= ?", (last,))
    pruned = [
        Pruned(journal=journal, first=min(sequences), last=max(sequences), count=len(sequences))
        for journal, sequences in gone.items()
    ]
    database.executemany(
        "INSERT INTO given_up_copies (journal, through, count) VALUES (?, ?, ?) ON CONFLICT (journal) DO UPDATE "
        "SET through = max(through, excluded.through), count = count + excluded.count",
        [(each.journal, each.last, each.count) for each in pruned],
    )
    return pruned


def total(database: sqlite3.Connection) -> int:
    """All that were ever quarantined here, also those whose copies were given up."""
    row = database.execute(
        "SELECT (SELECT count(*) FROM quarantined) + (SELECT coalesce(sum(count), 0) FROM given_up_copies)"
    ).fetchone()
    return int(row[0])
