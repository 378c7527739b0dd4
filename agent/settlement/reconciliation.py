"""Which of a network's claims is for which of the fleet's sessions, and where the two differ.

The steps, each over the ledger's tables, none dependent on the order in which anything came:
 1. The same CDR twice counts once; other figures under the same id are a dispute.
 2. A Credit CDR and the one that it takes back cancel each other, if it takes back all of it; the corrected one is a
    claim like any other. A second credit of the same CDR is a duplicate.
 3. A claim that names our session, or our decision as its authorisation, belongs to it.
 4. Else: the same EVSE, begun within the window, and at the same time or of the same energy. A claim without an EVSE
    must be of the same network, and agree in both. The nearest pairs come first (a second counts as a Wh),
    then what was made first, then ids.
 5. A claim for an EVSE and a start that have their claim already asks for it a second time.
 6. What is left: charges that we know nothing of, and sessions that nobody has billed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from agent.settlement.ledger import MICRO, MILLI, Ledger
from agent.settlement.tolerances import Tolerances

DAY_MS: Final = 24 * 3600 * 1000


class Outcome(StrEnum):
    MATCHED = "matched"
    PRICE_DIFFERS = "price differs"
    ENERGY_DIFFERS = "energy differs"
    TIME_DIFFERS = "time differs"
    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"
    DUPLICATE = "duplicate"
    CREDITED = "credited"


# What a person has to look at.
DISPUTES: Final = frozenset(Outcome) - {Outcome.MATCHED, Outcome.CREDITED}


class Note(StrEnum):
    LATE = "late"
    INCOMPLETE_CLAIM = "incomplete"
    INCOMPLETE_SESSION = "our end was not seen"
    UNPRICED = "no price of ours"
    OTHER_FIGURES = "other figures under the same id"
    CREDIT_WITHOUT_CDR = "credit of a CDR that is not here"
    CREDIT_OF_OTHER_SUM = "takes back another sum than was claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`theirs` - `ours`, in the unit that is named."""

    what: str
    ours: Decimal
    theirs: Decimal
    unit: str

    @property
    def difference(self) -> Decimal:
        return self.theirs - self.ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One claim, one session, or both. The first of `outcomes` is the gravest; `place` is where our records are."""

    outcomes: tuple[Outcome, ...]
    claim: str | None = None
    session: str | None = None
    beside: str | None = None
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    place: str | None = None

    @property
    def outcome(self) -> Outcome:
        return self.outcomes[0]

    @property
    def is_dispute(self) -> bool:
        return self.outcome in DISPUTES


def reconcile(ledger: Ledger, tolerances: Tolerances) -> Iterator[Case]:
    """Claims by party and id, then the sessions that nobody billed, by their id."""
    database = ledger.database
    ledger.index()
    _set_aside_repeated(database)
    _set_aside_credited(database)
    _pair_by_name(database)
    _name_duplicates(database)
    _pair_by_place(database, tolerances)
    yield from _cases_of_claims(database, tolerances)
    for id, place, complete in database.execute(
        "SELECT o.id, o.place, o.complete FROM ours AS o LEFT JOIN pair ON pair.o = o.n WHERE pair.o IS NULL "
        "ORDER BY o.id"
    ):
        notes = () if complete else (Note.INCOMPLETE_SESSION.value,)
        yield Case(outcomes=(Outcome.MISSING_THERE,), session=id.lower(), place=place, notes=notes)


def _set_aside_repeated(database: sqlite3.Connection) -> None:
    """Of several under one id the first made counts; the digest decides where they do not say when."""
    database.execute(
        "UPDATE claim SET state = CASE WHEN claim.digest = first.digest THEN 'repeated' ELSE 'other figures' END, "
        "beside = claim.key FROM (SELECT key, digest, n FROM (SELECT key, digest, n, row_number() OVER "
        "(PARTITION BY key ORDER BY ifnull(created, 0), digest, n) AS rank FROM claim) WHERE rank = 1) AS first "
        "WHERE claim.key = first.key AND claim.n != first.n"
    )


def _set_aside_credited(database: sqlite3.Connection) -> None:
    database.execute(
        "UPDATE claim SET state = 'credited', beside = credit.key FROM "
        "(SELECT min(key) AS key, credits FROM claim WHERE credit = 1 AND state IS NULL GROUP BY credits) AS credit "
        "WHERE claim.key = credit.credits AND claim.credit = 0 AND claim.state IS NULL"
    )
    database.execute(
        "UPDATE claim SET beside = credits, state = ifnull((SELECT "
        "CASE WHEN original.beside = claim.key THEN 'credit' ELSE 'second' END FROM claim AS original WHERE "
        "original.key = claim.credits AND original.state = 'credited'), 'credit of nothing') "
        "WHERE credit = 1 AND state IS NULL"
    )


def _pair_by_name(database: sqlite3.Connection) -> None:
    database.execute("CREATE TEMP TABLE pair (c INTEGER UNIQUE, o INTEGER UNIQUE)")
    for names in _NAMES:
        database.execute(
            "INSERT OR IGNORE INTO pair SELECT c.n, o.n FROM claim AS c JOIN ours AS o ON "
            f"{names('c', 'o')} WHERE c.state IS NULL ORDER BY ifnull(c.created, 0), c.key, o.id"
        )


_NAMES: Final[tuple[Callable[[str, str], str], ...]] = (
    lambda claim, ours: f"{claim}.session = {ours}.id",
    lambda claim, ours: f"{claim}.reference = {ours}.id",
    lambda claim, ours: f"{claim}.reference = {ours}.decision",
)
_OVERLAP = "(c.start <= o.stop + :time AND ifnull(c.stop, c.start) >= o.start - :time)"
_LIKE = "abs(c.energy - o.energy) <= max(:energy, o.energy * :percent / 100.0)"
# Starts in ms and energies in mWh: a second counts as a Wh. What is unknown counts as the whole window.
_FAR = (
    "ifnull(abs(c.start - o.start), ifnull(abs(c.stop - o.stop), :window)) + ifnull(abs(c.energy - o.energy), :window)"
)
_AWAY = "ifnull(abs(c.start - o.start), abs(c.stop - o.stop)) > :time"
_FREE = "c.state IS NULL AND c.n NOT IN (SELECT c FROM pair) AND o.n NOT IN (SELECT o FROM pair)"
_CANDIDATE = f"SELECT c.n, o.n, ifnull(c.created, 0), c.key, o.id, {_AWAY}, {_FAR} FROM claim AS c JOIN ours AS o"
_SAME_EVSE = (
    f"{_CANDIDATE} ON o.evse = c.evse AND o.start BETWEEN ifnull(c.start, c.stop - :longest) - :window "
    "AND ifnull(c.start, c.stop) + :window "
    f"WHERE c.evse IS NOT NULL AND ({_OVERLAP} OR {_LIKE} OR c.energy IS NULL) AND {_FREE}"
)
_SAME_NETWORK = (
    f"{_CANDIDATE} ON o.network = c.party AND o.start BETWEEN c.start - :time AND c.start + :time AND {_LIKE} "
    f"WHERE c.evse IS NULL AND {_FREE}"
)


def _pair_by_place(database: sqlite3.Connection, tolerances: Tolerances) -> None:
    """Those of the same time first; then what asks for one of these again is named, before the others look further."""
    bounds = _bounds(tolerances)
    database.execute(
        "CREATE TEMP TABLE near (c INTEGER, o INTEGER, made INTEGER, key TEXT, id TEXT, away INTEGER, far INTEGER)"
    )
    for candidates in (_SAME_EVSE, _SAME_NETWORK):
        database.execute(f"INSERT INTO near {candidates}", bounds)
    database.execute("CREATE INDEX nearest ON near (away, far, made, key, id)")
    taken_c, taken_o = _flags(database, "claim"), _flags(database, "ours")
    for away in (0, 1):
        for c, o in database.execute("SELECT c, o FROM near WHERE away = ? ORDER BY far, made, key, id", (away,)):
            if not taken_c[c] and not taken_o[o]:
                taken_c[c] = taken_o[o] = 1
                database.execute("INSERT INTO pair VALUES (?, ?)", (c, o))
        for (c,) in database.execute(_SECOND_AT_PLACE, bounds).fetchall():
            taken_c[c] = 1


# A session that has its claim, and another claim for the same EVSE and start.
_SECOND_AT_PLACE = (
    "UPDATE claim SET state = 'second', beside = taken.key FROM "
    "(SELECT o.evse, o.start, min(first.key) AS key FROM pair JOIN ours AS o ON o.n = pair.o "
    "JOIN claim AS first ON first.n = pair.c GROUP BY o.evse, o.start) AS taken "
    "WHERE claim.state IS NULL AND claim.n NOT IN (SELECT c FROM pair) AND taken.evse = claim.evse "
    "AND taken.start BETWEEN claim.start - :time AND claim.start + :time RETURNING claim.n"
)


def _name_duplicates(database: sqlite3.Connection) -> None:
    """Who names a session that another one names, too."""
    for names in _NAMES:
        database.execute(
            "UPDATE claim SET state = 'second', beside = taken.key FROM (SELECT o.id, o.decision, first.key FROM pair "
            "JOIN ours AS o ON o.n = pair.o JOIN claim AS first ON first.n = pair.c) AS taken "
            f"WHERE claim.state IS NULL AND claim.n NOT IN (SELECT c FROM pair) AND {names('claim', 'taken')}"
        )


def _bounds(tolerances: Tolerances) -> Mapping[str, float]:
    return {
        "window": tolerances.window_s * 1000,
        "longest": 7 * DAY_MS,
        "time": tolerances.time_s * 1000,
        "energy": tolerances.energy_wh * 1000,
        "percent": float(tolerances.energy_percent),
    }


def _flags(database: sqlite3.Connection, table: str) -> bytearray:
    """Who has been paired by name: a byte for each row, whatever their number."""
    (most,) = database.execute(f"SELECT ifnull(max(n), 0) FROM {table}").fetchone()
    flags = bytearray(most + 1)
    column = "c" if table == "claim" else "o"
    for (n,) in database.execute(f"SELECT {column} FROM pair"):
        flags[n] = 1
    return flags


_CLAIMS = (
    "SELECT c.key, c.state, c.beside, c.lacking, c.start, c.stop, c.energy, c.net, c.gross, c.currency, c.created, "
    "o.id, o.start, o.stop, o.energy, o.net, o.gross, o.currency, o.complete, o.place "
    "FROM claim AS c LEFT JOIN pair ON pair.c = c.n LEFT JOIN ours AS o ON o.n = pair.o ORDER BY c.key, "
    "c.state IS NOT NULL, c.digest, c.n"
)
SET_ASIDE: Final = {
    "repeated": (Outcome.DUPLICATE, None),
    "other figures": (Outcome.DUPLICATE, Note.OTHER_FIGURES),
    "second": (Outcome.DUPLICATE, None),
    "credited": (Outcome.CREDITED, None),
    "credit": (Outcome.CREDITED, None),
    "credit of nothing": (Outcome.MISSING_HERE, Note.CREDIT_WITHOUT_CDR),
}


def _cases_of_claims(database: sqlite3.Connection, tolerances: Tolerances) -> Iterator[Case]:
    for row in database.execute(_CLAIMS):
        key, state, beside, lacking = row[:4]
        notes = [f"{Note.INCOMPLETE_CLAIM}: no {lacking}"] if lacking else []
        if state is not None:
            outcome, note = SET_ASIDE[state]
            told = (*notes, *([] if note is None else [note.value]))
            case = Case(outcomes=(outcome,), claim=key, beside=beside, notes=told)
            yield _credit(case, row, database, tolerances) if state == "credit" else case
        elif row[11] is None:
            yield Case(outcomes=(Outcome.MISSING_HERE,), claim=key, notes=tuple(notes))
        else:
            yield _paired(key, row, notes, tolerances)


def _credit(case: Case, row: tuple[object, ...], database: sqlite3.Connection, tolerances: Tolerances) -> Case:
    """A credit is a copy of its CDR with the total negated (OCPI mod_cdrs); one of another sum leaves something billed.

    Here `ours` is what it should take back.
    """
    (net, gross, currency) = database.execute(
        "SELECT -net, -gross, currency FROM claim WHERE key = ? AND state = 'credited'", (case.beside,)
    ).fetchone()
    money = _money((row[7], row[8], row[9]), (net, gross, currency), tolerances)
    if money is not None and row[9] == currency and tolerances.same_money(money.difference, str(currency)):
        return case
    return replace(
        case,
        outcomes=(Outcome.PRICE_DIFFERS,),
        differences=() if money is None else (money,),
        notes=(*case.notes, Note.CREDIT_OF_OTHER_SUM.value),
    )


def _paired(key: str, row: tuple[object, ...], notes: list[str], tolerances: Tolerances) -> Case:
    start, stop, energy, created = (_number(row[at]) for at in (4, 5, 6, 10))
    our_start, our_stop, our_energy = (_number(row[at]) for at in (12, 13, 14))
    found: list[tuple[Outcome, Difference]] = []
    money = _money((row[7], row[8], row[9]), (row[15], row[16], row[17]), tolerances)
    if money is None:
        if row[15] is None and row[16] is None:
            notes.append(Note.UNPRICED.value)
    elif row[9] != row[17] or not tolerances.same_money(money.difference, str(row[17])):
        found.append((Outcome.PRICE_DIFFERS, money))
    if energy is not None and our_energy is not None and not tolerances.same_energy(our_energy / MILLI, energy / MILLI):
        kwh = Difference(what="energy", ours=our_energy / MICRO, theirs=energy / MICRO, unit="kWh")
        found.append((Outcome.ENERGY_DIFFERS, kwh))
    for what, theirs, ours in (("start", start, our_start), ("end", stop, our_stop)):
        if theirs is None or ours is None or tolerances.same_time((theirs - ours) / MILLI):
            continue
        if what == "end" and not row[18]:
            continue  # our end is only the last that we know
        found.append((Outcome.TIME_DIFFERS, Difference(what=what, ours=ours / MILLI, theirs=theirs / MILLI, unit="s")))
    if created is not None and our_stop is not None and created - our_stop > tolerances.late_days * DAY_MS:
        notes.append(f"{Note.LATE}: {int((created - our_stop) // DAY_MS)} days")
    if not row[18]:
        notes.append(Note.INCOMPLETE_SESSION.value)
    outcomes = tuple(dict.fromkeys(outcome for outcome, _ in found)) or (Outcome.MATCHED,)
    return Case(
        outcomes=outcomes,
        claim=key,
        session=str(row[11]).lower(),
        differences=tuple(difference for _, difference in found),
        notes=tuple(notes),
        place=str(row[19]),
    )


def _money(theirs: tuple[object, ...], ours: tuple[object, ...], tolerances: Tolerances) -> Difference | None:
    """With taxes, or before them where only those differ: a wrong tax within a right total is wrong all the same.

    None where they cannot be compared.
    """
    found: Difference | None = None
    for what, at in (("gross", 1), ("net", 0)):
        their_amount, our_amount = theirs[at], ours[at]
        if not isinstance(their_amount, int) or not isinstance(our_amount, int):
            continue
        unit = str(ours[2]) if theirs[2] == ours[2] else f"{ours[2]}, theirs {theirs[2]}"
        told = Difference(what=what, ours=Decimal(our_amount) / MICRO, theirs=Decimal(their_amount) / MICRO, unit=unit)
        if not tolerances.same_money(told.difference, str(ours[2])):
            return told
        found = found or told
    return found


def _number(value: object) -> Decimal | None:
    return Decimal(value) if isinstance(value, int) else None
