"""Where a restriction can change inside a period, and the period cut there: at local times, at kWh, at durations.

The calculator trusts the periods of a record, as OCPI obliges the network to start one at every change of price.
It asks here to notice when that was not done, and to cut (repair mode) when the caller wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from agent.core.tariff.amounts import ZERO
from agent.core.tariff.periods import Slice
from agent.core.tariff.tariffs import DAY_MINUTES, Element, Restrictions

MAX_DAYS = 400  # a period longer than this is broken; it is cut no further


def cut(piece: Slice, elements: Iterable[Element], zone: ZoneInfo | None) -> tuple[Slice, ...]:
    """The period in parts between which no restriction changes, energy and time spread evenly over it."""
    ends = sorted({*shares(piece, elements, zone), Fraction(1)})
    begin = Fraction(0)
    parts: list[Slice] = []
    for end in ends:
        parts.append(part(piece, begin, end))
        begin = end
    return tuple(parts)


def part(piece: Slice, begin: Fraction, end: Fraction) -> Slice:
    """The share [begin, end) of a period. What may be wrong with its hours stays with its first part."""
    share = end - begin
    span = _span(piece)
    starts = piece.start if piece.start is None or span is None else piece.start + _times(span, begin)
    ends = piece.end if piece.start is None or span is None else piece.start + _times(span, end)
    length_s = _duration_s(piece)
    first = begin == 0
    return replace(
        piece,
        start=starts,
        end=ends,
        energy_kwh=_decimal(Fraction(piece.energy_kwh) * share),
        time_s=_decimal(Fraction(piece.time_s) * share),
        parking_s=_decimal(Fraction(piece.parking_s) * share),
        reservation_s=_decimal(Fraction(piece.reservation_s) * share),
        time_error_s=piece.time_error_s if first else ZERO,
        parking_error_s=piece.parking_error_s if first else ZERO,
        reservation_error_s=piece.reservation_error_s if first else ZERO,
        energy_before_kwh=_decimal(Fraction(piece.energy_before_kwh) + Fraction(piece.energy_kwh) * begin),
        elapsed_before_s=_decimal(Fraction(piece.elapsed_before_s) + length_s * begin),
    )


def shares(piece: Slice, elements: Iterable[Element], zone: ZoneInfo | None) -> Iterator[Fraction]:
    """Where in the period, from 0 to 1 exclusive, an element may begin or cease to match."""
    span, length_s = _span(piece), _duration_s(piece)
    moments: dict[datetime, None] = {}
    for restrictions in (element.restrictions for element in elements):
        if restrictions.are_none:
            continue
        for kwh in (restrictions.min_kwh, restrictions.max_kwh):
            if kwh is not None and piece.energy_kwh > 0:
                yield from _inner(Fraction(kwh - piece.energy_before_kwh) / Fraction(piece.energy_kwh))
        for seconds in (restrictions.min_duration_s, restrictions.max_duration_s):
            if seconds is not None and length_s > 0:
                yield from _inner(Fraction(seconds - piece.elapsed_before_s) / length_s)
        if zone is not None and span is not None and piece.start is not None and restrictions.are_local:
            moments.update(dict.fromkeys(changes(restrictions, piece.start, piece.start + span, zone)))
    for moment in moments:
        if span and piece.start is not None:
            yield from _inner(Fraction((moment - piece.start) // _TICK, span // _TICK))


_TICK = timedelta(microseconds=1)


def _inner(share: Fraction) -> Iterator[Fraction]:
    if 0 < share < 1:
        yield share


def _span(piece: Slice) -> timedelta | None:
    if piece.start is None or piece.end is None or piece.end <= piece.start:
        return None
    return piece.end - piece.start


def _duration_s(piece: Slice) -> Fraction:
    span = _span(piece)
    if span is None:
        return Fraction(piece.time_s + piece.parking_s)
    return Fraction(span // _TICK, 1_000_000)


def changes(restrictions: Restrictions, start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """UTC moments at which the local clock passes a boundary; a cut too many does no harm.

    A local time that occurs twice is passed twice; one that never occurs is passed when the clock jumps over it.
    """
    minutes = {restrictions.start_minute, restrictions.end_minute, 0} - {None, DAY_MINUTES}
    day = start.astimezone(zone).date() - timedelta(days=1)
    for offset in range(min(MAX_DAYS, (end - start).days + 4)):
        date_ = day + timedelta(days=offset)
        for minute in minutes:
            if minute is not None:
                yield from (_at(date_, minute, zone, fold) for fold in (0, 1))
        yield from _jump(_at(date_, 0, zone, 0), _at(date_ + timedelta(days=1), 0, zone, 0), zone)


def _at(day: date, minute: int, zone: ZoneInfo, fold: int) -> datetime:
    local = datetime.combine(day, time(minute // 60, minute % 60, fold=fold), tzinfo=zone)
    return local.astimezone(UTC)


def _jump(begin: datetime, end: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """The moment between the two at which the zone's offset changes, to the second, if it does."""
    if begin.astimezone(zone).utcoffset() == end.astimezone(zone).utcoffset():
        return
    low, high = begin, end
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        same = middle.astimezone(zone).utcoffset() == begin.astimezone(zone).utcoffset()
        low, high = (middle, high) if same else (low, middle)
    yield high


def _times(span: timedelta, share: Fraction) -> timedelta:
    return timedelta(microseconds=int(span // _TICK * share))


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
