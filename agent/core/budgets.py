"""Budgets as a device holds them: whom they bind, and the leases it may spend from. Pure values and sums.

A lease is a part of a budget that the backend has set aside for this device alone, so that spending it needs no
connection and cannot pass the budget's limit, whatever others do meanwhile (time-limited escrow; policy reference
10.2). Amounts are integers: Wh, millionths of the currency, or sessions. Here only reservations and what was spent are
counted; periods and limits are the backend's (sync/backend/budgets.py), which never lets a lease reach over its period.
What a session needs is claims.py, when the machine asks for leases budgeting.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from agent.core.instants import Instant
from agent.core.tariff.tariffs import Basis

MICRO = 1_000_000  # of a currency; nothing costs less than a millionth


class Scope(StrEnum):
    """Whom a budget binds."""

    FLEET = "fleet"
    COST_CENTRE = "cost_centre"
    VEHICLE = "vehicle"
    DRIVER = "driver"


class Unit(StrEnum):
    ENERGY = "energy"
    MONEY = "money"
    SESSIONS = "sessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """`of` is the one whom it binds; without it each driver (vehicle, cost centre) has a budget of this size.

    `advisory`: what cannot be looked at only warns. `currency` and `basis` are those of a budget in money.
    """

    id: str
    scope: Scope
    unit: Unit
    limit: int
    of: str | None = None
    currency: str | None = None
    basis: Basis = Basis.GROSS
    advisory: bool = False

    def key(self, subject: str) -> str:
        return self.id if self.scope is Scope.FLEET else f"{self.id}/{subject}"

    def spelled(self, amount: int) -> str:
        """`12.5 EUR`, `30 kWh`, `3 sessions`, for people."""
        match self.unit:
            case Unit.ENERGY:
                return f"{in_units(amount, 1000)} kWh"
            case Unit.MONEY:
                return f"{in_units(amount, MICRO)} {self.currency}"
            case _:
                return f"{amount} sessions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A part of a budget for one device, as the backend signed it; it never changes.

    `journal` is the epoch: a device whose journal began anew may have forgotten what it spent. `per_session` is the
    most that one session may reserve. `number` grows with every lease that the backend grants.
    """

    id: str
    budget: str
    journal: str
    amount: int
    per_session: int
    not_before: datetime
    spend_until: datetime
    settle_by: datetime
    issued_at: datetime
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseUse:
    """What became of a lease here, cumulative: of two, the one with the higher `count` is newer.

    `amount` is what the session of this record reserved, or spent. `basis` is that of a budget in money.
    """

    lease: str
    budget: str
    amount: int
    consumed: int
    reserved: int
    count: int
    unit: Unit | None = None
    basis: Basis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedUp:
    """Nothing is left of this budget to lend to this device, as the backend says, until then."""

    budget: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A lease of this budget is wanted. `need` is what a session has to reserve here; 0 when nobody knows yet."""

    budget: str
    need: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """`boot` and `received_ms` tell how long it is here when nobody knows what time it is."""

    lease: Lease
    boot: str
    received_ms: int
    consumed: int = 0
    reserved: int = 0
    count: int = 0
    closed: bool = False

    @property
    def free(self) -> int:
        return 0 if self.closed else max(0, self.lease.amount - self.consumed - self.reserved)

    def is_over(self, now: Instant) -> bool:
        """No session may start from it any more. Without a believed clock only the time since it came is known."""
        if now.latest >= self.lease.spend_until:
            return True
        return self.boot == now.boot and now.monotonic_ms - self.received_ms >= self.lasts_ms

    def is_in_force(self, now: Instant) -> bool:
        if self.is_over(now):
            return False
        return now.utc >= self.lease.not_before if now.trusted else self.boot == now.boot

    @property
    def lasts_ms(self) -> int:
        return int((self.lease.spend_until - self.lease.issued_at).total_seconds() * 1000)

    def use(self, amount: int = 0) -> LeaseUse:
        return LeaseUse(
            lease=self.lease.id,
            budget=self.lease.budget,
            amount=amount,
            consumed=self.consumed,
            reserved=self.reserved,
            count=self.count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """All leases of this device. `message` is the number of the newest grant; older ones say nothing new.

    `newest` is the highest number of a lease that ever came: one that is not above it was spent from and forgotten, or
    may have been. `known_since`: what was spent before is no longer in the journal. `used_up` are budgets of which the
    backend has nothing left to give, until when. `wanted` are budgets that somebody tapped for, with what a session
    needs; `asked_ms` says when each was asked for last, `look_ms` when all are looked at next.
    """

    journal: str = ""
    message: int = 0
    newest: int = 0
    known_since: datetime | None = None
    held: Mapping[str, Held] = field(default_factory=lambda: MappingProxyType({}))
    used_up: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))
    wanted: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    asked_ms: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    look_ms: int = 0

    def of(self, key: str) -> Iterator[Held]:
        """Its leases of this epoch that are not closed, in the order in which they end."""
        found = [
            each
            for each in self.held.values()
            if each.lease.budget == key and each.lease.journal == self.journal and not each.closed
        ]
        yield from sorted(found, key=lambda each: (each.lease.spend_until, each.lease.number))

    def in_force(self, key: str, now: Instant) -> Iterator[Held]:
        yield from (each for each in self.of(key) if each.is_in_force(now))

    def free(self, key: str, now: Instant) -> int:
        return sum(each.free for each in self.in_force(key, now))

    def per_session(self, key: str, now: Instant) -> int:
        return max((each.lease.per_session for each in self.in_force(key, now)), default=0)

    def reserve(
        self, key: str, amount: int, now: Instant, *, unit: Unit | None = None, basis: Basis | None = None
    ) -> tuple[Holdings, tuple[LeaseUse, ...]]:
        """From the lease that ends first on; the caller has seen that there is enough."""
        uses: list[LeaseUse] = []
        held = dict(self.held)
        for each in self.in_force(key, now):
            part = min(each.free, amount)
            if part <= 0:
                continue
            after = replace(each, reserved=each.reserved + part, count=each.count + 1)
            held[each.lease.id] = after
            uses.append(replace(after.use(part), unit=unit, basis=basis))
            amount -= part
        if amount > 0:
            raise ValueError(f"budget {key!r} lacks {amount}: who reserves must ask before what is free")
        return replace(self, held=MappingProxyType(held)), tuple(uses)

    def settle(self, taken: Iterable[LeaseUse], spent: Mapping[str, int]) -> tuple[Holdings, tuple[LeaseUse, ...]]:
        """A session has ended: of what it reserved, so much of each budget was spent and the rest is free again.

        More than was reserved is counted all the same, in the last lease: the figures must be true.
        """
        uses: list[LeaseUse] = []
        held = dict(self.held)
        left = dict(spent)
        parts = tuple(taken)
        for number, part in enumerate(parts):
            known = held.get(part.lease)
            is_last = all(each.budget != part.budget for each in parts[number + 1 :])
            used = left.get(part.budget, 0) if is_last else min(part.amount, left.get(part.budget, 0))
            left[part.budget] = left.get(part.budget, 0) - used
            if known is None:
                continue
            after = replace(
                known,
                consumed=known.consumed + used,
                reserved=max(0, known.reserved - part.amount),
                count=known.count + 1,
            )
            held[part.lease] = after
            uses.append(after.use(used))
        return replace(self, held=MappingProxyType(held)), tuple(uses)

    def learned(self, uses: Iterable[LeaseUse]) -> Holdings:
        """What records tell of leases, in any order and as often as they like."""
        held = dict(self.held)
        for use in uses:
            known = held.get(use.lease)
            if known is not None and use.count > known.count:
                held[use.lease] = replace(known, consumed=use.consumed, reserved=use.reserved, count=use.count)
        return replace(self, held=MappingProxyType(held))

    def closing(self, now: Instant) -> tuple[Held, ...]:
        """Leases that nothing will be taken from any more: over or used up, and no session runs on them."""
        return tuple(
            each
            for each in self.held.values()
            if not each.closed
            and each.reserved == 0
            and each.lease.journal == self.journal
            and (each.is_over(now) or each.free == 0)
        )

    def close(self, leases: Iterable[Held]) -> tuple[Holdings, tuple[LeaseUse, ...]]:
        held = dict(self.held)
        uses = []
        for each in leases:
            after = replace(each, closed=True, count=each.count + 1)
            held[each.lease.id] = after
            uses.append(after.use())
        return replace(self, held=MappingProxyType(held)), tuple(uses)

    def granted(
        self, leases: Iterable[Lease], *, message: int, used_up: Mapping[str, datetime], now: Instant
    ) -> Holdings:
        """The newest grant names every lease that the backend counts as ours.

        What was closed here and is not named any more has been settled, and is forgotten.
        """
        told = tuple(leases)
        named = {lease.id for lease in told}
        held = {id: each for id, each in self.held.items() if not each.closed or id in named}
        for lease in told:
            if lease.id not in held and self._may_take(lease):
                held[lease.id] = Held(lease=lease, boot=now.boot, received_ms=now.monotonic_ms)
        return replace(
            self,
            message=message,
            newest=max([self.newest, *(lease.number for lease in told)]),
            held=MappingProxyType(held),
            used_up=MappingProxyType(dict(used_up)),
        )

    def _may_take(self, lease: Lease) -> bool:
        """Of this epoch, and certainly never spent from before."""
        remembered = self.known_since is None or lease.issued_at > self.known_since
        return lease.journal == self.journal and lease.number > self.newest and remembered


def bound(budgets: Iterable[Budget], subjects: Mapping[Scope, str | None]) -> Iterator[tuple[Budget, str | None]]:
    """The budgets that bind these, each with its key; None when nobody knows whose budget it would be."""
    for budget in budgets:
        if budget.scope is Scope.FLEET:
            yield budget, budget.key("")
            continue
        subject = subjects.get(budget.scope)
        if budget.of is None or budget.of == subject:
            yield budget, None if subject is None else budget.key(subject)


def in_units(amount: int, unit: int) -> str:
    whole, part = divmod(amount, unit)
    digits = len(str(unit)) - 1
    return f"{whole}.{part:0{digits}d}".rstrip("0").rstrip(".")
