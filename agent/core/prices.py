"""Plain prices of a charge, what a fleet will pay at most, and when a session has cost so much.

Every price is a ceiling: what is not known exactly is never taken for less. A whole tariff's ceilings are
tariff_prices.py; what a session costs to the cent is tariff/calculator.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from agent.core.tariff.tariffs import Basis

ZERO = Decimal(0)
PERCENT = Decimal(100)
HOUR_S = Decimal(3600)
KWH = Decimal(1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The same price before and with taxes. None: nobody knows, and there is no ceiling."""

    net: Decimal | None = None
    gross: Decimal | None = None

    def on(self, basis: Basis) -> Decimal | None:
        return self.net if basis is Basis.NET else self.gross


FREE = Price(net=ZERO, gross=ZERO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a charge costs here. Once somebody tells prices, what is not named is free. `until`: unknown from then.

    `least`: so much may even the shortest session cost, by steps and a minimum price.
    """

    currency: str
    per_kwh: Price = FREE
    per_hour: Price = FREE
    per_parking_hour: Price = FREE
    fixed: Price = FREE
    until: datetime | None = None
    least: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCaps:
    """What a group pays at most, inclusive, on this basis. `session` is for the whole session: it is stopped there."""

    currency: str
    basis: Basis
    per_kwh: Decimal | None = None
    per_hour: Decimal | None = None
    per_parking_hour: Decimal | None = None
    fixed: Decimal | None = None
    session: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLimit:
    """A session is stopped when it has cost so much on either basis, counted by these prices."""

    prices: Prices
    net: Decimal | None = None
    gross: Decimal | None = None


def plain(amount: Decimal, basis: Basis | None, tax_percent: Decimal | None) -> Price:
    """A price of an unknown basis must pass as net and as gross. Taxes are never below zero: gross bounds net."""
    if amount == ZERO:
        return FREE
    factor = None if tax_percent is None else 1 + tax_percent / PERCENT
    if basis is Basis.GROSS:
        return Price(net=amount if factor is None else amount / factor, gross=amount)
    return Price(net=amount, gross=None if factor is None else amount * factor)


def plain_prices(
    currency: str,
    *,
    basis: Basis | None = None,
    tax_percent: Decimal | None = None,
    per_kwh: Decimal = ZERO,
    per_hour: Decimal = ZERO,
    per_parking_hour: Decimal = ZERO,
    fixed: Decimal = ZERO,
    until: datetime | None = None,
) -> Prices:
    """Prices as people tell them: one basis and one tax for all."""
    return Prices(
        currency=currency.upper(),
        per_kwh=plain(per_kwh, basis, tax_percent),
        per_hour=plain(per_hour, basis, tax_percent),
        per_parking_hour=plain(per_parking_hour, basis, tax_percent),
        fixed=plain(fixed, basis, tax_percent),
        until=until,
    )


def running(limit: CostLimit, basis: Basis) -> tuple[Decimal, Decimal, Decimal] | None:
    """(fixed, per kWh, per hour) on this basis; charging and parking share the hours, so the dearer counts."""
    prices = limit.prices
    per_hour, parking = prices.per_hour.on(basis), prices.per_parking_hour.on(basis)
    fixed, per_kwh = prices.fixed.on(basis), prices.per_kwh.on(basis)
    if fixed is None or per_kwh is None or per_hour is None or parking is None:
        return None
    return fixed, per_kwh, max(per_hour, parking)
