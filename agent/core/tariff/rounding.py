"""How sums are rounded: a value that the caller chooses, because OCPI "stays out of these matters"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from enum import StrEnum

from agent.core.tariff.amounts import Amount

# ISO 4217, minor units other than two.
NO_MINOR_UNIT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
FOUR_DECIMALS = "CLF UYW"
EXPONENTS = {
    currency: decimals
    for decimals, currencies in ((0, NO_MINOR_UNIT), (3, THREE_DECIMALS), (4, FOUR_DECIMALS))
    for currency in currencies.split()
}


class Mode(StrEnum):
    HALF_UP = "half-up"
    HALF_EVEN = "half-even"


class Scope(StrEnum):
    TOTAL = "total"
    LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """`dimension_decimals`: totals per dimension as OCPI writes them (4). `total_decimals`: what is paid; None takes
    the currency's exponent. `scope` LINE rounds each line to the latter before it is added.

    A peer's total counts as WITHIN_ROUNDING up to `tolerance_units` minor units for each priced component: 0.01 EUR.
    """

    dimension_decimals: int = 4
    total_decimals: int | None = None
    mode: Mode = Mode.HALF_UP
    scope: Scope = Scope.TOTAL
    tolerance_units: Decimal = Decimal(1)

    def payable(self, amount: Amount, currency: str) -> Amount:
        """Rounded to what can be paid."""
        return self._rounded(amount, self.payable_decimals(currency))

    def stated(self, amount: Amount) -> Amount:
        """Rounded to what an OCPI document states."""
        return self._rounded(amount, self.dimension_decimals)

    def payable_decimals(self, currency: str) -> int:
        return exponent(currency) if self.total_decimals is None else self.total_decimals

    def tolerance(self, components: int, currency: str) -> Decimal:
        return self.tolerance_units * max(1, components) * Decimal(1).scaleb(-self.payable_decimals(currency))

    def rounded(self, value: Decimal, decimals: int) -> Decimal:
        mode = ROUND_HALF_UP if self.mode is Mode.HALF_UP else ROUND_HALF_EVEN
        return value.quantize(Decimal(1).scaleb(-decimals), rounding=mode)

    def _rounded(self, amount: Amount, decimals: int) -> Amount:
        taxes = amount.taxes
        return Amount(
            net=None if amount.net is None else self.rounded(amount.net, decimals),
            taxes=None if taxes is None else tuple(replace(t, amount=self.rounded(t.amount, decimals)) for t in taxes),
            gross=None if amount.gross is None else self.rounded(amount.gross, decimals),
        )


def exponent(currency: str) -> int:
    """ISO 4217 minor unit; two for a currency that is not in the list of exceptions."""
    return EXPONENTS.get(currency.upper(), 2)
