"""The plain prices of a whole tariff: the highest that may come to apply within a session's limits."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from agent.core.limits import Limits
from agent.core.prices import Price, Prices
from agent.core.sessions import LARGEST_WH, LONGEST_S
from agent.core.tariff.tariffs import Tariff
from agent.core.tariff.worst_case import Ceiling, shortest, worst_case


def prices_of(tariff: Tariff, start: datetime, limits: Limits, zone: ZoneInfo | None) -> Prices | None:
    """None while the tariff is not in force: an expired tariff is an unknown price (policy reference 9.3)."""
    if not tariff.is_in_force(start):
        return None
    most_wh = LARGEST_WH if limits.max_energy_wh is None else limits.max_energy_wh
    most_s = LONGEST_S if limits.max_duration_s is None else limits.max_duration_s
    worst = worst_case(tariff, start, Decimal(most_wh) / 1000, most_s, zone=zone)
    return Prices(
        currency=tariff.currency,
        per_kwh=_price(worst.per_kwh),
        per_hour=_price(worst.per_hour),
        per_parking_hour=_price(worst.per_parking_hour),
        fixed=_price(worst.fixed),
        until=tariff.valid_until,
        least=_price(shortest(tariff, start, Decimal(most_wh) / 1000, Decimal(most_s), zone=zone)),
    )


def _price(ceiling: Ceiling) -> Price:
    return Price(net=ceiling.net, gross=ceiling.gross)
