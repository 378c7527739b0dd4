"""A charge record: what was metered, period by period, and what the network says it costs.

Reading OCPI CDRs is agent/ocpi/records.py; mending broken periods is periods.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from agent.core.tariff.tariffs import Tariff, Version


class Total(StrEnum):
    """The totals of a CDR under the names that OCPI gives them."""

    COST = "total_cost"
    ENERGY = "total_energy_cost"
    TIME = "total_time_cost"
    PARKING = "total_parking_cost"
    FIXED = "total_fixed_cost"
    RESERVATION = "total_reservation_cost"


class Pause(StrEnum):
    """Who is not drawing power while nothing flows. OCPI documents do not tell, nor do the chargers known so far."""

    UNKNOWN = "unknown"
    VEHICLE = "vehicle"
    STATION = "station"


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From its start to the next period's start. Volumes are in the units of OCPI: kWh and hours.

    `start` is None when unknown. `index` is its place in the document.
    """

    start: datetime | None
    energy_kwh: Decimal = Decimal(0)
    time_h: Decimal = Decimal(0)
    parking_h: Decimal = Decimal(0)
    reservation_h: Decimal = Decimal(0)
    power_kw: Decimal | None = None
    min_power_kw: Decimal | None = None
    max_power_kw: Decimal | None = None
    current_a: Decimal | None = None
    min_current_a: Decimal | None = None
    max_current_a: Decimal | None = None
    tariff_id: str | None = None
    pause: Pause = Pause.UNKNOWN
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A sum as the network states it; None where the document says nothing."""

    net: Decimal | None
    gross: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRecord:
    """`start` and `end` are None when unknown: OCPI writes 1970-1-1T00:00:00Z by agreement."""

    id: str
    currency: str
    start: datetime | None
    end: datetime | None
    periods: tuple[Period, ...]
    total_energy_kwh: Decimal | None = None
    total_time_h: Decimal | None = None
    total_parking_h: Decimal | None = None
    stated: Mapping[Total, Stated] = field(default_factory=dict)
    credit: bool = False
    zone: str | None = None
    tariffs: tuple[Tariff, ...] = ()
    version: Version = Version.V2_3_0
