"""What a charge record costs under a tariff: lines that say why, totals under OCPI's names, and findings.

Pure and total. The steps, in the order of OCPI's mod_tariffs and mod_cdrs:
 1. mend the periods (periods.py); cut them where a restriction changes only when asked (boundaries.py)
 2. for each period and dimension take the first element that matches (matching.py)
 3. FLAT once: for the session, for the reservation, for its expiry
 4. round up to step_size: once for ENERGY, once for TIME and PARKING_TIME together, once for the reservation (steps.py)
 5. price and tax each line (amounts.py)
 6. hold the total between min_price and max_price on both bases (limits.py)
 7. round as the caller chose (rounding.py)
The comparison with the network's own totals is verdicts.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from zoneinfo import ZoneInfo

from agent.core.findings import Finding, Severity, unique
from agent.core.tariff.amounts import NOTHING, ZERO, exact_arithmetic, taxed, total
from agent.core.tariff.boundaries import cut, shares
from agent.core.tariff.boundaries import part as part_of
from agent.core.tariff.codes import Code
from agent.core.tariff.limits import adjustments
from agent.core.tariff.matching import Missing, Moment, Reading, Selected, select
from agent.core.tariff.periods import HOUR_S, Slice, at, mend
from agent.core.tariff.priced import Item, Line, Priced
from agent.core.tariff.records import ChargeRecord, Pause, Total
from agent.core.tariff.rounding import Scope
from agent.core.tariff.steps import Billed, billed
from agent.core.tariff.tariffs import Component, Dimension, Element, Phase, Tariff
from agent.core.tariff.terms import Parking, Terms

AS_USUAL = Terms()


def price(
    record: ChargeRecord, tariffs: tuple[Tariff, ...], *, zone: ZoneInfo | None = None, terms: Terms = AS_USUAL
) -> Priced:
    """The first tariff is used wherever a period names no other of them; its price limits hold for the session."""
    with exact_arithmetic():
        if not tariffs:
            finding = Finding(
                code=Code.NO_TARIFF, path="$", severity=Severity.ERROR, text="There is no tariff to price by"
            )
            return _priced(record.currency, None, (), (finding,), terms)
        pricing = _Pricing(record=record, tariffs=tariffs, zone=zone, terms=terms, findings=[])
        lines = pricing.lines()
        return _priced(tariffs[0].currency, tariffs[0], tuple(lines), tuple(pricing.findings), terms)


def _priced(
    currency: str, limits: Tariff | None, lines: tuple[Line, ...], findings: tuple[Finding, ...], terms: Terms
) -> Priced:
    rounding = terms.rounding
    totals = {kind: total(line.amount for line in lines if line.belongs_to is kind) for kind in Total}
    totals[Total.COST] = total(line.amount for line in lines)
    payable = rounding.payable(totals[Total.COST], currency)
    if rounding.scope is Scope.LINE and limits is not None:
        # The limits hold for what is paid: rounding each line must not lift the sum over max_price.
        each = total(rounding.payable(line.amount, currency) for line in lines if line.item not in LIMITS)
        moves, _ = adjustments(each, limits)
        payable = rounding.payable(total([each, *(amount for _, amount, _ in moves)]), currency)
    return Priced(
        currency=currency,
        lines=lines,
        totals=totals,
        stated={kind: rounding.stated(amount) for kind, amount in totals.items()},
        payable=payable,
        findings=unique(findings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A quantity under the component that prices it, before it is rounded up to a step."""

    item: Item
    piece: Slice
    tariff: Tariff
    selected: Selected | None
    quantity: Decimal  # Wh or seconds
    error_s: Decimal


@dataclass(slots=True, kw_only=True)
class _Pricing:
    record: ChargeRecord
    tariffs: tuple[Tariff, ...]
    zone: ZoneInfo | None
    terms: Terms
    findings: list[Finding]

    def lines(self) -> list[Line]:
        slices, findings = mend(self.record)
        self.findings += findings
        self._check(slices)
        pieces = [(piece, tariff) for one in slices for piece, tariff in self._pieces(one)]
        expired = self._is_expired(slices)
        uses = [use for piece, tariff in pieces for use in self._uses(piece, tariff, expired)]
        lines = [*self._flats(pieces, expired), *self._lines(uses)]
        limits, findings = adjustments(total(line.amount for line in lines), self.tariffs[0])
        self.findings += findings
        for name, amount, why in limits:
            lines.append(
                Line(
                    item=Item(name),
                    belongs_to=Total.COST,
                    period=None,
                    tariff=self.tariffs[0].id,
                    element=None,
                    metered=Decimal(1),
                    billed=Decimal(1),
                    price=None,
                    amount=amount,
                    why=why,
                )
            )
        return lines

    # 1. periods

    def _pieces(self, one: Slice) -> Iterator[tuple[Slice, Tariff]]:
        tariff = self._tariff_of(one)
        if not self.terms.split:
            self._note_changes(one, tariff)
            yield one, tariff
            return
        parts = cut(one, tariff.elements, self._clock)
        if len(parts) > 1:
            self._note(
                Code.PERIOD_SPLIT,
                one,
                Severity.INFO,
                f"Cut into {len(parts)} parts where a restriction changes, energy and time spread evenly",
            )
        for piece in parts:
            yield piece, tariff

    def _tariff_of(self, one: Slice) -> Tariff:
        if one.tariff_id is None:
            return self.tariffs[0]
        found = next((t for t in self.tariffs if t.id.casefold() == one.tariff_id.casefold()), None)
        if found is None:
            text = f"The period names the tariff {one.tariff_id!r}; it is priced by {self.tariffs[0].id!r}"
            self._note(Code.TARIFF_ID_DIFFERS, one, Severity.WARNING, text)
        return found or self.tariffs[0]

    @property
    def _clock(self) -> ZoneInfo:
        """Without a zone the times are read as UTC, which _check has reported as an error."""
        return self.zone or ZoneInfo("UTC")

    def _note_changes(self, one: Slice, tariff: Tariff) -> None:
        """OCPI wants a new period where another element becomes active; say so when a price changes within one."""
        for share in sorted(set(shares(one, tariff.elements, self._clock))):
            later = part_of(one, share, share)
            for item, dimension, phase in DIMENSIONS:
                if _quantity(one, item) > 0 and self._select(one, tariff, dimension, phase) != self._select(
                    later, tariff, dimension, phase
                ):
                    text = f"The price of {item} changes within this period; the one at its start is used for all of it"
                    self._note(Code.PERIOD_CROSSES_BOUNDARY, one, Severity.WARNING, text)

    def _check(self, slices: tuple[Slice, ...]) -> None:
        tariff, record = self.tariffs[0], self.record
        if record.start is not None and not tariff.is_in_force(record.start):
            text = f"The tariff {tariff.id!r} was not in force when the session started, {record.start}"
            self.findings.append(
                Finding(code=Code.TARIFF_NOT_IN_FORCE, path="$.start_date_time", severity=Severity.WARNING, text=text)
            )
        for other in self.tariffs:
            if record.currency and other.currency != record.currency:
                text = f"The tariff {other.id!r} is in {other.currency}, the record in {record.currency}"
                self.findings.append(
                    Finding(code=Code.CURRENCY_DIFFERS, path="$.currency", severity=Severity.ERROR, text=text)
                )
        if self.zone is None and any(e.restrictions.are_local for t in self.tariffs for e in t.elements):
            text = "The tariff depends on the local time and the time zone of the location is unknown; read as UTC"
            self.findings.append(
                Finding(code=Code.ZONE_UNKNOWN, path="$.cdr_location", severity=Severity.ERROR, text=text)
            )

    # 2. elements

    def _select(self, piece: Slice, tariff: Tariff, dimension: Dimension, phase: Phase) -> Selected | None:
        return select(tariff.elements, dimension, phase, self._moment(piece), self.terms.matching)

    def _moment(self, piece: Slice) -> Moment:
        power = piece.power_kw
        if power is None and piece.average_power_kw is not None and self.terms.matching.missing is Missing.AVERAGE:
            power = Reading(trough=piece.average_power_kw, peak=piece.average_power_kw)
        return Moment(
            local=None if piece.start is None else piece.start.astimezone(self._clock),
            energy_kwh=piece.energy_before_kwh,
            elapsed_s=piece.elapsed_before_s,
            power_kw=power,
            current_a=piece.current_a,
        )

    def _uses(self, piece: Slice, tariff: Tariff, expired: bool) -> Iterator[_Use]:
        for item, dimension, phase in DIMENSIONS:
            quantity = _quantity(piece, item)
            if quantity <= 0:
                continue
            if item is Item.PARKING_TIME and not self._is_parking(piece):
                continue
            selected = self._select(piece, tariff, dimension, phase)
            if phase is Phase.RESERVATION and expired:
                selected = self._select(piece, tariff, dimension, Phase.RESERVATION_EXPIRES) or selected
            self._note_missing(piece, tariff, dimension, phase)
            yield _Use(
                item=item,
                piece=piece,
                tariff=tariff,
                selected=selected,
                quantity=quantity,
                error_s=_error_s(piece, item),
            )

    def _is_parking(self, piece: Slice) -> bool:
        """Pauses imposed by load management are not parking (PARKING_TIME as redefined in 2026)."""
        if self.terms.parking is Parking.NOT_CHARGING or piece.pause is not Pause.STATION:
            return True
        text = "The station paused the charge, the vehicle was asking for power: not billed as parking"
        self._note(Code.STATION_PAUSE_NOT_PARKING, piece, Severity.INFO, text)
        return False

    def _note_missing(self, piece: Slice, tariff: Tariff, dimension: Dimension, phase: Phase) -> None:
        asked = [e.restrictions for e in tariff.elements if e.component(dimension) and e.restrictions.phase is phase]
        rule = self.terms.matching.missing
        if piece.power_kw is None and any(r.min_power_kw is not None or r.max_power_kw is not None for r in asked):
            text = f"The price of {dimension} depends on the power, which is not in the record; rule: {rule}"
            if rule is Missing.AVERAGE and piece.average_power_kw is not None:
                text += f", {round(piece.average_power_kw, 3)} kW"
            self._note(Code.POWER_UNKNOWN, piece, Severity.WARNING, text)
        if piece.current_a is None and any(r.min_current_a is not None or r.max_current_a is not None for r in asked):
            text = f"The price of {dimension} depends on the current, which is not in the record; rule: {rule}"
            self._note(Code.CURRENT_UNKNOWN, piece, Severity.WARNING, text)
        if piece.start is None and any(r.are_local for r in asked):
            text = f"The price of {dimension} depends on the time, which is unknown; rule: {rule}"
            self._note(Code.TIME_UNKNOWN, piece, Severity.WARNING, text)

    # 3. once

    def _is_expired(self, slices: Iterable[Slice]) -> bool:
        """A reservation without a charge after it: nobody came."""
        reserved = [one for one in slices if one.reservation_s > 0]
        expired = bool(reserved) and not any(
            one.energy_kwh > 0 or one.time_s > 0 or one.parking_s > 0 for one in slices
        )
        if expired:
            text = "There is a reservation and no charge: priced as an expired reservation"
            self._note(Code.RESERVATION_EXPIRED, reserved[0], Severity.INFO, text)
        return expired

    def _flats(self, pieces: list[tuple[Slice, Tariff]], expired: bool) -> Iterator[Line]:
        """Each kind once, by the first period in which one matches. The fee of an expired reservation is added."""
        charged = [(piece, tariff) for piece, tariff in pieces if piece.is_charge]
        reserved = [(piece, tariff) for piece, tariff in pieces if piece.reservation_s > 0]
        phases = [(Phase.RESERVATION, reserved), (Phase.CHARGE, [] if expired else charged)]
        if expired:
            phases.insert(1, (Phase.RESERVATION_EXPIRES, reserved))
        for phase, candidates in phases:
            for piece, tariff in candidates:
                selected = self._select(piece, tariff, Dimension.FLAT, phase)
                if selected is not None:
                    yield _flat(piece, tariff, selected, phase)
                    break

    # 4. and 5. steps, prices, taxes

    def _lines(self, uses: list[_Use]) -> Iterator[Line]:
        found = {index: use.quantity for index, use in enumerate(uses)}
        for last, step in self._rounded(uses):
            item = uses[last].item
            same = [use for use in uses if use.item is item and use.selected is not None]
            step_ = billed(sum((use.quantity for use in same), ZERO), step, sum((use.error_s for use in same), ZERO))
            self._note_guard(uses[last], step_)
            found[last] += step_.total - step_.metered
        for index, use in enumerate(uses):
            yield _line(use, found[index])

    def _rounded(self, uses: list[_Use]) -> Iterator[tuple[int, int]]:
        """The uses that are rounded up, and their step: the last priced energy, time of either kind, reservation."""
        for items in ((Item.ENERGY,), (Item.TIME, Item.PARKING_TIME), (Item.RESERVATION_TIME,)):
            last = [index for index, use in enumerate(uses) if use.item in items and use.selected is not None]
            if last:
                selected = uses[last[-1]].selected
                if selected is not None and selected.component.step_size > 0:
                    yield last[-1], selected.component.step_size

    def _note_guard(self, use: _Use, step: Billed) -> None:
        if step.guarded:
            over = format(round(step.metered - step.total, 3), "f")
            text = f"{use.item} is {over} s over a whole step, which its hours with 4 decimals explain; not rounded up"
            self._note(Code.STEP_GUARD_USED, use.piece, Severity.INFO, text)

    def _note(self, code: Code, piece: Slice, severity: Severity, text: str) -> None:
        self.findings.append(Finding(code=code, path=at(piece.period), severity=severity, text=text))


LIMITS = (Item.MIN_PRICE, Item.MAX_PRICE)
# Item, its dimension in a tariff, and the phase of the elements that price it. Parking last: it follows the charging.
DIMENSIONS = (
    (Item.RESERVATION_TIME, Dimension.TIME, Phase.RESERVATION),
    (Item.ENERGY, Dimension.ENERGY, Phase.CHARGE),
    (Item.TIME, Dimension.TIME, Phase.CHARGE),
    (Item.PARKING_TIME, Dimension.PARKING_TIME, Phase.CHARGE),
)
TOTALS = {
    Item.ENERGY: Total.ENERGY,
    Item.TIME: Total.TIME,
    Item.PARKING_TIME: Total.PARKING,
    Item.RESERVATION_TIME: Total.RESERVATION,
}
WHOSE = {
    Phase.CHARGE: "session",
    Phase.RESERVATION: "reservation",
    Phase.RESERVATION_EXPIRES: "expired reservation",
}
PER_UNIT = {Item.ENERGY: Decimal(1000)}  # Wh in a kWh; all others are seconds in an hour


def _quantity(piece: Slice, item: Item) -> Decimal:
    """In the unit of step_size: Wh or seconds."""
    match item:
        case Item.ENERGY:
            return piece.energy_kwh * 1000
        case Item.TIME:
            return piece.time_s
        case Item.PARKING_TIME:
            return piece.parking_s
        case Item.RESERVATION_TIME:
            return piece.reservation_s
        case _:
            return ZERO


def _error_s(piece: Slice, item: Item) -> Decimal:
    errors = {
        Item.TIME: piece.time_error_s,
        Item.PARKING_TIME: piece.parking_error_s,
        Item.RESERVATION_TIME: piece.reservation_error_s,
    }
    return errors.get(item, ZERO)


def _line(use: _Use, quantity: Decimal) -> Line:
    per_unit = PER_UNIT.get(use.item, HOUR_S)
    unpriced = Line(
        item=use.item,
        belongs_to=TOTALS[use.item],
        period=use.piece.period,
        tariff=use.tariff.id,
        element=None,
        metered=use.quantity / per_unit,
        billed=ZERO,
        price=None,
        amount=NOTHING,
        why=f"no element with {use.item} matches here, so it costs nothing",
    )
    if use.selected is None:
        return unpriced
    component = use.selected.component
    return replace(
        unpriced,
        element=use.selected.element.index,
        billed=quantity / per_unit,
        price=component.price,
        amount=taxed(component.price * quantity / per_unit, use.tariff.basis, component.taxes),
        why=_reason(use.selected.element, component, rounded=quantity != use.quantity),
    )


def _reason(element: Element, component: Component, *, rounded: bool) -> str:
    why = f"element {element.index} is the first with {component.dimension} that matches"
    return f"{why}; the session's total goes up to the step of {component.step_size}" if rounded else why


def _flat(piece: Slice, tariff: Tariff, selected: Selected, phase: Phase) -> Line:
    """OCPI counts the fixed price of parking and of a reservation with these, not with the fixed cost."""
    element, component = selected.element, selected.component
    beside = {one.dimension for one in element.components}
    parking = Dimension.PARKING_TIME in beside and not beside & {Dimension.ENERGY, Dimension.TIME}
    belongs_to = Total.RESERVATION if phase is not Phase.CHARGE else Total.PARKING if parking else Total.FIXED
    return Line(
        item=Item.FLAT if phase is Phase.CHARGE else Item.RESERVATION_FLAT,
        belongs_to=belongs_to,
        period=piece.period,
        tariff=tariff.id,
        element=element.index,
        metered=Decimal(1),
        billed=Decimal(1),
        price=component.price,
        amount=taxed(component.price, tariff.basis, component.taxes),
        why=f"element {element.index} has a fixed price; charged once for the {WHOSE[phase]}",
    )
