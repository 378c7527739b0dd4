"""Budgets at the backend: limits, periods, and the leases that are set aside for devices. Pure values and sums.

The one invariant (policy reference 10.2): what is settled plus what is outstanding is never more than the limit. A
lease is only made by `granted`, which refuses to break it; what a device may spend it was given before, so no
partition, loss, copy or crash of messages can pass the limit. What devices report are cumulative counters, of which the
newest counts, so that duplicates, replays and any order say the same.

Durable, in one transaction each, these are in `sync.backend.ledger`; how much a device is given is `ration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from zoneinfo import ZoneInfo

from sync.grants import GrantedLease

DAY = timedelta(days=1)
# A session that started just before spend-until may run so long, and its report may come so much later.
SETTLE_AFTER = timedelta(days=7)
PLENTY = 6  # sessions that are lent at most in advance when money is no question
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
WRITTEN_OFF = 2**53 - 1  # in place of a count: no report is newer


class OverCommitted(Exception):
    """This grant would let more be spent than the limit. Nothing was changed."""


class StillSpendable(Exception):
    """This lease cannot be written off yet: its device may go on spending from it, and what is freed is lent again."""


class Span(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    ONCE = "once"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """[start, end), UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One budget of the fleet. `scope` is fleet, cost_centre, vehicle or driver; without `of`, each has its own.

    `per_session` is the most that one session may reserve. `cover_copies`: so many copies of a device may spend the
    same lease beside it (a storage image that was put back) and the limit holds; so many times more each lease costs.
    """

    id: str
    scope: str
    unit: str
    limit: int
    per_session: int
    span: Span = Span.MONTH
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    of: str | None = None
    currency: str | None = None
    lease: timedelta = timedelta(days=3)
    cover_copies: int = 0

    def period(self, moment: datetime) -> Period:
        return period_of(self.span, self.zone, moment)

    def covers(self, key: str) -> bool:
        """Whether this key names an account of this budget."""
        if self.scope == "fleet":
            return key == self.id
        name, slash, subject = key.partition("/")
        return bool(slash and subject) and name == self.id and self.of in (None, subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a device says of a lease, cumulative; of two, the one with the higher `count` is newer."""

    lease: str
    consumed: int
    reserved: int
    count: int
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """A lease as the backend counts it. `hold` is what it may cost at most: its amount, and again for each copy.

    What copies may have spent is never given back: they need not have told. `burnt`: the device forgot what it spent,
    or somebody spends beside it; all of it counts until it is written off.
    """

    lease: GrantedLease
    device: str
    hold: int
    consumed: int = 0
    reserved: int = 0
    count: int = 0
    closed: bool = False
    burnt: bool = False

    @property
    def spent(self) -> int:
        return self.consumed

    @property
    def outstanding(self) -> int:
        return max(0, self.hold - (self.lease.amount if self.closed else self.consumed))

    @property
    def overrun(self) -> int:
        """More than was lent: a session cost more than it had reserved."""
        return max(0, self.consumed - self.hold)

    @property
    def free(self) -> int:
        """What the device may still reserve, as far as it has told."""
        return 0 if self.closed or self.burnt else max(0, self.lease.amount - self.consumed - self.reserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    settled: int = 0
    outstanding: int = 0
    overrun: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            settled=self.settled + other.settled,
            outstanding=self.outstanding + other.outstanding,
            overrun=self.overrun + other.overrun,
        )

    def __sub__(self, other: Sums) -> Sums:
        return Sums(
            settled=self.settled - other.settled,
            outstanding=self.outstanding - other.outstanding,
            overrun=self.overrun - other.overrun,
        )


NOTHING = Sums()


def sums_of(loan: Loan) -> Sums:
    return Sums(settled=loan.spent, outstanding=loan.outstanding, overrun=loan.overrun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One budget of one subject in one period. `besides` are the sums of loans that are not listed here."""

    key: str
    period: Period
    limit: int
    loans: Mapping[str, Loan] = field(default_factory=lambda: MappingProxyType({}))
    besides: Sums = NOTHING

    @property
    def sums(self) -> Sums:
        return sum((sums_of(loan) for loan in self.loans.values()), start=self.besides)

    @property
    def settled(self) -> int:
        return self.sums.settled

    @property
    def outstanding(self) -> int:
        return self.sums.outstanding

    @property
    def overrun(self) -> int:
        return self.sums.overrun

    @property
    def free(self) -> int:
        return max(0, self.limit - self.settled - self.outstanding)

    @property
    def holds(self) -> bool:
        """The invariant, but for what sessions cost beyond their reservation and what came after a write-off."""
        return self.settled + self.outstanding <= self.limit + self.overrun

    def of(self, device: str) -> tuple[Loan, ...]:
        return tuple(loan for loan in self.loans.values() if loan.device == device)


def granted(account: Account, lease: GrantedLease, device: str, *, hold: int) -> Account:
    """With one lease more. Raises OverCommitted."""
    if lease.id in account.loans:
        return account
    if lease.amount < 1 or hold < lease.amount:
        raise OverCommitted(f"{account.key}: a lease of {lease.amount} that holds {hold} is no lease")
    if account.settled + account.outstanding + hold > account.limit:
        raise OverCommitted(
            f"{account.key}: {hold} more is beyond the limit, {account.free} of {account.limit} is free"
        )
    return _with(account, Loan(lease=lease, device=device, hold=hold))


def adopted(account: Account, lease: GrantedLease, device: str, *, hold: int) -> Account:
    """With a lease that was given, although nobody here remembers it: the backend was put back to an older copy."""
    return account if lease.id in account.loans else _with(account, Loan(lease=lease, device=device, hold=hold))


def reported(account: Account, use: Use) -> Account:
    """The newer of what was told before and this. What a burnt loan has left is never given back.

    More than was written off counts all the same: it was spent.
    """
    loan = account.loans.get(use.lease)
    if loan is not None and loan.count == WRITTEN_OFF and use.consumed > loan.consumed:
        return _with(account, replace(loan, consumed=use.consumed))
    if loan is None or use.count <= loan.count:
        return account
    return _with(
        account,
        replace(
            loan,
            consumed=max(loan.consumed, use.consumed),
            reserved=use.reserved,
            count=use.count,
            closed=(loan.closed or use.closed) and not loan.burnt,
        ),
    )


def burnt(account: Account, device: str, journal: str) -> Account:
    """Every loan of this device's epoch counts as spent in full from now on."""
    for loan in account.of(device):
        if loan.lease.journal == journal and not loan.closed:
            account = _with(account, replace(loan, burnt=True))
    return account


def written_off(account: Account, lease: str, *, spent: int, now: datetime) -> Account:
    """An operator says what a loan has cost in the end, from the network's own records. Raises StillSpendable."""
    loan = account.loans[lease]
    if not loan.closed and now < loan.lease.spend_until and spent < loan.hold:
        raise StillSpendable(
            f"lease {lease} may be spent from until {loan.lease.spend_until:%Y-%m-%d %H:%M} UTC: "
            "write it off then, or in full"
        )
    consumed = max(loan.consumed, spent)
    done = replace(loan, hold=loan.lease.amount, consumed=consumed, reserved=0, closed=True, burnt=False)
    return _with(account, replace(done, count=WRITTEN_OFF))


def ration(
    account: Account,
    device: str,
    *,
    journal: str,
    need: int,
    per_session: int,
    expected: int,
    devices: int,
    now: datetime,
    copies: int = 1,
) -> tuple[int, tuple[str, ...]]:
    """(amount of a new lease, leases that it replaces); 0 when the device has enough, or when nothing is left.

    Aimed at is twice what it spends until the next contact, and enough for one session. Where there is plenty for all
    of its `devices`, it is a share of that, so that also an unusual day needs no connection; where money is tight, only
    so much that the last of it does not lie where nobody needs it.
    """
    need = min(per_session, need) if need > 0 else per_session
    mine = holding(account, device, journal, now)
    held = sum(loan.free for loan in mine)
    target = max(need, 2 * expected)
    aged = tuple(loan for loan in mine if loan.free > 0 and _half_over(loan.lease, now))
    free = account.free // copies
    share = free // (2 * max(1, devices))
    wanted = max(need, min(share, max(target, PLENTY * need)))
    if aged and wanted <= free:
        return wanted, tuple(loan.lease.id for loan in aged)
    if held >= need and 2 * held >= wanted:
        return 0, ()
    more = max(1, wanted - held)
    return (more, ()) if more <= free else (0, ())


def holding(account: Account, device: str, journal: str, now: datetime) -> list[Loan]:
    """What the device can still spend: of this epoch, and not over."""
    return [
        loan
        for loan in account.of(device)
        if not loan.closed and not loan.burnt and loan.lease.journal == journal and loan.lease.spend_until > now
    ]


def lasting(terms: Terms, period: Period, now: datetime) -> tuple[datetime, datetime, datetime]:
    """(not before, spend until, settle by) of a lease given now for this period: it never reaches over its end."""
    start = max(period.start, now)
    until = min(start + terms.lease, period.end)
    return (period.start if period.start > now else now - timedelta(minutes=5)), until, until + SETTLE_AFTER


def due_periods(terms: Terms, now: datetime) -> tuple[Period, ...]:
    """The one that runs, and the next one when a lease of it would be needed before this device is heard again."""
    running = terms.period(now)
    return (running, terms.period(running.end)) if now + terms.lease > running.end else (running,)


def period_of(span: Span, zone: ZoneInfo, moment: datetime) -> Period:
    """By the local calendar of the UTC instant. A day of a change of clocks has 23 or 25 hours."""
    day = moment.astimezone(zone).date()
    match span:
        case Span.DAY:
            first, after = day, day + DAY
        case Span.WEEK:
            first = day - timedelta(days=day.weekday())
            after = first + timedelta(days=7)
        case Span.MONTH:
            first = day.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
        case Span.ONCE:
            return Period(start=LONG_AGO, end=NEVER)
    return Period(start=_midnight(first, zone), end=_midnight(after, zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Where midnight does not exist the day begins with what comes instead; where it comes twice, with the first."""
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _half_over(lease: GrantedLease, now: datetime) -> bool:
    start = max(lease.issued_at, lease.not_before)
    return now >= start + (lease.spend_until - start) / 2


def _with(account: Account, *loans: Loan) -> Account:
    return replace(account, loans=MappingProxyType({**account.loans, **_by_id(loans)}))


def _by_id(loans: Iterable[Loan]) -> dict[str, Loan]:
    return {loan.lease.id: loan for loan in loans}
