"""The result of pricing: lines that say why, totals under OCPI's names, findings. Made by calculator.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from agent.core.findings import Finding
from agent.core.tariff.amounts import NOTHING, Amount
from agent.core.tariff.records import Total


class Item(StrEnum):
    """What a line is for."""

    ENERGY = "ENERGY"
    TIME = "TIME"
    PARKING_TIME = "PARKING_TIME"
    FLAT = "FLAT"
    RESERVATION_TIME = "RESERVATION_TIME"
    RESERVATION_FLAT = "RESERVATION_FLAT"
    MIN_PRICE = "MIN_PRICE"
    MAX_PRICE = "MAX_PRICE"


UNITS = {Item.ENERGY: "kWh", Item.TIME: "h", Item.PARKING_TIME: "h", Item.RESERVATION_TIME: "h"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`metered` and `billed` are kWh or hours, 1 for what is charged once. `price` is in the basis of the tariff and
    None where no element matched or where a price limit moved the total. `belongs_to` is its OCPI total."""

    item: Item
    belongs_to: Total
    period: int | None
    tariff: str
    element: int | None
    metered: Decimal
    billed: Decimal
    price: Decimal | None
    amount: Amount
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """`totals` are exact; `stated` has the four decimals of OCPI numbers; `payable` is rounded to money."""

    currency: str
    lines: tuple[Line, ...]
    totals: Mapping[Total, Amount]
    stated: Mapping[Total, Amount]
    payable: Amount
    findings: tuple[Finding, ...]

    @property
    def components(self) -> int:
        """How many different prices were used: each may have been rounded once by whoever made the record."""
        return len({(line.item, line.tariff, line.element) for line in self.lines if line.amount != NOTHING})
