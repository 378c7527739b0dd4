"""Claims and sessions side by side in a file of their own, so that memory does not grow with them.

The tables live in a temporary SQLite file that goes with the ledger. What is matched with what is reconciliation.py.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from agent.core.instants import EPOCH
from agent.core.networks import normalise_network
from agent.ocpi.claims import Claim
from agent.settlement.settled import Settled

MICRO: Final = Decimal(1_000_000)  # of money; and of kWh, which is mWh
MILLI: Final = Decimal(1000)
MOST: Final = 2**62
MANY: Final = 2_000
CACHE_KIB: Final = 16 * 1024

_SCHEMA = """
CREATE TABLE claim (
    n INTEGER PRIMARY KEY, key TEXT NOT NULL, party TEXT NOT NULL, id TEXT NOT NULL, session TEXT, reference TEXT,
    evse TEXT, start INTEGER, stop INTEGER, energy INTEGER, net INTEGER, gross INTEGER, currency TEXT,
    credit INTEGER NOT NULL, credits TEXT, created INTEGER, digest TEXT NOT NULL, lacking TEXT NOT NULL,
    state TEXT, beside TEXT
) STRICT;
CREATE TABLE ours (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL, decision TEXT NOT NULL, evse TEXT, network TEXT, start INTEGER,
    stop INTEGER NOT NULL, energy INTEGER NOT NULL, net INTEGER, gross INTEGER, currency TEXT,
    complete INTEGER NOT NULL, place TEXT NOT NULL
) STRICT;
"""
_INDEXES = """
CREATE INDEX claim_key ON claim (key);
CREATE INDEX ours_id ON ours (id);
CREATE INDEX ours_decision ON ours (decision);
CREATE INDEX ours_evse ON ours (evse, start);
CREATE INDEX ours_network ON ours (network, start);
"""


class Ledger:
    """`database` is open for whoever matches."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database

    def book_claims(self, claims: Iterable[Claim]) -> int:
        rows = (
            (
                key_of(each.party, each.id), each.party, each.id, _id(each.session), _id(each.reference), each.evse,
                _ms(each.start), _ms(each.end), _scaled(each.energy_kwh, MICRO), _scaled(each.net, MICRO),
                _scaled(each.gross, MICRO), each.currency, int(each.credit),
                None if each.credits is None else key_of(each.party, each.credits), _ms(each.created), each.digest,
                ", ".join(each.lacking),
            )
            for each in claims
        )  # fmt: skip
        return self._insert(
            "INSERT INTO claim (key, party, id, session, reference, evse, start, stop, energy, net, gross, currency, "
            "credit, credits, created, digest, lacking) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def book_sessions(self, sessions: Iterable[Settled]) -> int:
        """Only those in which anything was taken or billed: nobody sends a CDR for the others."""
        return self._insert(
            "INSERT INTO ours (id, decision, evse, network, start, stop, energy, net, gross, currency, complete, place)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_session_row(each) for each in sessions if each.ended.started),
        )

    def index(self) -> None:
        self.database.executescript(_INDEXES)
        self.database.execute("ANALYZE")

    def _insert(self, statement: str, rows: Iterable[tuple[object, ...]]) -> int:
        count, waiting = 0, []
        for row in rows:
            waiting.append(row)
            if len(waiting) >= MANY:
                self.database.executemany(statement, waiting)
                count += len(waiting)
                waiting.clear()
        self.database.executemany(statement, waiting)
        return count + len(waiting)


@contextmanager
def a_ledger(folder: Path | None = None) -> Iterator[Ledger]:
    """Gone afterwards, and nothing in it needs to survive a crash."""
    with tempfile.TemporaryDirectory(prefix="roamkey-reconcile-", dir=folder) as home:
        database = sqlite3.connect(Path(home) / "ledger.db", isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            database.executescript(_SCHEMA)
            database.execute("BEGIN")
            yield Ledger(database)
        finally:
            database.close()


def key_of(party: str, id: str) -> str:
    """OCPI ids are compared without case, and are unique within one party."""
    return f"{party}/{id}".upper()


def _session_row(one: Settled) -> tuple[object, ...]:
    ended = one.ended
    cost = ended.cost
    place = {"device": one.device, "journal": one.journal, "sequences": one.sequences}
    return (
        ended.session.upper(), ended.decision.upper(),
        None if ended.place.evse is None else normalise_network(ended.place.evse),
        None if ended.place.network is None else normalise_network(ended.place.network),
        _ms(ended.started_at), _ms(ended.ended_at), ended.energy_wh * 1000,
        None if cost is None else _scaled(cost.net, MICRO), None if cost is None else _scaled(cost.gross, MICRO),
        None if cost is None else cost.currency,
        int(ended.complete), json.dumps(place),
    )  # fmt: skip


def _id(text: str | None) -> str | None:
    return None if text is None else text.upper()


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int((moment.astimezone(UTC) - EPOCH).total_seconds() * 1000)


def _scaled(value: Decimal | None, by: Decimal) -> int | None:
    """SQLite's integers end at 2**63: what is more is no bill, and shows as a difference all the same."""
    return None if value is None else max(-MOST, min(MOST, round(value * by)))
