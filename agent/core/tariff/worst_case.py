"""The most that a session can cost under a tariff: what caps and reservations are checked against.

Why it is a bound. Let a session start at `start`, take at most max_kwh and last at most max_s, charging and parking
together (the reservation at most reservation_s). What would pay it back counts as nothing: it need not be used.
 - A component can only be selected if its element is not provably out of reach of such a session and no earlier element
   always matches (`candidates`). So every unit of a dimension costs at most the highest price of its candidates.
 - Rounding up adds less than one step, once, at the price of the component that rounds; when only one of TIME and
   PARKING_TIME has a price, the billed total is at most max_s rounded up to its largest rounding.
 - A fixed price is charged at most once for the session, once for the reservation, once for its expiry.
 - min_price and max_price are monotone, so holding the bound between them holds for the cost.
Power and current are not known beforehand: elements that ask for them count as possible. The bound is on the exact
total and on the total rounded up to money; rounding line by line may add half a minor unit a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from itertools import takewhile
from zoneinfo import ZoneInfo

from agent.core.findings import Finding, Severity
from agent.core.tariff.amounts import PERCENT, ZERO, exact_arithmetic, taxed
from agent.core.tariff.boundaries import changes
from agent.core.tariff.codes import Code
from agent.core.tariff.matching import matches_local, never_matches
from agent.core.tariff.periods import HOUR_S, LONGEST
from agent.core.tariff.rounding import exponent
from agent.core.tariff.tariffs import Basis, Component, Dimension, Phase, PriceLimit, Restrictions, Tariff

WH = Decimal(1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The same bound before and after taxes. None: unknown, so there is no finite bound on that basis."""

    net: Decimal | None
    gross: Decimal | None

    def on(self, basis: Basis) -> Decimal | None:
        return self.net if basis is Basis.NET else self.gross


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """`payable` is `cost` rounded up to money. The others are the highest single prices that may come to apply."""

    currency: str
    cost: Ceiling
    payable: Ceiling
    per_kwh: Ceiling
    per_hour: Ceiling
    per_parking_hour: Ceiling
    fixed: Ceiling
    findings: tuple[Finding, ...]


def worst_case(
    tariff: Tariff,
    start: datetime,
    max_kwh: Decimal,
    max_s: Decimal | int,
    *,
    reservation_s: Decimal | int = 0,
    zone: ZoneInfo | None = None,
) -> WorstCase:
    """An upper bound of price() for every session within these limits; without a zone no local time is excluded."""
    with exact_arithmetic():
        return _bound(tariff, Extent(start, max(ZERO, max_kwh), Decimal(max(0, max_s)), zone), Decimal(reservation_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """The same bound in its parts: what each kWh, hour and session costs at most, and what rounding up adds at most."""

    per_kwh: Ceiling
    per_hour: Ceiling  # of charging and of parking, whichever is dearer
    fixed: Ceiling
    energy_step: Ceiling
    time_step: Ceiling


def ceilings(
    tariff: Tariff, start: datetime | None, max_kwh: Decimal, max_s: Decimal, *, zone: ZoneInfo | None = None
) -> Ceilings:
    """For every session within these limits; at an unknown start, or without a zone, no local time is excluded."""
    extent = Extent(start or UNKNOWN_START, max(ZERO, max_kwh), max(ZERO, max_s), None if start is None else zone)
    energy = candidates(tariff, Dimension.ENERGY, Phase.CHARGE, extent)
    clocked = tuple(
        one
        for dimension in (Dimension.TIME, Dimension.PARKING_TIME)
        for one in candidates(tariff, dimension, Phase.CHARGE, extent)
    )
    return Ceilings(
        per_kwh=_highest(tariff, energy),
        per_hour=_highest(tariff, clocked),
        fixed=_highest(tariff, candidates(tariff, Dimension.FLAT, Phase.CHARGE, extent)),
        energy_step=_highest(tariff, energy, WH),
        time_step=_highest(tariff, clocked, HOUR_S),
    )


def shortest(
    tariff: Tariff, start: datetime, max_kwh: Decimal, max_s: Decimal, *, zone: ZoneInfo | None = None
) -> Ceiling:
    """What even a session of a moment may cost: what comes once, one step of energy and one of time, min_price."""
    with exact_arithmetic():
        most = ceilings(tariff, start, max_kwh, max_s, zone=zone)
        return held(_sum([most.fixed, most.energy_step, most.time_step]), tariff)


UNKNOWN_START = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a session can get to."""

    start: datetime
    max_kwh: Decimal
    max_s: Decimal
    zone: ZoneInfo | None


def candidates(tariff: Tariff, dimension: Dimension, phase: Phase, extent: Extent) -> tuple[Component, ...]:
    """What a session within its extent may be priced by: list order ends at the first element that always matches."""
    elements = [e for e in tariff.elements if e.restrictions.phase is phase and e.component(dimension) is not None]
    open_ = list(takewhile(lambda element: not element.restrictions.are_none, elements))
    always = elements[len(open_) : len(open_) + 1]
    possible = [e for e in open_ if phase is not Phase.CHARGE or _is_reachable(e.restrictions, extent)]
    return tuple(component for e in (*possible, *always) if (component := e.component(dimension)) is not None)


def _bound(tariff: Tariff, extent: Extent, reservation_s: Decimal) -> WorstCase:
    def found(dimension: Dimension, phase: Phase = Phase.CHARGE) -> tuple[Component, ...]:
        return candidates(tariff, dimension, phase, extent)

    energy, time, parking = found(Dimension.ENERGY), found(Dimension.TIME), found(Dimension.PARKING_TIME)
    fixed = _highest(tariff, found(Dimension.FLAT))
    parts = [
        fixed,
        _times(_highest(tariff, energy), _rounded_up(extent.max_kwh * WH, energy), WH),
        _clocked(tariff, time, parking, extent.max_s),
    ]
    if reservation_s > 0:
        reserved = found(Dimension.TIME, Phase.RESERVATION) + found(Dimension.TIME, Phase.RESERVATION_EXPIRES)
        parts.append(_times(_highest(tariff, reserved), _rounded_up(reservation_s, reserved), HOUR_S))
        for phase in (Phase.RESERVATION, Phase.RESERVATION_EXPIRES):
            parts.append(_highest(tariff, found(Dimension.FLAT, phase)))
    cost = held(_sum(parts), tariff)
    return WorstCase(
        currency=tariff.currency,
        cost=cost,
        payable=_money(cost, tariff.currency),
        per_kwh=_highest(tariff, energy),
        per_hour=_highest(tariff, time),
        per_parking_hour=_highest(tariff, parking),
        fixed=fixed,
        findings=tuple(_findings(tariff, extent, cost)),
    )


def _highest(tariff: Tariff, components: Iterable[Component], per: Decimal | None = None) -> Ceiling:
    """The highest price for a unit (or for the component's own step, `per` being the steps in a unit), on each basis.

    Nothing is below zero, because no session has to use what would pay it back.
    """
    amounts = [
        taxed(one.price if per is None else one.price * one.step_size / per, tariff.basis, one.taxes)
        for one in components
    ]
    return Ceiling(
        net=_top(amount.net for amount in amounts),
        gross=_top(amount.gross for amount in amounts),
    )


def _top(values: Iterable[Decimal | None]) -> Decimal | None:
    highest = ZERO
    for value in values:
        if value is None:
            return None
        highest = max(highest, value)
    return highest


def _clocked(tariff: Tariff, time: tuple[Component, ...], parking: tuple[Component, ...], max_s: Decimal) -> Ceiling:
    """Charging and parking share the seconds, and only the last of them rounds up."""
    both = (*time, *parking)
    highest = _highest(tariff, both)
    if not time or not parking:
        return _times(highest, _rounded_up(max_s, both), HOUR_S)
    return _sum([_times(highest, max_s, HOUR_S), _highest(tariff, both, HOUR_S)])


def _rounded_up(amount: Decimal, components: Iterable[Component]) -> Decimal:
    steps = [Decimal(one.step_size) for one in components if one.step_size > 0]
    return max([amount, *((amount / step).to_integral_value(rounding=ROUND_CEILING) * step for step in steps)])


def _times(ceiling: Ceiling, quantity: Decimal, per: Decimal) -> Ceiling:
    return Ceiling(
        net=None if ceiling.net is None else ceiling.net * quantity / per,
        gross=None if ceiling.gross is None else ceiling.gross * quantity / per,
    )


def _sum(parts: list[Ceiling]) -> Ceiling:
    nets, grosses = [part.net for part in parts], [part.gross for part in parts]
    return Ceiling(
        net=None if None in nets else sum((net for net in nets if net is not None), ZERO),
        gross=None if None in grosses else sum((gross for gross in grosses if gross is not None), ZERO),
    )


def held(cost: Ceiling, tariff: Tariff) -> Ceiling:
    """Between the limits as limits.py does it; a limit on one basis moves the other by at most the highest tax.

    Where a price is below zero, taxes of what costs and of what pays back do not cancel out, and how far a limit moves
    the other basis is not bounded.
    """
    low, high = tariff.min_price, tariff.max_price
    if any(one.price < ZERO for e in tariff.elements for one in e.components):
        return _held_apart(cost, low, high)
    rates = [sum((rate.percent for rate in one.taxes or ()), ZERO) for e in tariff.elements for one in e.components]
    factor = 1 + max([ZERO, *rates]) / PERCENT
    net, gross = cost.net, cost.gross
    if net is not None:
        raised = low.gross if low.net is None else low.net
        net = net if raised is None else max(net, raised)
    if gross is not None:
        raised = low.gross if low.gross is not None else None if low.net is None else low.net * factor
        gross = gross if raised is None else max(gross, raised)
        if net is not None and high.net is not None and high.gross is None and low.gross is None:
            gross = min(gross, high.net * factor)
    return Ceiling(net=_lowered(net, high.net), gross=_lowered(gross, high.gross))


def _held_apart(cost: Ceiling, low: PriceLimit, high: PriceLimit) -> Ceiling:
    """Each basis by its own limits; None where the other basis' limit alone could move it."""
    moved_net = low.net is None and low.gross is not None
    moved_gross = low.gross is None and low.net is not None
    net = None if cost.net is None or moved_net else max(cost.net, low.net or ZERO)
    gross = None if cost.gross is None or moved_gross else max(cost.gross, low.gross or ZERO)
    return Ceiling(net=_lowered(net, high.net), gross=_lowered(gross, high.gross))


def _lowered(value: Decimal | None, limit: Decimal | None) -> Decimal | None:
    """A maximum bounds also what is otherwise unknown."""
    if value is None or limit is None:
        return limit if value is None else value
    return min(value, limit)


def _money(cost: Ceiling, currency: str) -> Ceiling:
    unit = Decimal(1).scaleb(-exponent(currency))
    return Ceiling(
        net=None if cost.net is None else cost.net.quantize(unit, rounding=ROUND_CEILING),
        gross=None if cost.gross is None else cost.gross.quantize(unit, rounding=ROUND_CEILING),
    )


def _is_reachable(restrictions: Restrictions, extent: Extent) -> bool:
    if never_matches(restrictions) is not None:
        return False
    if restrictions.min_kwh is not None and restrictions.min_kwh > extent.max_kwh:
        return False
    if restrictions.min_duration_s is not None and restrictions.min_duration_s > extent.max_s:
        return False
    if not restrictions.are_local or extent.zone is None or extent.max_s > LONGEST.total_seconds():
        return True
    end = extent.start + timedelta(seconds=float(extent.max_s) + 1)
    moments = [extent.start, *changes(restrictions, extent.start, end, extent.zone)]
    return any(
        matches_local(restrictions, moment.astimezone(extent.zone))
        for moment in moments
        if extent.start <= moment <= end
    )


def _findings(tariff: Tariff, extent: Extent, cost: Ceiling) -> Iterator[Finding]:
    if not tariff.is_in_force(extent.start):
        text = f"The tariff {tariff.id!r} is not in force at {extent.start}"
        yield Finding(code=Code.TARIFF_NOT_IN_FORCE, path="$", severity=Severity.WARNING, text=text)
    if cost.net is None or cost.gross is None:
        text = f"The taxes are unknown, so there is no bound {'before' if cost.net is None else 'after'} taxes"
        yield Finding(code=Code.TAX_UNKNOWN, path="$", severity=Severity.WARNING, text=text)
