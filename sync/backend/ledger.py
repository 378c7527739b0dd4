"""The ledger of budgets in SQLite: every change is one transaction that looks at the invariant before it commits.

It follows the record store: what devices told is read from the stored records, each journal in order up to where it
is whole, and the place is kept in the same transaction. So a crash between storing and counting loses nothing, and
counting twice changes nothing. Where a device's key is known, only what its checkpoints sign is counted.

Put back to an older copy, the ledger would not know what it lent since. The number of the newest lease is therefore
written to a witness file beside, after the commit and before anybody is told of it: when that is ahead, nothing is lent
for the periods that had begun, since nobody can say what is left of them. Devices go on with what they hold; a new
period begins clean.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sync.backend.budgets import (
    NOTHING,
    Account,
    Loan,
    OverCommitted,
    Period,
    Sums,
    Terms,
    adopted,
    burnt,
    due_periods,
    granted,
    holding,
    lasting,
    ration,
    reported,
    sums_of,
    written_off,
)
from sync.backend.checkpoints import Keys, Word, word_of
from sync.backend.statements import Statement, statement_of
from sync.grants import MAX_LEASES, Grant, GrantedLease, lease_of, stamp

LESS_THAN_THIS_IS_NO_CONTACT = timedelta(minutes=10)  # of a moving average: messages in a row are one contact
NEWER_COUNTS = 0.3
FIRST_GAP_S = 86_400.0
ACTIVE_DAYS = 30
_RECORDS_AT_ONCE = 5_000

_SCHEMA = """
CREATE TABLE about (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), number INTEGER NOT NULL, frozen TEXT) STRICT;
INSERT INTO about VALUES (1, 0, NULL);
CREATE TABLE accounts (
    key TEXT NOT NULL,
    start TEXT NOT NULL,
    until TEXT NOT NULL,
    unit TEXT NOT NULL,
    currency TEXT,
    "limit" INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,
    outstanding INTEGER NOT NULL DEFAULT 0,
    overrun INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (key, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE loans (
    lease TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    start TEXT NOT NULL,
    device TEXT NOT NULL,
    journal TEXT NOT NULL,
    number INTEGER NOT NULL,
    terms TEXT NOT NULL,
    hold INTEGER NOT NULL CHECK (hold >= 1),
    consumed INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 0,
    closed INTEGER NOT NULL DEFAULT 0,
    burnt INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX loans_by_account ON loans (key, start);
CREATE INDEX loans_by_device ON loans (device, closed);
CREATE TABLE devices (
    device TEXT PRIMARY KEY,
    journal TEXT NOT NULL,
    number INTEGER NOT NULL DEFAULT 0,
    told TEXT NOT NULL DEFAULT '',
    heard TEXT,
    gap_s REAL NOT NULL,
    waits INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE wishes (
    device TEXT NOT NULL,
    key TEXT NOT NULL,
    need INTEGER NOT NULL,
    asked TEXT NOT NULL,
    consumed INTEGER NOT NULL DEFAULT 0,
    rate REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (device, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX wishes_by_key ON wishes (key);
CREATE TABLE forked (
    device TEXT NOT NULL,
    journal TEXT NOT NULL,
    PRIMARY KEY (device, journal)
) STRICT, WITHOUT ROWID;
CREATE TABLE places (
    device TEXT NOT NULL,
    journal TEXT NOT NULL,
    through INTEGER NOT NULL,
    PRIMARY KEY (device, journal)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""


_ALL = "SELECT terms, device, hold, consumed, reserved, count, closed, burnt FROM loans WHERE key = ? AND start = ? "
_OF_DEVICE = _ALL + "AND device = ? AND closed = 0"
_OF_LEASE = _ALL + "AND lease = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One loan for people and programs."""

    lease: str
    device: str
    amount: int
    consumed: int
    reserved: int
    outstanding: int
    state: str
    spend_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One account for people and programs. `frozen`: nothing is lent until somebody says what is left."""

    budget: str
    key: str
    unit: str
    currency: str | None
    start: str
    until: str
    limit: int
    settled: int
    outstanding: int
    free: int
    overrun: int
    frozen: bool
    loans: tuple[Line, ...]


class Ledger:
    """One writer. `budgets` are the fleet's; a key that none of them covers is not lent for."""

    def __init__(
        self,
        path: Path,
        budgets: Iterable[Terms],
        *,
        fleet: str,
        witness: Path | None = None,
        keys: Callable[[str], Keys | None] = lambda device: None,
    ) -> None:
        self._budgets = {terms.id: terms for terms in budgets}
        self._fleet = fleet
        self._keys = keys
        self._witness = witness or path.with_name(path.name + ".witness")
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 5000"):
                self._db.execute(f"PRAGMA {pragma}")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN IMMEDIATE;\n{_SCHEMA}\nCOMMIT;")
            elif version != 1:
                raise sqlite3.DatabaseError(f"{path} has schema version {version}, this program knows 1")
        except sqlite3.Error:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    # Following the records

    def follow(self, records: Path, now: datetime, *, touched: Iterable[tuple[str, str]] | None = None) -> list[Grant]:
        """Count what was stored since, lend what was asked for, and say whose grant has changed.

        Of these (device, journal) only, or of all.
        """
        with closing(sqlite3.connect(f"file:{records}?mode=ro", uri=True, isolation_level=None)) as store:
            store.execute("PRAGMA busy_timeout = 5000")
            for stream, device, journal, through in _streams(store, touched):
                row = self._db.execute(
                    "SELECT through FROM places WHERE device = ? AND journal = ?", (device, journal)
                ).fetchone()
                self._follow_one(store, stream, device, journal, after=row[0] if row else 0, through=through, now=now)
                (forks,) = store.execute("SELECT count(*) FROM forks WHERE stream = ?", (stream,)).fetchone()
                if forks:
                    self.burn(device, journal)
        return self.lend(now)

    def _follow_one(
        self,
        store: sqlite3.Connection,
        stream: int,
        device: str,
        journal: str,
        *,
        after: int,
        through: int,
        now: datetime,
    ) -> None:
        while after < through:
            end = min(through, after + _RECORDS_AT_ONCE)
            told, reached = self._read(store, stream, device, after, end)
            if reached == after and end == through:
                return
            if reached == after:  # no checkpoint in so many records: look further before anything is counted
                told, reached = self._read(store, stream, device, after, through)
                if reached == after:
                    return
            self.hear(device, journal, told, through=reached, now=now)
            after = reached

    def _read(
        self, store: sqlite3.Connection, stream: int, device: str, after: int, through: int
    ) -> tuple[list[Statement], int]:
        """What was told, and how far it may be believed: to the last checkpoint of a device whose key is known."""
        keys = self._keys(device)
        found: list[Statement] = []
        waiting: list[Statement] = []
        reached = after if keys is not None else through
        rows = store.execute(
            "SELECT sequence, body FROM records WHERE stream = ? AND sequence > ? AND sequence <= ? "
            "AND quarantined IS NULL ORDER BY sequence",
            (stream, after, through),
        )
        for sequence, body in rows:
            statement = statement_of(body)
            if statement is not None:
                waiting.append(statement)
            if keys is None or word_of(body, keys) is Word.GOOD:
                found += waiting
                waiting = []
                reached = max(reached, sequence)
        return found, reached

    def hear(self, device: str, journal: str, told: Sequence[Statement], *, through: int = 0, now: datetime) -> None:
        """What one journal says, in its order; once more is the same."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO places VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET through = max(through, excluded.through)",
                (device, journal, through),
            )
            for statement in told:
                for lease in statement.held:
                    self._adopt(lease, device)
                for use in statement.uses:
                    account = self._account_of(use.lease)
                    if account is not None:
                        self._keep(account, reported(account, use))
                if statement.asks:
                    self._note(device, journal, statement, now)

    def burn(self, device: str, journal: str) -> None:
        """This journal goes on in two ways: whoever spends there is not alone. Nothing more is lent to it."""
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO forked VALUES (?, ?)", (device, journal))
            keys = self._db.execute(
                "SELECT DISTINCT key, start FROM loans WHERE device = ? AND journal = ? AND closed = 0 AND burnt = 0",
                (device, journal),
            ).fetchall()
            for key, start in keys:
                account = self._account(key, start, _OF_DEVICE, device)
                self._keep(account, burnt(account, device, journal))

    def _note(self, device: str, journal: str, statement: Statement, now: datetime) -> None:
        row = self._db.execute("SELECT heard, gap_s FROM devices WHERE device = ?", (device,)).fetchone()
        gap_s, heard = (FIRST_GAP_S, None) if row is None else (row[1], _moment(row[0]))
        if heard is not None and now - heard >= LESS_THAN_THIS_IS_NO_CONTACT:
            gap_s += NEWER_COUNTS * ((now - heard).total_seconds() - gap_s)
        self._db.execute(
            "INSERT INTO devices (device, journal, heard, gap_s, waits) VALUES (?, ?, ?, ?, 1) "
            "ON CONFLICT DO UPDATE SET journal = excluded.journal, heard = excluded.heard, gap_s = excluded.gap_s, "
            "waits = 1",
            (device, journal, stamp(now), gap_s),
        )
        for wish in statement.wishes:
            self._wish(device, wish.budget, wish.need, now)

    def _wish(self, device: str, key: str, need: int, now: datetime) -> None:
        if self._terms(key) is None:
            return
        (consumed,) = self._db.execute(
            "SELECT coalesce(sum(consumed), 0) FROM loans WHERE device = ? AND key = ?", (device, key)
        ).fetchone()
        row = self._db.execute(
            "SELECT asked, consumed, rate FROM wishes WHERE device = ? AND key = ?", (device, key)
        ).fetchone()
        rate = 0.0
        if row is not None:
            asked = _moment(row[0]) or now
            passed_s = (now - asked).total_seconds()
            rate = row[2]
            if passed_s >= LESS_THAN_THIS_IS_NO_CONTACT.total_seconds():
                rate += NEWER_COUNTS * (max(0, consumed - row[1]) / passed_s - rate)
            else:
                now, consumed = asked, row[1]
        self._db.execute(
            "INSERT INTO wishes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET need = excluded.need, "
            "asked = excluded.asked, consumed = excluded.consumed, rate = excluded.rate",
            (device, key, need, stamp(now), consumed, rate),
        )

    # Lending

    def lend(self, now: datetime) -> list[Grant]:
        """For every device that has asked; the grants whose content has changed, to be published."""
        self._look_at_witness(now)
        changed = []
        waiting = self._db.execute("SELECT device FROM devices WHERE waits = 1 ORDER BY device").fetchall()
        for (device,) in waiting:
            with self._transaction():
                grant = self._lend_to(device, now)
                self._db.execute("UPDATE devices SET waits = 0 WHERE device = ?", (device,))
            if grant is not None:
                changed.append(grant)
        self._bear_witness()
        return changed

    def _lend_to(self, device: str, now: datetime) -> Grant | None:
        journal, gap_s, number, told = self._db.execute(
            "SELECT journal, gap_s, number, told FROM devices WHERE device = ?", (device,)
        ).fetchone()
        used_up: dict[str, datetime] = {}
        asked = "SELECT key, need, rate FROM wishes WHERE device = ?"
        wishes = [] if self._is_forked(device, journal) else self._db.execute(asked, (device,)).fetchall()
        for key, need, rate in wishes:
            terms = self._terms(key)
            if terms is None:
                continue
            for period in due_periods(terms, now):
                self._lend_of(terms, key, period, device, journal, need=need, expected=int(rate * gap_s), now=now)
            running = self._account_now(terms, key, terms.period(now), device)
            mine = sum(loan.free for loan in holding(running, device, journal, now))
            if mine + running.free // (1 + terms.cover_copies) < (min(need, terms.per_session) or terms.per_session):
                used_up[key] = running.period.end
        grant = Grant(
            fleet=self._fleet,
            device=device,
            number=number,
            leases=tuple(self._open_leases(device)),
            used_up=used_up,
        )
        content = json.dumps({**grant.to_claims(issued_at_s=0), "number": 0}, sort_keys=True)
        if content == told:
            return None
        self._db.execute("UPDATE devices SET number = ?, told = ? WHERE device = ?", (number + 1, content, device))
        return replace(grant, number=number + 1)

    def _lend_of(
        self,
        terms: Terms,
        key: str,
        period: Period,
        device: str,
        journal: str,
        *,
        need: int,
        expected: int,
        now: datetime,
    ) -> None:
        if self._is_frozen(period):
            return
        account = self._account_now(terms, key, period, device)
        copies = 1 + terms.cover_copies
        amount, replaces = ration(
            account,
            device,
            journal=journal,
            need=need,
            per_session=terms.per_session,
            expected=expected,
            devices=self._devices_of(key, now),
            now=now,
            copies=copies,
        )
        if amount < 1 or len(account.of(device)) >= MAX_LEASES:
            return
        not_before, spend_until, settle_by = lasting(terms, period, now)
        lease = GrantedLease(
            id=str(uuid.uuid4()),
            budget=key,
            journal=journal,
            amount=amount,
            per_session=terms.per_session,
            not_before=not_before,
            spend_until=spend_until,
            settle_by=settle_by,
            issued_at=now,
            number=self._next_number(),
            replaces=replaces,
        )
        try:
            self._keep(
                account, granted(account, replace(lease, per_session=terms.per_session), device, hold=amount * copies)
            )
        except OverCommitted:
            return

    def grants(self) -> list[Grant]:
        """What every device was told last: a broker that forgot its retained messages is told again."""
        rows = self._db.execute("SELECT number, told FROM devices WHERE told != '' ORDER BY device").fetchall()
        return [replace(_grant_of(told), number=number) for number, told in rows]

    # For people

    def standings(self, now: datetime) -> list[Standing]:
        rows = self._db.execute("SELECT key, start, unit, currency FROM accounts ORDER BY key, start").fetchall()
        found = []
        for key, start, unit, currency in rows:
            account = self._account(key, start)
            found.append(
                Standing(
                    budget=key.partition("/")[0],
                    key=key,
                    unit=unit,
                    currency=currency,
                    start=stamp(account.period.start),
                    until=stamp(account.period.end),
                    limit=account.limit,
                    settled=account.settled,
                    outstanding=account.outstanding,
                    free=account.free,
                    overrun=account.overrun,
                    frozen=self._is_frozen(account.period),
                    loans=tuple(_line(loan, now) for loan in account.loans.values()),
                )
            )
        return found

    def write_off(self, lease: str, *, spent: int, now: datetime) -> bool:
        """What a device that is gone, or a copy, has cost in the end. False when there is no such lease.

        Raises StillSpendable.
        """
        with self._transaction():
            account = self._account_of(lease)
            if account is None:
                return False
            self._keep(account, written_off(account, lease, spent=spent, now=now))
            return True

    def thaw(self) -> None:
        """Somebody has seen to it that every lease of before is known again."""
        with self._transaction():
            self._db.execute("UPDATE about SET frozen = NULL")

    # Rows

    def _terms(self, key: str) -> Terms | None:
        terms = self._budgets.get(key.partition("/")[0])
        return terms if terms is not None and terms.covers(key) else None

    def _account_now(self, terms: Terms, key: str, period: Period, device: str) -> Account:
        """With today's limit, which the fleet may have changed, and what this device has of it."""
        self._db.execute(
            'INSERT INTO accounts (key, start, until, unit, currency, "limit") VALUES (?, ?, ?, ?, ?, ?) '
            'ON CONFLICT DO UPDATE SET "limit" = excluded."limit"',
            (key, stamp(period.start), stamp(period.end), terms.unit, terms.currency, terms.limit),
        )
        return self._account(key, stamp(period.start), _OF_DEVICE, device)

    def _account_of(self, lease: str) -> Account | None:
        row = self._db.execute("SELECT key, start FROM loans WHERE lease = ?", (lease,)).fetchone()
        return None if row is None else self._account(*row, _OF_LEASE, lease)

    def _account(self, key: str, start: str, which: str = _ALL, *values: str) -> Account:
        """With these of its loans; the others are in its sums."""
        until, limit, settled, outstanding, overrun = self._db.execute(
            'SELECT until, "limit", settled, outstanding, overrun FROM accounts WHERE key = ? AND start = ?',
            (key, start),
        ).fetchone()
        loans = self._db.execute(which, (key, start, *values))
        found = {
            lease.id: Loan(
                lease=lease,
                device=device,
                hold=hold,
                consumed=consumed,
                reserved=reserved,
                count=count,
                closed=bool(closed),
                burnt=bool(is_burnt),
            )
            for terms, device, hold, consumed, reserved, count, closed, is_burnt in loans
            for lease in (_lease_of(terms),)
        }
        whole = Sums(settled=settled, outstanding=outstanding, overrun=overrun)
        return Account(
            key=key,
            period=Period(start=_time(start), end=_time(until)),
            limit=limit,
            loans=MappingProxyType(found),
            besides=whole - sum((sums_of(loan) for loan in found.values()), start=NOTHING),
        )

    def _keep(self, before: Account, after: Account) -> None:
        """Only the loans that have changed, and the account's sums."""
        start = stamp(after.period.start)
        sums = after.sums
        self._db.execute(
            "UPDATE accounts SET settled = ?, outstanding = ?, overrun = ? WHERE key = ? AND start = ?",
            (sums.settled, sums.outstanding, sums.overrun, after.key, start),
        )
        for id, loan in after.loans.items():
            if before.loans.get(id) == loan:
                continue
            self._db.execute(
                "INSERT INTO loans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "hold = excluded.hold, consumed = excluded.consumed, reserved = excluded.reserved, "
                "count = excluded.count, closed = excluded.closed, burnt = excluded.burnt",
                (
                    id,
                    after.key,
                    start,
                    loan.device,
                    loan.lease.journal,
                    loan.lease.number,
                    json.dumps(loan.lease.to_claims(), sort_keys=True),
                    loan.hold,
                    loan.consumed,
                    loan.reserved,
                    loan.count,
                    int(loan.closed),
                    int(loan.burnt),
                ),
            )

    def _adopt(self, lease: GrantedLease, device: str) -> None:
        terms = self._terms(lease.budget)
        if terms is None or self._account_of(lease.id) is not None:
            return
        period = terms.period(lease.spend_until - timedelta(seconds=1))
        account = self._account_now(terms, lease.budget, period, device)
        hold = lease.amount * (1 + terms.cover_copies)
        self._keep(account, adopted(account, lease, device, hold=hold))
        self._db.execute("UPDATE about SET number = max(number, ?)", (lease.number,))

    def _open_leases(self, device: str) -> Iterator[GrantedLease]:
        rows = self._db.execute(
            "SELECT terms FROM loans WHERE device = ? AND closed = 0 ORDER BY number DESC LIMIT ?",
            (device, MAX_LEASES),
        )
        yield from (_lease_of(terms) for (terms,) in rows)

    def _devices_of(self, key: str, now: datetime) -> int:
        since = stamp(now - timedelta(days=ACTIVE_DAYS))
        (count,) = self._db.execute("SELECT count(*) FROM wishes WHERE key = ? AND asked >= ?", (key, since)).fetchone()
        return int(count)

    # The witness

    def _next_number(self) -> int:
        (number,) = self._db.execute("UPDATE about SET number = number + 1 RETURNING number").fetchone()
        return int(number)

    def _bear_witness(self) -> None:
        """After the commit, and before anybody is told: what was told is never newer than the witness."""
        (number,) = self._db.execute("SELECT number FROM about").fetchone()
        if number == self._witnessed():
            return
        temporary = self._witness.with_name(self._witness.name + ".new")
        with temporary.open("w", encoding="ascii") as file:
            file.write(f"{number}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._witness)
        folder = os.open(self._witness.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _witnessed(self) -> int:
        try:
            return int(self._witness.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _look_at_witness(self, now: datetime) -> None:
        number, frozen = self._db.execute("SELECT number, frozen FROM about").fetchone()
        if self._witnessed() <= number:
            return
        with self._transaction():
            horizon = now + max((terms.lease for terms in self._budgets.values()), default=timedelta(0))
            later = max(filter(None, (_moment(frozen), horizon)))
            self._db.execute("UPDATE about SET number = ?, frozen = ?", (self._witnessed(), stamp(later)))

    def _is_forked(self, device: str, journal: str) -> bool:
        found = self._db.execute("SELECT 1 FROM forked WHERE device = ? AND journal = ?", (device, journal)).fetchone()
        return found is not None

    def _is_frozen(self, period: Period) -> bool:
        (frozen,) = self._db.execute("SELECT frozen FROM about").fetchone()
        until = _moment(frozen)
        return until is not None and period.start < until

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


def _streams(
    store: sqlite3.Connection, touched: Iterable[tuple[str, str]] | None
) -> Iterator[tuple[int, str, str, int]]:
    asked = "SELECT stream, device, journal, through FROM streams"
    if touched is None:
        yield from store.execute(f"{asked} ORDER BY stream").fetchall()
        return
    for device, journal in touched:
        yield from store.execute(f"{asked} WHERE device = ? AND journal = ?", (device, journal)).fetchall()


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


def _line(loan: Loan, now: datetime) -> Line:
    over = loan.lease.spend_until <= now
    state = "burnt" if loan.burnt else "closed" if loan.closed else "waits for its device" if over else "lent"
    return Line(
        lease=loan.lease.id,
        device=loan.device,
        amount=loan.lease.amount,
        consumed=loan.consumed,
        reserved=loan.reserved,
        outstanding=loan.outstanding,
        state=state,
        spend_until=stamp(loan.lease.spend_until),
    )


def _lease_of(text: str) -> GrantedLease:
    return lease_of(json.loads(text))


def _grant_of(text: str) -> Grant:
    claims: Mapping[str, Any] = json.loads(text)
    return Grant(
        fleet=claims["fleet"],
        device=claims["device"],
        number=claims["number"],
        leases=tuple(lease_of(each) for each in claims["leases"]),
        used_up={each["budget"]: _time(each["until"]) for each in claims["used_up"]},
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def plain(standing: Standing) -> dict[str, Any]:
    return asdict(standing)
