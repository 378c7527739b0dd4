"""A tariff as one model for OCPI 2.1.1, 2.2.1 and 2.3.0: elements, restrictions, prices with a list of taxes.

Reading the JSON is agent/ocpi/tariffs.py; what a session costs is calculator.py; what is odd in a tariff is lint.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

DAY_MINUTES = 24 * 60


class Version(StrEnum):
    V2_1_1 = "2.1.1"
    V2_2_1 = "2.2.1"
    V2_3_0 = "2.3.0"


class Dimension(StrEnum):
    ENERGY = "ENERGY"
    TIME = "TIME"
    PARKING_TIME = "PARKING_TIME"
    FLAT = "FLAT"


class Basis(StrEnum):
    """What a component's price is: before taxes, or with them (OCPI 2.3.0, tax_included YES)."""

    NET = "net"
    GROSS = "gross"


class Phase(StrEnum):
    """What an element prices: the charge itself, a reservation, or a reservation that nobody came for."""

    CHARGE = "CHARGE"
    RESERVATION = "RESERVATION"
    RESERVATION_EXPIRES = "RESERVATION_EXPIRES"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRate:
    name: str
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A price per kWh, per hour, or once. `step_size` counts Wh or seconds; 0 is no rounding.

    `taxes`: None = nobody told, () = no tax is applicable, a rate of 0 = zero-rated. These are three different things
    (OCPI 2.2.1, PriceComponent.vat: "not providing a VAT is different from 0 %").
    """

    dimension: Dimension
    price: Decimal
    taxes: tuple[TaxRate, ...] | None
    step_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """All must hold. A minimum is inclusive, a maximum exclusive; times, dates and weekdays (0 = Monday) are local.

    `end_minute` <= `start_minute` wraps into the next day, except that the reader turns an end of 00:00 into 24:00.
    """

    start_minute: int | None = None
    end_minute: int | None = None
    start_date: date | None = None
    end_date: date | None = None
    min_kwh: Decimal | None = None
    max_kwh: Decimal | None = None
    min_current_a: Decimal | None = None
    max_current_a: Decimal | None = None
    min_power_kw: Decimal | None = None
    max_power_kw: Decimal | None = None
    min_duration_s: Decimal | None = None
    max_duration_s: Decimal | None = None
    days_of_week: frozenset[int] | None = None
    phase: Phase = Phase.CHARGE

    @property
    def are_none(self) -> bool:
        """True when the element always matches within its phase."""
        return all(getattr(self, field.name) is None for field in fields(self) if field.name != "phase")

    @property
    def are_local(self) -> bool:
        """True when the local wall clock decides, so that the location's time zone must be known."""
        local = (self.start_minute, self.end_minute, self.start_date, self.end_date, self.days_of_week)
        return any(value is not None for value in local)


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    components: tuple[Component, ...]
    restrictions: Restrictions = Restrictions()
    index: int = 0
    """Its place in the document, so that a line or a finding can point at it."""

    def component(self, dimension: Dimension) -> Component | None:
        """The first of that dimension; a second one in the same element is never used."""
        return next((one for one in self.components if one.dimension is dimension), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLimit:
    """A minimum or maximum of the whole session; the two bases apply independently of each other."""

    net: Decimal | None = None
    gross: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    id: str
    currency: str
    elements: tuple[Element, ...]
    basis: Basis = Basis.NET
    min_price: PriceLimit = PriceLimit()
    max_price: PriceLimit = PriceLimit()
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    kind: str | None = None
    country: str | None = None
    party: str | None = None
    version: Version = Version.V2_3_0

    def is_in_force(self, moment: datetime) -> bool:
        """Judged once, at the start of the session: a driver accepts the tariff that is valid then."""
        begun = self.valid_from is None or self.valid_from <= moment
        return begun and (self.valid_until is None or moment < self.valid_until)
