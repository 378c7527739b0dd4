"""Overspending and refusals: leases beside a cached balance and a static split, over a month of a fleet.

`make simulate-budgets` plays it and writes build/budgets.json and build/budgets-*.svg. It is no test, since there is
nothing to pass; it lies here because it plays the ledger's and the device's own sums (`ration`, `granted`, `reported`),
with the workload of the policy reference, 10.3: 30 days, skewed demand, each device offline on whole days.

What a session costs is exponential with a mean of 20 EUR, at least 2 and at most 60; each reserves 60.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from sync.backend.budgets import (
    NOTHING,
    Account,
    Loan,
    OverCommitted,
    Period,
    Sums,
    Use,
    granted,
    ration,
    reported,
    sums_of,
)
from sync.grants import GrantedLease
from tests.budgets.bars import Group, bars

BUILD = Path(__file__).parents[2] / "build"
CENT = 100
START = datetime(2027, 3, 1, tzinfo=UTC)
DAYS = 30
MONTH = Period(start=START, end=START + timedelta(days=DAYS))
RESERVE = 60 * CENT
OFFLINE_DAYS = 0.3
LEASE = timedelta(days=3)
SESSIONS_A_DEVICE = 28.34
BUSY_SHARE, BUSY_TIMES = 0.2, 12
LIMITS_A_DEVICE = (200, 400, 600, 800)  # EUR a month: far too little, too little, just enough, plenty
FIRST_GAP_S, NEWER_COUNTS, SAME_CONTACT_S = 86_400.0, 0.3, 600.0  # as in sync/backend/ledger.py


@dataclass(frozen=True, slots=True)
class Session:
    moment: datetime
    device: int
    cost: int
    online: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    policy: str
    devices: int
    limit: int
    seeds: int
    sessions: int
    overspend: int
    refused: float
    seconds: float


def workload(devices: int, seed: int) -> list[Session]:
    rng = random.Random(seed)
    busy = max(1, int(devices * BUSY_SHARE))
    weight = busy * BUSY_TIMES + (devices - busy)
    per_unit = devices * SESSIONS_A_DEVICE / weight
    found: list[Session] = []
    for device in range(devices):
        away = [rng.random() < OFFLINE_DAYS for _ in range(DAYS)]
        rate = per_unit * (BUSY_TIMES if device < busy else 1) / DAYS
        moment = rng.expovariate(rate)
        while moment < DAYS:
            cost = min(60 * CENT, max(2 * CENT, int(rng.expovariate(1 / 20) * CENT)))
            found.append(Session(START + timedelta(days=moment), device, cost, not away[int(moment)]))
            moment += rng.expovariate(rate)
    found.sort(key=lambda each: each.moment)
    return found


class CachedBalance:
    """Each device goes by the balance that it saw when it was connected last."""

    def __init__(self, limit: int, devices: int) -> None:
        self.limit, self.spent = limit, 0
        self.seen = [0] * devices
        self.since = [0] * devices

    def charges(self, session: Session) -> bool:
        at = session.device
        if session.online:
            self.seen[at], self.since[at] = self.spent, 0
        if self.seen[at] + self.since[at] + RESERVE > self.limit:
            return False
        self.spent += session.cost
        self.since[at] += session.cost
        return True


class StaticSplit:
    """Each device has its own part from the beginning."""

    def __init__(self, limit: int, devices: int) -> None:
        self.part, self.own, self.spent = limit // devices, [0] * devices, 0

    def charges(self, session: Session) -> bool:
        if self.own[session.device] + RESERVE > self.part:
            return False
        self.own[session.device] += session.cost
        self.spent += session.cost
        return True


@dataclass(slots=True)
class Lent:
    """What the backend knows of one device, and what the device holds."""

    loans: dict[str, Loan] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    heard: datetime | None = None
    gap_s: float = FIRST_GAP_S
    rate: float = 0.0
    spent: int = 0
    counted: int = 0


class Leases:
    """Ours: adapted to demand and scarcity; with `size` always as much, as the reference simulated it."""

    def __init__(self, limit: int, devices: int, size: int | None = None) -> None:
        self.limit, self.size, self.spent = limit, size, 0
        self.devices = [Lent() for _ in range(devices)]
        self.sums: Sums = NOTHING
        self.known: set[int] = set()
        self.number = 0

    def charges(self, session: Session) -> bool:
        one = self.devices[session.device]
        if session.online:
            self._contact(session.device, one, session.moment)
        took = self._reserve(one, session.moment)
        if took is None:
            return False
        self.spent += session.cost
        one.spent += session.cost
        left = session.cost
        for lease in took:
            part = min(left, one.loans[lease].lease.amount - one.used[lease])
            one.used[lease] += part
            left -= part
        if session.online:
            self._report(one, session.moment)
        return True

    def _reserve(self, one: Lent, now: datetime) -> list[str] | None:
        """The leases that cover a session, or None."""
        took, found = 0, []
        for id, loan in one.loans.items():
            if not loan.closed and loan.lease.spend_until > now:
                took += loan.lease.amount - one.used[id]
                found.append(id)
        return found if took >= RESERVE else None

    def _contact(self, number: int, one: Lent, now: datetime) -> None:
        if one.heard is not None and (now - one.heard).total_seconds() >= SAME_CONTACT_S:
            passed_s = (now - one.heard).total_seconds()
            one.gap_s += NEWER_COUNTS * (passed_s - one.gap_s)
            one.rate += NEWER_COUNTS * ((one.spent - one.counted) / passed_s - one.rate)
            one.counted = one.spent
        one.heard = now
        self.known.add(number)
        self._report(one, now)
        account = self._account(one)
        amount, replaces = self._amount(account, str(number), one, now)
        if amount < 1:
            return
        self.number += 1
        lease = GrantedLease(
            id=str(self.number),
            budget="all",
            journal="-",
            amount=amount,
            per_session=RESERVE,
            not_before=now,
            spend_until=now + LEASE,
            settle_by=now + 2 * LEASE,
            issued_at=now,
            number=self.number,
        )
        try:
            self._keep(one, granted(account, lease, str(number), hold=amount))
        except OverCommitted:
            return
        one.used[lease.id] = 0
        for id in replaces:
            self._close(one, id)

    def _amount(self, account: Account, device: str, one: Lent, now: datetime) -> tuple[int, tuple[str, ...]]:
        if self.size is None:
            expected = int(one.rate * one.gap_s)
            return ration(
                account,
                device,
                journal="-",
                need=RESERVE,
                per_session=RESERVE,
                expected=expected,
                devices=len(self.known),
                now=now,
            )
        held = sum(loan.free for loan in account.loans.values() if loan.lease.spend_until > now)
        more = self.size * CENT - held
        return (more, ()) if 0 < more <= account.free else (0, ())

    def _report(self, one: Lent, now: datetime) -> None:
        account = self._account(one)
        for id, loan in one.loans.items():
            over = loan.lease.spend_until <= now or one.used[id] >= loan.lease.amount
            use = Use(lease=id, consumed=one.used[id], reserved=0, count=loan.count + 1, closed=over)
            account = reported(account, use)
        self._keep(one, account)

    def _close(self, one: Lent, id: str) -> None:
        loan = one.loans[id]
        use = Use(lease=id, consumed=one.used[id], reserved=0, count=loan.count + 1, closed=True)
        self._keep(one, reported(self._account(one), use))

    def _account(self, one: Lent) -> Account:
        own = sum((sums_of(loan) for loan in one.loans.values()), start=NOTHING)
        return Account(
            key="all", period=MONTH, limit=self.limit, loans=MappingProxyType(one.loans), besides=self.sums - own
        )

    def _keep(self, one: Lent, account: Account) -> None:
        if account.settled + account.outstanding > self.limit:
            raise AssertionError("the ledger lent more than there is")
        self.sums = account.sums
        # What is closed stays in the sums alone.
        one.loans = {id: loan for id, loan in account.loans.items() if not loan.closed}
        one.used = {id: one.used.get(id, 0) for id in one.loans}


Player = CachedBalance | StaticSplit | Leases
POLICIES: dict[str, Callable[[int, int], Player]] = {
    "cached balance": CachedBalance,
    "static split": StaticSplit,
    **{f"lease {size}": lambda limit, devices, size=size: Leases(limit, devices, size) for size in (60, 120, 200, 400)},
    "adaptive lease": Leases,
}


def play(policy: str, devices: int, limit: int, seeds: int) -> Outcome:
    """The worst overspending of all seeds, and the share of refused sessions of all of them."""
    worst, refused, sessions, began = 0, 0, 0, time.perf_counter()
    for seed in range(seeds):
        player = POLICIES[policy](limit * devices * CENT, devices)
        for session in workload_of(devices, seed):
            sessions += 1
            refused += not player.charges(session)
        worst = max(worst, player.spent - limit * devices * CENT)
    return Outcome(
        policy=policy,
        devices=devices,
        limit=limit * devices,
        seeds=seeds,
        sessions=sessions,
        overspend=max(0, worst) // CENT,
        refused=refused / sessions,
        seconds=time.perf_counter() - began,
    )


_workloads: dict[tuple[int, int], list[Session]] = {}


def workload_of(devices: int, seed: int) -> list[Session]:
    if (devices, seed) not in _workloads:
        _workloads[devices, seed] = workload(devices, seed)
    return _workloads[devices, seed]


def outcomes(devices: int, seeds: int) -> Iterator[Outcome]:
    for limit in LIMITS_A_DEVICE:
        for policy in POLICIES:
            yield play(policy, devices, limit, seeds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make simulate-budgets")
    parser.add_argument("--devices", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--seeds", type=int, help="how often each is played (20 for 100 devices, 1 for 10,000)")
    arguments = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    found: list[Outcome] = []
    for devices in arguments.devices:
        seeds = arguments.seeds or max(1, 2_000 // devices)
        sys.stdout.write(f"\n{devices} devices, {DAYS} days, seeds 0 to {seeds - 1}; worst overspending / refused\n")
        sys.stdout.write(f"{'limit, EUR':>16}" + "".join(f"{name:>18}" for name in POLICIES) + "\n")
        row: list[Outcome] = []
        for outcome in outcomes(devices, seeds):
            row.append(outcome)
            if len(row) == len(POLICIES):
                cells = "".join(f"{each.overspend:>9,} / {each.refused:>5.1%}" for each in row)
                sys.stdout.write(f"{row[0].limit:>16,}{cells}\n")
                sys.stdout.flush()
                found += row
                row = []
    (BUILD / "budgets.json").write_text(json.dumps([as_json(each) for each in found], indent=1) + "\n")
    for devices in arguments.devices:
        draw(devices, [each for each in found if each.devices == devices])
    sys.stdout.write(f"\nwritten: {BUILD / 'budgets.json'}, budgets-refused-*.svg, budgets-overspend-*.svg\n")


def as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "policy": outcome.policy,
        "devices": outcome.devices,
        "limit_eur": outcome.limit,
        "seeds": outcome.seeds,
        "sessions": outcome.sessions,
        "overspend_eur": outcome.overspend,
        "refused": round(outcome.refused, 4),
        "seconds": round(outcome.seconds, 2),
    }


def draw(devices: int, found: list[Outcome]) -> None:
    limits = sorted({each.limit for each in found})

    def groups(value: Callable[[Outcome], float]) -> list[Group]:
        return [
            Group(
                name=f"{limit:,} EUR",
                values={each.policy: value(each) for each in found if each.limit == limit},
            )
            for limit in limits
        ]

    refused = bars(f"Refused sessions, {devices:,} devices", "%", groups(lambda each: each.refused * 100))
    overspend = bars(
        f"Worst overspending, {devices:,} devices",
        "% of the limit",
        groups(lambda each: each.overspend / each.limit * 100),
    )
    (BUILD / f"budgets-refused-{devices}.svg").write_text(refused)
    (BUILD / f"budgets-overspend-{devices}.svg").write_text(overspend)


if __name__ == "__main__":
    main()
