"""What a session costs so far, from its meter readings, and the most it may cost by the time the next one comes.

Pure. Readings become the charging periods of OCPI: a new one begins where another price applies, so a session keeps as
many as its price changed, and not one a sample. Only readings that are recorded are counted, so that a journal read
again gives the same cost. The price itself is tariff/calculator.py, by which limit a session stops limits.py.

Why it stops in time. Between the last recorded reading and a later moment every kWh and hour costs at most the highest
price that may come to apply (worst_case), a fixed price at most the highest that was not charged yet, and rounding up
adds less than one step of energy and one of time; min_price and max_price are monotone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from agent.core.prices import HOUR_S, KWH, ZERO, Prices
from agent.core.quotes import Quote
from agent.core.tariff.amounts import Amount, exact_arithmetic
from agent.core.tariff.boundaries import cut
from agent.core.tariff.calculator import price
from agent.core.tariff.matching import Matching, Moment, Reading, select
from agent.core.tariff.periods import Slice
from agent.core.tariff.priced import Item, Priced
from agent.core.tariff.records import ChargeRecord, Period, Total
from agent.core.tariff.tariffs import Basis, Component, Dimension, Element, Phase, PriceLimit, Tariff
from agent.core.tariff.worst_case import Ceiling, ceilings, held

HOUR_MS = Decimal(3_600_000)
A_MOMENT_MS = 1_000  # clocks of a charger's last reading and of its stop; no pause is told by so little
MOST_PERIODS = 500  # a car that pauses every minute for a day; what comes later is added to a period of the same price
PICKED = (Dimension.ENERGY, Dimension.TIME, Dimension.PARKING_TIME, Dimension.FLAT)

Picks = tuple[int | None, ...]
"""Which element prices each dimension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Money that is known before taxes, with them, or both; with the four decimals of OCPI."""

    currency: str
    net: Decimal | None = None
    gross: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The readings so far, as periods; up to this duration and energy, counted from the start."""

    periods: tuple[Period, ...] = ()
    picks: tuple[tuple[Picks, bool], ...] = ()
    duration_ms: int = 0
    energy_wh: int = 0


NOTHING_YET = Tally()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """By what a session is priced. `began` is None while nobody knows what time it was."""

    currency: str
    tariffs: tuple[tuple[Basis | None, Tariff], ...]
    zone: ZoneInfo | None
    began: datetime | None

    @property
    def leading(self) -> Tariff:
        return self.tariffs[0][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What the recorded readings cost at most, and what each further kWh and hour adds at most; None is unknown."""

    spent: Ceiling
    per_kwh: Ceiling
    per_hour: Ceiling

    def spent_by(self, kwh: Decimal, hours: Decimal) -> Ceiling:
        """So much later, before the tariff's price limits."""
        return Ceiling(
            net=_later(self.spent.net, self.per_kwh.net, kwh, self.per_hour.net, hours),
            gross=_later(self.spent.gross, self.per_kwh.gross, kwh, self.per_hour.gross, hours),
        )

    def held_by(self, bill: Bill, kwh: Decimal, hours: Decimal) -> Ceiling:
        """So much later, all told."""
        return held(self.spent_by(kwh, hours), bill.leading)

    def rate_at(self, power_kw: Decimal) -> Ceiling:
        """For an hour at this power."""
        return Ceiling(
            net=_later(ZERO, self.per_kwh.net, power_kw, self.per_hour.net, Decimal(1)),
            gross=_later(ZERO, self.per_kwh.gross, power_kw, self.per_hour.gross, Decimal(1)),
        )

    def is_fixed(self, basis: Basis) -> bool:
        """It grows neither with energy nor with time."""
        return self.per_kwh.on(basis) == ZERO and self.per_hour.on(basis) == ZERO


def cap_of(bill: Bill) -> Ceiling:
    """What a session of any size costs at most, where the tariff has a maximum price."""
    return held(Ceiling(net=None, gross=None), replace(bill.leading, min_price=PriceLimit()))


def bill_by(quote: Quote | None, prices: Prices | None, began: datetime | None) -> Bill | None:
    """A tariff says more than plain prices. None: nobody told what it costs."""
    if quote is not None:
        return Bill(currency=quote.tariff.currency, tariffs=((None, quote.tariff),), zone=quote.zone, began=began)
    if prices is None:
        return None
    each = tuple((basis, tariff) for basis in Basis if (tariff := plain_tariff(prices, basis)) is not None)
    return Bill(currency=prices.currency, tariffs=each, zone=None, began=began) if each else None


def plain_tariff(prices: Prices, basis: Basis) -> Tariff | None:
    """The same as a tariff, on one basis; None where one of them is unknown on it."""
    named = (
        (Dimension.FLAT, prices.fixed.on(basis)),
        (Dimension.ENERGY, prices.per_kwh.on(basis)),
        (Dimension.TIME, prices.per_hour.on(basis)),
        (Dimension.PARKING_TIME, prices.per_parking_hour.on(basis)),
    )
    components = tuple(
        Component(dimension=dimension, price=amount, taxes=None, step_size=0)
        for dimension, amount in named
        if amount is not None
    )
    if len(components) < len(named):
        return None
    return Tariff(id="plain", currency=prices.currency, elements=(Element(components=components),), basis=basis)


def counted(tally: Tally, bill: Bill, *, duration_ms: int, energy_wh: int, power_w: int | None = None) -> Tally:
    """With one more reading. One that goes back in time or energy adds nothing: neither is taken from a bill."""
    span_ms, added_wh = duration_ms - tally.duration_ms, energy_wh - tally.energy_wh
    if span_ms <= 0 and added_wh <= 0:
        return tally
    with exact_arithmetic():
        piece = _piece(tally, bill, max(0, span_ms), max(0, added_wh), power_w)
        elements = bill.leading.elements
        changing = not all(element.restrictions.are_none for element in elements)
        for part in cut(piece, elements, bill.zone) if changing else (piece,):
            tally = _with(tally, part, bill)
    return replace(
        tally,
        duration_ms=max(tally.duration_ms, duration_ms),
        energy_wh=max(tally.energy_wh, energy_wh),
    )


def cost_of(tally: Tally, bill: Bill) -> Cost:
    """What has to be paid if it ended now: steps, price limits and all."""
    net, gross = _both(tally, bill, bare=False)
    return Cost(currency=bill.currency, net=_four(net), gross=_four(gross))


def priced(tally: Tally, bill: Bill) -> Priced:
    """Line by line, by the tariff or, of plain prices, by the first basis that is known."""
    return _price(tally, bill, bill.leading)


def exposure_of(tally: Tally, bill: Bill, most_wh: int, most_s: int) -> Exposure:
    """For a session that takes at most so much and lasts at most so long, all of it counted from the start."""
    net, gross = _both(tally, bill, bare=True)
    per_kwh, per_hour, reserve = (
        _joined(bill, each) for each in zip(*_most(bill, most_wh, most_s, _fixed(tally, bill)), strict=True)
    )
    return Exposure(
        spent=Ceiling(net=_plus(net, reserve.net), gross=_plus(gross, reserve.gross)),
        per_kwh=per_kwh,
        per_hour=per_hour,
    )


# Readings become periods


def _piece(tally: Tally, bill: Bill, span_ms: int, added_wh: int, power_w: int | None) -> Slice:
    before = timedelta(milliseconds=tally.duration_ms)
    start = None if bill.began is None else bill.began + before
    seconds, kwh = Decimal(span_ms) / 1000, Decimal(added_wh) / KWH
    average_kw = kwh * HOUR_S / seconds if seconds > 0 else None
    told_kw = None if power_w is None else Decimal(max(0, power_w)) / 1000
    power_kw = told_kw if told_kw is not None else average_kw
    charging = added_wh > 0 or _goes_on(tally, span_ms, power_w)
    return Slice(
        period=len(tally.periods),
        start=start,
        end=None if start is None else start + timedelta(milliseconds=span_ms),
        energy_kwh=kwh,
        time_s=seconds if charging else ZERO,
        parking_s=ZERO if charging else seconds,
        reservation_s=ZERO,
        energy_before_kwh=Decimal(tally.energy_wh) / KWH,
        elapsed_before_s=Decimal(tally.duration_ms) / 1000,
        power_kw=None if power_kw is None else Reading(trough=power_kw, peak=power_kw),
    )


def _goes_on(tally: Tally, span_ms: int, power_w: int | None) -> bool:
    """No energy was added, and it is no pause for all that.

    Power flows that a meter of whole Wh would show, so that this one counts in larger steps; or hardly any time has
    passed: a stop that follows its last reading must not cost a step of parking.
    """
    if (power_w or 0) * span_ms >= HOUR_MS:
        return True
    return span_ms < A_MOMENT_MS and bool(tally.picks) and tally.picks[-1][1]


def _with(tally: Tally, part: Slice, bill: Bill) -> Tally:
    key = _picks(part, bill), part.parking_s == 0
    at = len(tally.picks) - 1
    if not tally.picks or tally.picks[at] != key:
        if len(tally.periods) < MOST_PERIODS or key not in tally.picks:
            return replace(tally, periods=(*tally.periods, _period(part)), picks=(*tally.picks, key))
        at = tally.picks.index(key)
    merged = _merged(tally.periods[at], part)
    return replace(tally, periods=(*tally.periods[:at], merged, *tally.periods[at + 1 :]))


def _picks(part: Slice, bill: Bill) -> Picks:
    moment = Moment(
        local=None if part.start is None else part.start.astimezone(bill.zone or ZoneInfo("UTC")),
        energy_kwh=part.energy_before_kwh,
        elapsed_s=part.elapsed_before_s,
        power_kw=part.power_kw,
    )
    found = (select(bill.leading.elements, one, Phase.CHARGE, moment, Matching()) for one in PICKED)
    return tuple(None if one is None else one.element.index for one in found)


def _period(part: Slice) -> Period:
    """`power_kw` is that of its first reading: all of its readings meet the same prices."""
    return Period(
        start=part.start,
        energy_kwh=part.energy_kwh,
        time_h=part.time_s / HOUR_S,
        parking_h=part.parking_s / HOUR_S,
        power_kw=None if part.power_kw is None else part.power_kw.peak,
        index=part.period,
    )


def _merged(period: Period, part: Slice) -> Period:
    return replace(
        period,
        energy_kwh=period.energy_kwh + part.energy_kwh,
        time_h=period.time_h + part.time_s / HOUR_S,
        parking_h=period.parking_h + part.parking_s / HOUR_S,
    )


# Periods become money


def _price(tally: Tally, bill: Bill, tariff: Tariff) -> Priced:
    began = bill.began
    end = None if began is None else began + timedelta(milliseconds=tally.duration_ms)
    periods = tuple(replace(period, index=index) for index, period in enumerate(tally.periods))
    if not periods:
        periods = (Period(start=began),)
    record = ChargeRecord(id="", currency=bill.currency, start=began, end=end, periods=periods)
    return price(record, (tariff,), zone=bill.zone)


def _both(tally: Tally, bill: Bill, *, bare: bool) -> tuple[Decimal | None, Decimal | None]:
    amounts = [
        (basis, _price(tally, bill, _bare(tariff) if bare else tariff).totals[Total.COST])
        for basis, tariff in bill.tariffs
    ]
    return _on(Basis.NET, amounts), _on(Basis.GROSS, amounts)


def _on(basis: Basis, amounts: list[tuple[Basis | None, Amount]]) -> Decimal | None:
    for own, amount in amounts:
        if own in (None, basis):
            return amount.net if basis is Basis.NET else amount.gross
    return None


@lru_cache(maxsize=64)
def _bare(tariff: Tariff) -> Tariff:
    """Without steps and price limits: what was used costs at least so much, and rounding comes on top."""
    elements = tuple(
        replace(element, components=tuple(replace(one, step_size=0) for one in element.components))
        for element in tariff.elements
    )
    return replace(tariff, elements=elements, min_price=PriceLimit(), max_price=PriceLimit())


def _fixed(tally: Tally, bill: Bill) -> list[Amount]:
    """The fixed prices that are charged already."""
    found = []
    for _, tariff in bill.tariffs:
        lines = [line for line in _price(tally, bill, tariff).lines if line.item is Item.FLAT]
        found.append(lines[0].amount if lines else Amount(net=ZERO, taxes=(), gross=ZERO))
    return found


def _most(bill: Bill, most_wh: int, most_s: int, fixed: list[Amount]) -> Iterator[tuple[Ceiling, Ceiling, Ceiling]]:
    """(per kWh, per hour, what may still come once) of each tariff."""
    began = bill.began
    for (_, tariff), charged in zip(bill.tariffs, fixed, strict=True):
        with exact_arithmetic():
            most = ceilings(tariff, began, Decimal(most_wh) / KWH, Decimal(most_s), zone=bill.zone)
            left = Ceiling(net=_minus(most.fixed.net, charged.net), gross=_minus(most.fixed.gross, charged.gross))
            once = Ceiling(
                net=_plus(_plus(left.net, most.energy_step.net), most.time_step.net),
                gross=_plus(_plus(left.gross, most.energy_step.gross), most.time_step.gross),
            )
            yield most.per_kwh, most.per_hour, once


def _joined(bill: Bill, each: tuple[Ceiling, ...]) -> Ceiling:
    net = gross = None
    for (basis, _), ceiling in zip(bill.tariffs, each, strict=True):
        net = ceiling.net if basis in (None, Basis.NET) else net
        gross = ceiling.gross if basis in (None, Basis.GROSS) else gross
    return Ceiling(net=net, gross=gross)


def _later(
    spent: Decimal | None, per_kwh: Decimal | None, kwh: Decimal, per_hour: Decimal | None, hours: Decimal
) -> Decimal | None:
    if spent is None or per_kwh is None or per_hour is None:
        return None
    return spent + per_kwh * kwh + per_hour * hours


def _plus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def _minus(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None else max(ZERO, one - (other or ZERO))


def _four(value: Decimal | None) -> Decimal | None:
    return None if value is None else value.quantize(Decimal("0.0001"))
