"""Small builders for tariffs and charge records, everything defaulted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from agent.core.tariff.records import ChargeRecord, Period
from agent.core.tariff.tariffs import Component, Dimension, Element, Phase, PriceLimit, Restrictions, Tariff, TaxRate

MONDAY = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
Number = str | int | Decimal


def a_price(
    dimension: str, price: Number, *, vat: Number | None = None, step: int = 1, taxed: bool = True
) -> Component:
    """`taxed=False`: nobody told the taxes."""
    rates = () if vat is None else (TaxRate(name="VAT", percent=Decimal(vat)),)
    taxes = rates if taxed else None
    return Component(dimension=Dimension(dimension), price=Decimal(price), taxes=taxes, step_size=step)


def an_element(*components: Component, reservation: str | None = None, **restrictions: object) -> Element:
    """Times as "hh:mm", numbers as they come, weekdays as a set of 0 to 6."""
    times = {"start_minute", "end_minute"}
    plain = {"start_date", "end_date", "days_of_week"}
    values = {
        name: value if name in plain else _minute(str(value)) if name in times else Decimal(str(value))
        for name, value in restrictions.items()
    }
    phase = Phase.CHARGE if reservation is None else Phase(reservation)
    return Element(components=components, restrictions=replace(Restrictions(phase=phase), **values))  # type: ignore[arg-type]


def a_tariff(*elements: Element | Component, **fields: object) -> Tariff:
    """Components stand for an element without restrictions each."""
    listed = [one if isinstance(one, Element) else an_element(one) for one in elements]
    numbered = tuple(replace(one, index=index) for index, one in enumerate(listed))
    return replace(Tariff(id="T1", currency="EUR", elements=numbered), **fields)  # type: ignore[arg-type]


def a_limit(net: Number | None = None, gross: Number | None = None) -> PriceLimit:
    return PriceLimit(net=None if net is None else Decimal(net), gross=None if gross is None else Decimal(gross))


def a_period(minutes: float = 0, **fields: object) -> Period:
    """Starts so many minutes after the session; hours given in minutes as time=, parking=, reservation=."""
    names = {"time": "time_h", "parking": "parking_h", "reservation": "reservation_h", "kwh": "energy_kwh"}
    values: dict[str, object] = {}
    for name, value in fields.items():
        if name in ("time", "parking", "reservation"):
            values[names[name]] = Decimal(str(value)) / 60
        else:
            plain = name in ("tariff_id", "pause", "start") or isinstance(value, Decimal)
            values[names.get(name, name)] = value if plain else Decimal(str(value))
    start = MONDAY + timedelta(minutes=minutes)
    return replace(Period(start=start), **values)  # type: ignore[arg-type]


def a_record(
    *periods: Period, start: datetime = MONDAY, minutes: float | None = None, **fields: object
) -> ChargeRecord:
    """Periods are moved with the session's start. It ends after `minutes`, else with the last period's own time."""
    moved = tuple(
        replace(one, start=None if one.start is None else one.start - MONDAY + start, index=index)
        for index, one in enumerate(periods)
    )
    end = start + timedelta(minutes=minutes) if minutes is not None else None
    record = ChargeRecord(id="C1", currency="EUR", start=start, end=end, periods=moved)
    return replace(record, **fields)  # type: ignore[arg-type]


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)
