"""What is unwise in a tariff that can be read: elements that never apply, gaps, needless components, dates, limits.

Letter case, wrong types and unknown values are found while reading (agent/ocpi). Selection is piecewise constant
between the numbers that the restrictions name, so asking at one point of each cell asks everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import product
from math import prod

from agent.core.findings import Finding, Severity
from agent.core.tariff.amounts import ZERO
from agent.core.tariff.codes import Code
from agent.core.tariff.matching import Matching, Moment, Reading, never_matches, select
from agent.core.tariff.tariffs import (
    DAY_MINUTES,
    Component,
    Dimension,
    Element,
    Phase,
    PriceLimit,
    Restrictions,
    Tariff,
)

MAX_POINTS = 20_000  # about a second; no tariff seen in the field needs 2,000
ANY_MONDAY = date(2024, 1, 1)
WEEK = 7
RESERVABLE = (Dimension.FLAT, Dimension.TIME)
ALMOST_MIDNIGHT = DAY_MINUTES - 1


def lint(tariff: Tariff, *, now: datetime | None = None) -> tuple[Finding, ...]:
    """`now` is the time to judge by whether something is over; without it only contradictions are found."""
    linting = _Linting()
    _dates(tariff, now, linting)
    _limits(tariff, linting)
    for element in tariff.elements:
        _element(element, linting)
    never = {e.index: why for e in tariff.elements if (why := never_matches(e.restrictions)) is not None}
    unused: dict[int, list[Component]] = {}
    for phase, dimension in product(Phase, Dimension):
        if phase is not Phase.CHARGE and dimension not in RESERVABLE:
            continue
        asked = [e for e in tariff.elements if e.restrictions.phase is phase and e.component(dimension) is not None]
        for element, component in _dimension(asked, dimension, phase, never, linting):
            unused.setdefault(element.index, []).append(component)
    for element in tariff.elements:
        _unused(element, never.get(element.index), unused.get(element.index, []), linting)
    return tuple(linting.findings)


@dataclass(slots=True)
class _Linting:
    findings: list[Finding] = field(default_factory=list)

    def add(self, code: Code, path: str, severity: Severity, text: str) -> None:
        self.findings.append(Finding(code=code, path=path, severity=severity, text=text))


def _at(element: Element, component: Component | None = None) -> str:
    path = f"$.elements[{element.index}]"
    if component is None:
        return path
    place = next(i for i, one in enumerate(element.components) if one is component)
    return f"{path}.price_components[{place}]"


# --- one element ---


def _element(element: Element, linting: _Linting) -> None:
    seen: set[Dimension] = set()
    for component in element.components:
        if component.dimension in seen:
            text = f"The element has {component.dimension} already; the second is never used"
            linting.add(Code.REDUNDANT_COMPONENT, _at(element, component), Severity.WARNING, text)
        seen.add(component.dimension)
        if element.restrictions.phase is not Phase.CHARGE and component.dimension not in (
            Dimension.FLAT,
            Dimension.TIME,
        ):
            text = f"A reservation has only FLAT and TIME; {component.dimension} is never used"
            linting.add(Code.RESERVATION_DIMENSION, _at(element, component), Severity.WARNING, text)
        if component.dimension is not Dimension.FLAT and component.step_size != 1:
            text = f"step_size is {component.step_size}; OCPI advises 1, and 3.0 has none"
            if component.step_size == 0:
                text = "step_size is 0: taken as no rounding, but others may read it differently"
            linting.add(Code.STEP_SIZE, _at(element, component), Severity.INFO, text)
    if element.restrictions.end_minute == ALMOST_MIDNIGHT:
        text = "end_time 23:59 leaves out the last minute of the day; 00:00 is the end of the day"
        linting.add(Code.END_OF_DAY, f"{_at(element)}.restrictions.end_time", Severity.WARNING, text)


def _unused(element: Element, why: str | None, unused: list[Component], linting: _Linting) -> None:
    """Told once for an element, or for each component when others of the element are used."""
    firsts = [element.component(dimension) for dimension in Dimension]
    priced = [one for one in firsts if one is not None]
    if why is not None:
        text = f"The element can never apply: {why}"
        linting.add(Code.NEVER_APPLIES, _at(element), Severity.WARNING, text)
    elif priced and len(unused) == len(priced):
        text = "The element can never apply: elements before it match wherever it would"
        linting.add(Code.NEVER_APPLIES, _at(element), Severity.WARNING, text)
    else:
        for component in unused:
            text = f"{component.dimension} is never used: elements before this one match wherever it would"
            linting.add(Code.REDUNDANT_COMPONENT, _at(element, component), Severity.WARNING, text)


# --- one dimension over all its cells ---


def _dimension(
    asked: list[Element], dimension: Dimension, phase: Phase, never: dict[int, str], linting: _Linting
) -> Iterator[tuple[Element, Component]]:
    """Yields what is never selected; adds gaps and needless elements."""
    axes = _Axes.of([element.restrictions for element in asked])
    if axes.size > MAX_POINTS:
        text = f"{dimension} has {axes.size} combinations of restrictions; gaps and unused elements were not looked for"
        linting.add(Code.TOO_COMPLEX, "$.elements", Severity.INFO, text)
        return
    used: dict[int, bool] = {}  # element index -> does it ever make a difference
    gap: Moment | None = None
    for moment in axes.moments():
        selected = select(asked, dimension, phase, moment, Matching())
        if selected is None:
            gap = gap or moment
            continue
        index = selected.element.index
        if not used.get(index):
            others = [one for one in asked if one.index != index]
            instead = select(others, dimension, phase, moment, Matching())
            used[index] = instead is None or instead.component != selected.component
    for element in asked:
        component = element.component(dimension)
        if component is None or element.index in never:
            continue
        if element.index not in used:
            yield element, component
        elif not used[element.index] and dimension is not Dimension.FLAT:
            text = f"Without this {dimension} component the same price would apply"
            linting.add(Code.REDUNDANT_COMPONENT, _at(element, component), Severity.INFO, text)
    if gap is not None and asked and dimension is not Dimension.FLAT and phase is Phase.CHARGE:
        severity = Severity.WARNING if dimension is Dimension.ENERGY else Severity.INFO
        text = f"No element with {dimension} matches {axes.describe(gap)}: it costs nothing there"
        linting.add(Code.GAP, "$.elements", severity, text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """One representative of each cell between the numbers of the restrictions; a boundary belongs to its upper cell."""

    days: tuple[date, ...]
    minutes: tuple[int, ...]
    kwh: tuple[Decimal, ...]
    seconds: tuple[Decimal, ...]
    power: tuple[Decimal, ...]
    current: tuple[Decimal, ...]

    @classmethod
    def of(cls, restrictions: list[Restrictions]) -> _Axes:
        return cls(
            days=_days(restrictions),
            minutes=tuple(
                sorted({0} | {m % DAY_MINUTES for r in restrictions for m in (r.start_minute, r.end_minute) if m})
            ),
            kwh=_cells(v for r in restrictions for v in (r.min_kwh, r.max_kwh)),
            seconds=_cells(v for r in restrictions for v in (r.min_duration_s, r.max_duration_s)),
            power=_cells(v for r in restrictions for v in (r.min_power_kw, r.max_power_kw)),
            current=_cells(v for r in restrictions for v in (r.min_current_a, r.max_current_a)),
        )

    @property
    def size(self) -> int:
        return prod(len(axis) for axis in self._all())

    def moments(self) -> Iterator[Moment]:
        for day, minute, kwh, seconds, power, current in product(
            self.days, self.minutes, self.kwh, self.seconds, self.power, self.current
        ):
            yield Moment(
                local=datetime.combine(day, time(minute // 60, minute % 60)),
                energy_kwh=kwh,
                elapsed_s=seconds,
                power_kw=Reading(trough=power, peak=power),
                current_a=Reading(trough=current, peak=current),
            )

    def describe(self, moment: Moment) -> str:
        """Only what the tariff distinguishes."""
        if all(len(axis) == 1 for axis in self._all()) or moment.local is None:
            return "anywhere"
        parts = []
        if len(self.days) > 1:
            parts.append(f"on {moment.local:%A}" if len(self.days) <= WEEK else f"on {moment.local:%A %Y-%m-%d}")
        if len(self.minutes) > 1:
            parts.append(f"at {moment.local:%H:%M}")
        for axis, value, unit in (
            (self.kwh, moment.energy_kwh, "kWh"),
            (self.seconds, moment.elapsed_s, "s"),
            (self.power, moment.power_kw.peak if moment.power_kw else ZERO, "kW"),
            (self.current, moment.current_a.peak if moment.current_a else ZERO, "A"),
        ):
            if len(axis) > 1:
                parts.append(f"at {value} {unit}")
        return ", ".join(parts)

    def _all(self) -> tuple[tuple[object, ...], ...]:
        return (self.days, self.minutes, self.kwh, self.seconds, self.power, self.current)


def _cells(values: Iterable[Decimal | None]) -> tuple[Decimal, ...]:
    return tuple(sorted({ZERO} | {value for value in values if value is not None and value > 0}))


def _days(restrictions: list[Restrictions]) -> tuple[date, ...]:
    """Up to a week of days from the start of each cell between dates: every weekday that the cell has."""
    bounds = sorted({day for r in restrictions for day in (r.start_date, r.end_date) if day is not None})
    length = WEEK if any(r.days_of_week is not None for r in restrictions) else 1
    if not bounds:
        return tuple(ANY_MONDAY + timedelta(days=offset) for offset in range(length))
    cells = [(_before(bounds[0], length), bounds[0]), *zip(bounds, [*bounds[1:], None], strict=True)]
    return tuple(
        first + timedelta(days=offset)
        for first, last in cells
        for offset in range(length if last is None else min(length, (last - first).days))
        if first <= date.max - timedelta(days=offset)
    )


def _before(day: date, days: int) -> date:
    return day - timedelta(days=days) if day > date.min + timedelta(days=days) else date.min


# --- the whole tariff ---


def _dates(tariff: Tariff, now: datetime | None, linting: _Linting) -> None:
    begin, end = tariff.valid_from, tariff.valid_until
    if begin is not None and end is not None and begin >= end:
        text = f"The tariff ends at {end}, which is not after its start {begin}: it is never in force"
        linting.add(Code.DATES, "$.end_date_time", Severity.ERROR, text)
    if now is not None and end is not None and end <= now:
        linting.add(Code.DATES, "$.end_date_time", Severity.WARNING, f"The tariff is over since {end}")
    for element in tariff.elements:
        first, last = element.restrictions.start_date, element.restrictions.end_date
        path = f"{_at(element)}.restrictions"
        # Dates are local and the validity is UTC, so a day of difference proves nothing.
        if now is not None and last is not None and last < now.date():
            linting.add(Code.DATES, f"{path}.end_date", Severity.WARNING, f"The element is over since {last}")
        if end is not None and first is not None and first > end.date() + timedelta(days=1):
            text = f"The element starts on {first}, after the tariff has ended"
            linting.add(Code.DATES, f"{path}.start_date", Severity.WARNING, text)
        if begin is not None and last is not None and last < begin.date():
            text = f"The element ends on {last}, before the tariff starts"
            linting.add(Code.DATES, f"{path}.end_date", Severity.WARNING, text)


def _limits(tariff: Tariff, linting: _Linting) -> None:
    low, high = tariff.min_price, tariff.max_price
    for basis, least, most in (("before", low.net, high.net), ("after", low.gross, high.gross)):
        if least is not None and most is not None and least > most:
            text = f"min_price {least} is above max_price {most} {basis} taxes; the maximum wins"
            linting.add(Code.PRICE_LIMITS, "$.max_price", Severity.WARNING, text)
    for name, limit in (("min_price", low), ("max_price", high)):
        _limit(name, limit, linting)


def _limit(name: str, limit: PriceLimit, linting: _Linting) -> None:
    if limit.net is not None and limit.gross is not None and limit.gross < limit.net:
        text = f"{name} is {limit.gross} after taxes and {limit.net} before: taxes cannot be negative"
        linting.add(Code.PRICE_LIMITS, f"$.{name}", Severity.WARNING, text)
