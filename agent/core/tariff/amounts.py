"""Money before and after taxes, where either side may honestly be unknown.

Rounding is rounding.py; which quantity is billed at which price is calculator.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext

from agent.core.tariff.tariffs import Basis, TaxRate

ZERO = Decimal(0)
PERCENT = Decimal(100)
PRECISION = 50  # well above the 28 that is needed, so that hours in thirds and long sums stay far below any tolerance


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """The same precision whatever the caller's decimal context is."""
    with localcontext(Context(prec=PRECISION)):
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxAmount:
    """`percent` is None where a document states only the amount, or where a price limit mixed several rates."""

    name: str
    percent: Decimal | None
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """None is unknown, never zero. `taxes` is None as soon as one part's taxes are unknown."""

    net: Decimal | None
    taxes: tuple[TaxAmount, ...] | None
    gross: Decimal | None

    @property
    def tax(self) -> Decimal | None:
        """What lies between net and gross."""
        return None if self.net is None or self.gross is None else self.gross - self.net


NOTHING = Amount(net=ZERO, taxes=(), gross=ZERO)


def taxed(amount: Decimal, basis: Basis, rates: tuple[TaxRate, ...] | None) -> Amount:
    """The amount with its taxes. Nothing has no taxes; unknown taxes leave the other side unknown (OCPI 2.3.0)."""
    if amount == ZERO and rates is None:
        return NOTHING
    if rates is None:
        known = basis is Basis.NET
        return Amount(net=amount if known else None, taxes=None, gross=None if known else amount)
    factor = 1 + sum((rate.percent for rate in rates), ZERO) / PERCENT
    net = amount if basis is Basis.NET else amount / factor
    taxes = tuple(
        TaxAmount(name=rate.name, percent=rate.percent, amount=net * rate.percent / PERCENT) for rate in rates
    )
    return Amount(net=net, taxes=taxes, gross=net * factor if basis is Basis.NET else amount)


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum, unknown where any part is unknown; taxes are joined by name and rate."""
    net: Decimal | None = ZERO
    gross: Decimal | None = ZERO
    taxes: dict[tuple[str, Decimal | None], Decimal] | None = {}
    for amount in amounts:
        net = None if net is None or amount.net is None else net + amount.net
        gross = None if gross is None or amount.gross is None else gross + amount.gross
        if taxes is None or amount.taxes is None:
            taxes = None
            continue
        for tax in amount.taxes:
            taxes[tax.name, tax.percent] = taxes.get((tax.name, tax.percent), ZERO) + tax.amount
    listed = (
        None
        if taxes is None
        else tuple(TaxAmount(name=name, percent=percent, amount=sum_) for (name, percent), sum_ in taxes.items())
    )
    return Amount(net=net, taxes=listed, gross=gross)
