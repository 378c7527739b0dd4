"""Which element prices what at one moment: restrictions against what is known of the session then.

What is known is made by periods.py; whether missing data lets an element match is the caller's choice (Missing).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from agent.core.tariff.tariffs import DAY_MINUTES, Component, Dimension, Element, Phase, Restrictions


class Missing(StrEnum):
    """What a restriction on power or current means when nobody measured it. Peers disagree, so it is declared."""

    AVERAGE = "average"
    """Power: energy divided by time of the period. Where even that is not known, and for current: no match."""
    NO_MATCH = "no-match"
    MATCH = "match"


class Reach(StrEnum):
    """How a period whose power or current was not constant meets a range. OCPI says only "momentary"."""

    SPAN = "span"
    """The range was touched: peak >= minimum and trough < maximum."""
    PEAK = "peak"
    TROUGH = "trough"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The least and the most of a momentary value during a period."""

    trough: Decimal
    peak: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """All that restrictions may ask. `local` is the wall clock at the location; None is unknown."""

    local: datetime | None
    energy_kwh: Decimal
    elapsed_s: Decimal
    power_kw: Reading | None = None
    current_a: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    missing: Missing = Missing.AVERAGE
    reach: Reach = Reach.SPAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    element: Element
    component: Component


def select(
    elements: Iterable[Element], dimension: Dimension, phase: Phase, moment: Moment, matching: Matching
) -> Selected | None:
    """The first element in list order with that dimension whose restrictions all match; else it costs nothing."""
    for element in elements:
        component = element.component(dimension)
        if component is None or element.restrictions.phase is not phase:
            continue
        if applies(element.restrictions, moment, matching):
            return Selected(element=element, component=component)
    return None


def applies(restrictions: Restrictions, moment: Moment, matching: Matching) -> bool:
    """Every restriction at once; the phase is judged by the caller."""
    return (
        _local(restrictions, moment.local, matching)
        and _within(restrictions.min_kwh, moment.energy_kwh, restrictions.max_kwh)
        and _within(restrictions.min_duration_s, moment.elapsed_s, restrictions.max_duration_s)
        and _momentary(restrictions.min_power_kw, moment.power_kw, restrictions.max_power_kw, matching)
        and _momentary(restrictions.min_current_a, moment.current_a, restrictions.max_current_a, matching)
    )


def in_window(minute: int, start: int | None, end: int | None) -> bool:
    """[start, end) of local minutes; an end before the start wraps into the next day; equal ends are never."""
    begin = 0 if start is None else start
    finish = DAY_MINUTES if end is None else end
    return begin <= minute < finish if begin <= finish else minute >= begin or minute < finish


def matches_local(restrictions: Restrictions, local: datetime) -> bool:
    """The restrictions on the wall clock alone."""
    day = local.date()
    return (
        in_window(local.hour * 60 + local.minute, restrictions.start_minute, restrictions.end_minute)
        and (restrictions.start_date is None or restrictions.start_date <= day)
        and (restrictions.end_date is None or day < restrictions.end_date)  # exclusive
        and (restrictions.days_of_week is None or day.weekday() in restrictions.days_of_week)
    )


def never_matches(restrictions: Restrictions) -> str | None:
    """Why no session can ever meet these restrictions, whatever else the tariff says; None when one might."""
    for name, minimum, maximum in (
        ("kwh", restrictions.min_kwh, restrictions.max_kwh),
        ("current", restrictions.min_current_a, restrictions.max_current_a),
        ("power", restrictions.min_power_kw, restrictions.max_power_kw),
        ("duration", restrictions.min_duration_s, restrictions.max_duration_s),
    ):
        if minimum is not None and maximum is not None and minimum >= maximum:
            return f"min_{name} {minimum} is not below max_{name} {maximum}, which is exclusive"
        if name in ("kwh", "duration") and maximum is not None and maximum <= 0:
            return f"max_{name} {maximum} is exclusive and nothing is below it"
    start, end = restrictions.start_minute, restrictions.end_minute
    if (start is not None or end is not None) and (start or 0) == (DAY_MINUTES if end is None else end):
        return "start_time and end_time are the same"
    first, last = restrictions.start_date, restrictions.end_date
    if first is not None and last is not None:
        if first >= last:
            return f"start_date {first} is not before end_date {last}, which is exclusive"
        days = {(first + timedelta(days=offset)).weekday() for offset in range(min(7, (last - first).days))}
        if restrictions.days_of_week is not None and not days & restrictions.days_of_week:
            return f"none of its weekdays lies between {first} and {last}"
    return "its list of weekdays has no weekday" if restrictions.days_of_week == frozenset() else None


def _local(restrictions: Restrictions, local: datetime | None, matching: Matching) -> bool:
    if not restrictions.are_local:
        return True
    return matching.missing is Missing.MATCH if local is None else matches_local(restrictions, local)


def _within(minimum: Decimal | None, value: Decimal, maximum: Decimal | None) -> bool:
    return (minimum is None or minimum <= value) and (maximum is None or value < maximum)


def _momentary(minimum: Decimal | None, reading: Reading | None, maximum: Decimal | None, matching: Matching) -> bool:
    if minimum is None and maximum is None:
        return True
    if minimum is not None and maximum is not None and minimum >= maximum:
        return False  # an empty range, which neither a missing value nor a varying one is in
    if reading is None:
        return matching.missing is Missing.MATCH
    match matching.reach:
        case Reach.SPAN:
            return (minimum is None or minimum <= reading.peak) and (maximum is None or reading.trough < maximum)
        case Reach.PEAK:
            return _within(minimum, reading.peak, maximum)
        case Reach.TROUGH:
            return _within(minimum, reading.trough, maximum)
