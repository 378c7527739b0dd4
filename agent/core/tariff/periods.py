"""Mend the periods of a charge record: sorted, without repetitions, each with its end and what went before it.

Every repair is a finding. Cutting periods where a restriction changes is boundaries.py; prices are calculator.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise

from agent.core.findings import Finding, Severity
from agent.core.tariff.amounts import ZERO
from agent.core.tariff.codes import Code
from agent.core.tariff.matching import Reading
from agent.core.tariff.records import ChargeRecord, Pause, Period

HOUR_S = Decimal(3600)
HOURS_ERROR_S = Decimal("0.36")  # OCPI hours have 4 decimals; a sender that rounds up is off by 0.0001 h = 0.36 s
STAMP_ERROR_S = Decimal(1)  # time stamps are mostly whole seconds
ENERGY_ERROR_KWH = Decimal("0.001")
LONGEST = timedelta(days=400)  # a longer session is a broken document
DISTANT_PAST = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One period, or a part of it, ready to be priced. `..._error_s`: how far the stated hours may be off.

    `energy_before_kwh` and `elapsed_before_s` count from the start of the charge; from that of the reservation
    in a period that only reserves.
    """

    period: int
    start: datetime | None
    end: datetime | None
    energy_kwh: Decimal
    time_s: Decimal
    parking_s: Decimal
    reservation_s: Decimal
    time_error_s: Decimal = ZERO
    parking_error_s: Decimal = ZERO
    reservation_error_s: Decimal = ZERO
    energy_before_kwh: Decimal = ZERO
    elapsed_before_s: Decimal = ZERO
    power_kw: Reading | None = None
    average_power_kw: Decimal | None = None
    current_a: Reading | None = None
    tariff_id: str | None = None
    pause: Pause = Pause.UNKNOWN

    @property
    def is_charge(self) -> bool:
        """False for a period that only reserved."""
        used = self.energy_kwh > 0 or self.time_s > 0 or self.parking_s > 0
        return used or self.reservation_s == 0


def mend(record: ChargeRecord) -> tuple[tuple[Slice, ...], tuple[Finding, ...]]:
    """The record's periods as slices in the order of time, whatever their order in the document."""
    findings: list[Finding] = []
    periods = list(record.periods) or list(_from_totals(record, findings))
    periods = _without_negatives(_without_repetitions(_sorted(periods, record, findings), findings), findings)
    slices = _with_history([_slice(*bounded) for bounded in _bounded(periods, record, findings)])
    findings += _against_totals(slices, record)
    return slices, tuple(findings)


def at(period: int) -> str:
    return f"$.charging_periods[{period}]"


def _from_totals(record: ChargeRecord, findings: list[Finding]) -> Iterator[Period]:
    parking = record.total_parking_h or ZERO
    text = "There are no periods; one is made from the record's totals, so changes of price within it are unseen"
    findings.append(Finding(code=Code.PERIODS_MISSING, path="$.charging_periods", severity=Severity.ERROR, text=text))
    if record.total_energy_kwh is None and record.total_time_h is None:
        return
    time_h = max(ZERO, (record.total_time_h or ZERO) - parking)
    yield Period(start=record.start, energy_kwh=record.total_energy_kwh or ZERO, time_h=time_h, parking_h=parking)


def _sorted(periods: list[Period], record: ChargeRecord, findings: list[Finding]) -> list[Period]:
    """By start, then by what happened: a reservation, then charging, then parking; never by place in the document."""
    for period in periods:
        if period.start is None and len(periods) > 1:
            text = "The start of this period is unknown; it is taken as the start of the session"
            findings.append(
                Finding(code=Code.TIME_UNKNOWN, path=at(period.index), severity=Severity.WARNING, text=text)
            )
    placed = [replace(period, start=period.start or record.start) for period in periods]
    ordered = sorted(placed, key=_place)
    if any(before.index > after.index for before, after in pairwise(ordered)):
        text = "The periods are not in the order of time; they were sorted"
        findings.append(
            Finding(code=Code.PERIODS_UNSORTED, path="$.charging_periods", severity=Severity.WARNING, text=text)
        )
    return ordered


def _place(period: Period) -> tuple[datetime, int, tuple[Decimal, ...], str]:
    volumes = (period.reservation_h, period.energy_kwh, period.time_h, period.parking_h)
    rank = 0 if period.reservation_h > 0 else 1 if period.energy_kwh > 0 or period.time_h > 0 else 2
    rest = repr(replace(period, start=None, index=0))
    return period.start or DISTANT_PAST, rank, volumes, rest


def _without_repetitions(periods: list[Period], findings: list[Finding]) -> list[Period]:
    """A period that stands twice with the same start and the same volumes was sent twice, not charged twice."""
    kept: list[Period] = []
    for period in periods:
        if kept and period.start is not None and replace(period, index=kept[-1].index) == kept[-1]:
            text = f"The same period as {at(kept[-1].index)}; counted once"
            findings.append(
                Finding(code=Code.PERIOD_REPEATED, path=at(period.index), severity=Severity.WARNING, text=text)
            )
        else:
            kept.append(period)
    return kept


def _without_negatives(periods: list[Period], findings: list[Finding]) -> list[Period]:
    mended: list[Period] = []
    for period in periods:
        negative = [
            name for name in ("energy_kwh", "time_h", "parking_h", "reservation_h") if getattr(period, name) < 0
        ]
        for name in negative:
            text = f"{name} is {getattr(period, name)}: energy fed back and time cannot be priced; taken as 0"
            findings.append(
                Finding(code=Code.NEGATIVE_VOLUME, path=at(period.index), severity=Severity.ERROR, text=text)
            )
        mended.append(
            replace(
                period,
                energy_kwh=max(ZERO, period.energy_kwh),
                time_h=max(ZERO, period.time_h),
                parking_h=max(ZERO, period.parking_h),
                reservation_h=max(ZERO, period.reservation_h),
            )
        )
    return mended


def _bounded(
    periods: list[Period], record: ChargeRecord, findings: list[Finding]
) -> Iterator[tuple[Period, datetime | None, datetime | None]]:
    """Each period with its start and end inside the session. OCPI has no end of a period but the next one's start."""
    end = record.end
    if record.start is not None and end is not None and end < record.start:
        text = "The session ends before it starts; the end is taken as unknown"
        findings.append(
            Finding(code=Code.SESSION_ENDS_BEFORE_START, path="$.end_date_time", severity=Severity.ERROR, text=text)
        )
        end = None
    for period, following in zip(periods, [*periods[1:], None], strict=False):
        start, outside = period.start, False
        if start is not None and record.start is not None and start < record.start:
            start, outside = record.start, True
        if start is not None and end is not None and start > end:
            start, outside = end, True
        if outside:
            text = f"The period starts at {period.start}, outside of the session; taken as {start}"
            findings.append(
                Finding(code=Code.PERIOD_OUTSIDE_SESSION, path=at(period.index), severity=Severity.WARNING, text=text)
            )
        stop = end if following is None else following.start
        hours = period.time_h + period.parking_h + period.reservation_h
        if stop is None and start is not None and hours > 0:
            stop = start + _timedelta(hours * HOUR_S)
        if start is not None and stop is not None:
            stop = max(start, stop)
            findings += _against_stamps(period, start, stop, is_last=following is None)
        yield period, start, stop


def _against_stamps(period: Period, start: datetime, stop: datetime, *, is_last: bool) -> Iterator[Finding]:
    """The volume is what is billed; the time stamps only tell whether it can be true."""
    stated_s = (period.time_h + period.parking_h + period.reservation_h) * HOUR_S
    stamped_s = _seconds(stop - start)
    if stated_s == 0 or abs(stated_s - stamped_s) <= STAMP_ERROR_S + HOURS_ERROR_S:
        return
    text = f"Its times add up to {_short(stated_s)} s, its time stamps to {_short(stamped_s)} s; the former is billed"
    overlap = stated_s > stamped_s and not is_last
    code = Code.PERIODS_OVERLAP if overlap else Code.TIME_DIFFERS_FROM_STAMPS
    yield Finding(code=code, path=at(period.index), severity=Severity.WARNING, text=text)


def _slice(period: Period, start: datetime | None, end: datetime | None) -> Slice:
    time_s, parking_s = period.time_h * HOUR_S, period.parking_h * HOUR_S
    stamped_s = ZERO if start is None or end is None else _seconds(end - start)
    hours = (time_s or stamped_s) / HOUR_S
    return Slice(
        period=period.index,
        start=start,
        end=end,
        energy_kwh=period.energy_kwh,
        time_s=time_s,
        parking_s=parking_s,
        reservation_s=period.reservation_h * HOUR_S,
        time_error_s=hours_error_s(period.time_h),
        parking_error_s=hours_error_s(period.parking_h),
        reservation_error_s=hours_error_s(period.reservation_h),
        power_kw=_reading(period.min_power_kw, period.power_kw, period.max_power_kw),
        average_power_kw=period.energy_kwh / hours if hours > 0 else None,
        current_a=_reading(period.min_current_a, period.current_a, period.max_current_a),
        tariff_id=period.tariff_id,
        pause=period.pause,
    )


def hours_error_s(hours: Decimal) -> Decimal:
    """How many seconds a stated number of hours may be off: nothing when it is a whole number of seconds."""
    seconds = hours * HOUR_S
    if seconds == seconds.to_integral_value(rounding=ROUND_HALF_EVEN):
        return ZERO
    exponent = hours.normalize().as_tuple().exponent
    decimals = -exponent if isinstance(exponent, int) else 0
    return min(HOURS_ERROR_S, HOUR_S.scaleb(-decimals)) if decimals > 4 else HOURS_ERROR_S


def _reading(trough: Decimal | None, average: Decimal | None, peak: Decimal | None) -> Reading | None:
    known = [value for value in (trough, average, peak) if value is not None]
    if not known:
        return None
    return Reading(trough=known[0], peak=known[-1])


def _with_history(slices: list[Slice]) -> tuple[Slice, ...]:
    charged_at = next((one.start for one in slices if one.is_charge), None)
    reserved_at = next((one.start for one in slices if not one.is_charge), None)
    energy_kwh, time_s = ZERO, ZERO
    placed: list[Slice] = []
    for one in slices:
        began = charged_at if one.is_charge else reserved_at
        elapsed = time_s if one.start is None or began is None else max(ZERO, _seconds(one.start - began))
        placed.append(replace(one, energy_before_kwh=energy_kwh, elapsed_before_s=elapsed))
        energy_kwh += one.energy_kwh
        time_s += one.time_s + one.parking_s
    return tuple(placed)


def _against_totals(slices: tuple[Slice, ...], record: ChargeRecord) -> Iterator[Finding]:
    energy_kwh = sum((one.energy_kwh for one in slices), ZERO)
    parking_h = sum((one.parking_s for one in slices), ZERO) / HOUR_S
    time_h = sum((one.time_s for one in slices), ZERO) / HOUR_S + parking_h
    error_h = HOURS_ERROR_S * (len(slices) + 1) / HOUR_S + STAMP_ERROR_S / HOUR_S
    reservation_h = sum((one.reservation_s for one in slices), ZERO) / HOUR_S
    for name, stated, summed, error, besides in (
        ("total_energy", record.total_energy_kwh, energy_kwh, ENERGY_ERROR_KWH, ZERO),
        ("total_time", record.total_time_h, time_h, error_h, reservation_h),  # with or without it: OCPI does not say
        ("total_parking_time", record.total_parking_h, parking_h, error_h, ZERO),
    ):
        if stated is None or abs(stated - summed) <= error or abs(stated - summed - besides) <= error:
            continue
        text = f"{name} is {_short(stated)}, the periods add up to {_short(summed)}; the periods are billed"
        yield Finding(code=Code.TOTAL_DIFFERS_FROM_PERIODS, path=f"$.{name}", severity=Severity.WARNING, text=text)


def _seconds(span: timedelta) -> Decimal:
    return Decimal(span // timedelta(microseconds=1)) / 1_000_000


def _timedelta(seconds: Decimal) -> timedelta:
    return min(LONGEST, timedelta(microseconds=int(min(seconds, Decimal(10**9)) * 1_000_000)))


def _short(value: Decimal) -> str:
    return format(round(value, 4).normalize(), "f")
