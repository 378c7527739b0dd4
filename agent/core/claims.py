"""What a session would have to reserve of each budget that binds it, and whether the leases here cover that. Pure.

A reservation is what the session may cost at most, so that it cannot pass it: the least of the budget's most for one
session, of what the policy allows and, in money, of the worst case of the tariff (policy reference 10.2). It ends a
little inside: between the order to stop and the stop the charger goes on at what it is rated for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal

from agent.core.budgets import MICRO, Budget, Holdings, LeaseUse, Scope, Unit, bound
from agent.core.instants import Instant
from agent.core.limits import UNKNOWN_POWER_W, Limits
from agent.core.prices import HOUR_S, KWH, ZERO, CostLimit, Prices, running
from agent.core.reasons import ReasonCode
from agent.core.requests import Request
from agent.core.sessions import LARGEST_WH, LONGEST_S, Session
from agent.core.tariff.tariffs import Basis
from agent.core.tariff.worst_case import worst_case

STOP_S = 5  # from the order to stop to the stop; chargers answer in one to three seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one budget says to a session. `code` is why it cannot be charged to it; None when it can.

    `missing`: it could not be looked at, and the budget says what that means. `slack` is the part of `needed` that is
    kept for the way to a stop.
    """

    budget: Budget
    key: str | None
    needed: int = 0
    free: int = 0
    slack: int = 0
    code: ReasonCode | None = None
    missing: bool = False
    observed: str = ""

    @property
    def limit(self) -> str:
        name = self.key or self.budget.id
        return name if self.missing or not self.needed else f"{self.budget.spelled(self.needed)} of {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needed:
    """`amount` None: nobody can say; then `code` says why."""

    amount: int | None
    slack: int = 0
    code: ReasonCode | None = None
    observed: str = ""


def claims_of(
    request: Request,
    budgets: Iterable[Budget],
    subjects: Mapping[Scope, str | None],
    limits: Limits,
    holdings: Holdings,
    now: Instant,
) -> tuple[Claim, ...]:
    """Of every budget that binds whoever these are; an empty tuple when none does."""
    return tuple(_claim(request, budget, key, limits, holdings, now) for budget, key in bound(budgets, subjects))


def _claim(
    request: Request, budget: Budget, key: str | None, limits: Limits, holdings: Holdings, now: Instant
) -> Claim:
    claim = Claim(budget=budget, key=key)
    if key is None:
        observed = f"no {budget.scope.replace('_', ' ')} is known"
        return replace(claim, code=ReasonCode.LEASE_MISSING, missing=True, observed=observed)
    needed = _needed(request, budget, limits, now)
    if needed.amount is None:
        return replace(claim, code=needed.code, missing=True, observed=needed.observed)
    leases = tuple(holdings.of(key))
    claim = replace(claim, slack=needed.slack, needed=needed.amount)
    until = holdings.used_up.get(key)
    used_up = until is not None and now.latest < until
    if not any(each.is_in_force(now) for each in leases):
        if used_up:
            return replace(claim, code=ReasonCode.BUDGET_EXHAUSTED, observed=f"nothing left until {until:%Y-%m-%d}")
        return replace(claim, code=_why_none(leases, now), missing=True, observed=_none_in_words(leases, now))
    amount = min(needed.amount, holdings.per_session(key, now))
    free = holdings.free(key, now)
    claim = replace(claim, needed=amount, free=free)
    if amount > free or amount <= needed.slack:
        code = ReasonCode.BUDGET_EXHAUSTED if used_up else ReasonCode.LEASE_EMPTY
        return replace(claim, code=code, observed=f"{budget.spelled(free)} left")
    return claim


def _why_none(leases: tuple[object, ...], now: Instant) -> ReasonCode:
    if not leases:
        return ReasonCode.LEASE_MISSING
    return ReasonCode.LEASE_EXPIRED if now.trusted else ReasonCode.CLOCK_UNTRUSTED


def _none_in_words(leases: tuple[object, ...], now: Instant) -> str:
    if not leases:
        return "no lease"
    return "the lease is over" if now.trusted else f"clock {now.quality}"


def _needed(request: Request, budget: Budget, limits: Limits, now: Instant) -> _Needed:
    match budget.unit:
        case Unit.SESSIONS:
            return _Needed(amount=1)
        case Unit.ENERGY if not request.metered:
            return _Needed(amount=None, code=ReasonCode.LIMIT_UNENFORCEABLE, observed="no meter")
        case Unit.ENERGY:
            most_wh = LARGEST_WH if limits.max_energy_wh is None else limits.max_energy_wh
            slack = slack_wh(request)
            return _Needed(amount=most_wh + slack, slack=slack)
        case _:
            return _money(request, budget, limits, now)


def _money(request: Request, budget: Budget, limits: Limits, now: Instant) -> _Needed:
    """An unknown price has no finite worst case."""
    prices = request.prices
    if prices is None or (prices.until is not None and now.latest >= prices.until):
        return _Needed(amount=None, code=ReasonCode.PRICE_UNKNOWN, observed="no price")
    if prices.currency != budget.currency:
        return _Needed(amount=None, code=ReasonCode.CURRENCY_MISMATCH, observed=prices.currency)
    rates = running(CostLimit(prices=prices), budget.basis)
    if rates is None:
        return _Needed(amount=None, code=ReasonCode.PRICE_UNKNOWN, observed=f"no {budget.basis} price")
    if rates[1] > ZERO and not request.metered:
        return _Needed(amount=None, code=ReasonCode.LIMIT_UNENFORCEABLE, observed="no meter")
    slack = rates[1] * slack_wh(request) / KWH + rates[2] * STOP_S / HOUR_S
    most = _worst(request, budget, limits, rates, now)
    cap = None if limits.cost is None else _cap(limits.cost, budget.basis)
    if cap is not None:
        most = min(most, cap + slack)
    return _Needed(amount=micros(most), slack=micros(slack))


def _worst(
    request: Request, budget: Budget, limits: Limits, rates: tuple[Decimal, Decimal, Decimal], now: Instant
) -> Decimal:
    most_wh = slack_wh(request) + (LARGEST_WH if limits.max_energy_wh is None else limits.max_energy_wh)
    most_s = STOP_S + (LONGEST_S if limits.max_duration_s is None else limits.max_duration_s)
    if request.quote is not None:
        worst = worst_case(request.quote.tariff, now.latest, most_wh / KWH, most_s, zone=request.quote.zone).cost
        bound_ = worst.net if budget.basis is Basis.NET else worst.gross
        if bound_ is not None:
            return bound_
    fixed, per_kwh, per_hour = rates
    return fixed + per_kwh * most_wh / KWH + per_hour * most_s / HOUR_S + _least(request.prices, budget.basis)


def _least(prices: Prices | None, basis: Basis) -> Decimal:
    least = None if prices is None or prices.least is None else prices.least.on(basis)
    return least or ZERO


def _cap(cost: CostLimit, basis: Basis) -> Decimal | None:
    return cost.net if basis is Basis.NET else cost.gross


def slack_wh(request: Request) -> int:
    """What flows between the order to stop and the stop."""
    power_w = UNKNOWN_POWER_W if request.place.power_w is None else request.place.power_w
    return -(-power_w * STOP_S // 3600)


def held_to(limits: Limits, claims: Iterable[Claim], request: Request) -> Limits:
    """What the reservations leave: the session is stopped inside them."""
    for claim in claims:
        if claim.code is not None:
            continue
        room = claim.needed - claim.slack
        if claim.budget.unit is Unit.ENERGY:
            limits = replace(limits, max_energy_wh=_least_of(limits.max_energy_wh, room))
        elif claim.budget.unit is Unit.MONEY and request.prices is not None:
            limits = _held_to_money(limits, claim, request.prices)
    return limits


def reserved_claims(
    uses: Iterable[LeaseUse], budgets: Iterable[Budget], request: Request, limits: Limits, now: Instant
) -> tuple[Claim, ...]:
    """The claims that a record's reservations stand for: what was decided can be worked out again from it."""
    amounts: dict[str, int] = {}
    for use in uses:
        amounts[use.budget] = amounts.get(use.budget, 0) + use.amount
    named = {budget.id: budget for budget in budgets}
    return tuple(
        Claim(
            budget=named[key.partition("/")[0]],
            key=key,
            needed=amount,
            slack=_needed(request, named[key.partition("/")[0]], limits, now).slack,
        )
        for key, amount in amounts.items()
        if key.partition("/")[0] in named
    )


def _held_to_money(limits: Limits, claim: Claim, prices: Prices) -> Limits:
    room, most = Decimal(claim.needed - claim.slack) / MICRO, Decimal(claim.needed) / MICRO
    basis = claim.budget.basis
    cost = limits.cost or CostLimit(prices=prices)
    if basis is Basis.NET:
        cost = replace(cost, net=room if cost.net is None else min(cost.net, room))
    else:
        cost = replace(cost, gross=room if cost.gross is None else min(cost.gross, room))
    rates = running(cost, basis)
    if rates is None or rates[1] == ZERO:
        return replace(limits, cost=cost)
    # The charger itself holds what the money can buy, also when nobody hears it any more.
    most_wh = max(1, int((most - rates[0]) / rates[1] * KWH))
    return replace(limits, cost=cost, max_energy_wh=_least_of(limits.max_energy_wh, most_wh))


def spent_by(
    session: Session, *, complete: bool, energy_wh: int, net: Decimal | None, gross: Decimal | None
) -> dict[str, int]:
    """By budget, what a session that has ended takes of its reservations.

    What nobody has seen counts as spent in full: an end that was missed, or a cost that cannot be told.
    """
    reserved: dict[str, int] = {}
    for use in session.reserved:
        reserved[use.budget] = reserved.get(use.budget, 0) + use.amount
    return {
        budget: _spent(use, whole, session, complete, energy_wh, net, gross)
        for budget, whole in reserved.items()
        for use in [next(each for each in session.reserved if each.budget == budget)]
    }


def _spent(
    use: LeaseUse,
    whole: int,
    session: Session,
    complete: bool,
    energy_wh: int,
    net: Decimal | None,
    gross: Decimal | None,
) -> int:
    if session.meter_start_wh is None and complete:
        return 0  # it never began
    if use.unit is Unit.SESSIONS:
        return whole
    if not complete:
        return max(whole, energy_wh) if use.unit is Unit.ENERGY else whole
    if use.unit is Unit.ENERGY:
        return energy_wh
    cost = net if use.basis is Basis.NET else gross
    return whole if cost is None else micros(cost)


def micros(amount: Decimal) -> int:
    return int((amount * MICRO).to_integral_value(rounding=ROUND_CEILING))


def wanted_of(claims: Iterable[Claim]) -> Iterator[tuple[str, int]]:
    """Budgets to ask the backend for, with what a session needs."""
    for claim in claims:
        if claim.key is not None:
            yield claim.key, claim.needed


def _least_of(first: int | None, second: int) -> int:
    return second if first is None else min(first, second)
