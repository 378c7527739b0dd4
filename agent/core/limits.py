"""What a session may not exceed, whether it has got there, and how long it takes to at the present power.

Between two samples of the meter the session is taken to go on at its last power: it is stopped at its limit, and rather
a little before than after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from agent.core.facts import EndReason
from agent.core.instants import Instant
from agent.core.prices import HOUR_S, KWH, ZERO, CostLimit, running
from agent.core.running_cost import Bill, cap_of
from agent.core.tariff.tariffs import Basis

if TYPE_CHECKING:
    from agent.core.sessions import Session

HOUR_MS = 3_600_000
UNKNOWN_POWER_W = 350_000  # what the largest public chargers of today deliver


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a granted session may not exceed; None is no limit of the fleet's own."""

    max_energy_wh: int | None = None
    max_duration_s: int | None = None
    target_soc_percent: int | None = None
    cost: CostLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a session has come by now, as far as can be told."""

    energy_wh: Decimal
    power_w: int
    duration_ms: int


def reached(session: Session, progress: Progress) -> EndReason | None:
    """The limit at which the session is, if it is at one."""
    for reason, remaining_ms in _remaining(session, progress):
        if remaining_ms <= 0:
            return reason
    return None


def remaining_ms(session: Session, progress: Progress) -> int | None:
    """Until the first limit is reached at this power; None when none will be."""
    waits = [wait for _, wait in _remaining(session, progress)]
    return int(min(waits).to_integral_value(rounding=ROUND_CEILING)) if waits else None


def near_its_cost(session: Session, now: Instant, duration_ms: int, within_ms: int) -> bool:
    """Within this time the session may have cost what it may, by its tariff."""
    if session.exposure is None:
        return False
    remaining = _remaining(session, progress_of(session, now, duration_ms))
    waits = [wait_ms for reason, wait_ms in remaining if reason is EndReason.COST_LIMIT]
    return bool(waits) and min(waits) <= within_ms


def progress_of(session: Session, now: Instant, duration_ms: int) -> Progress:
    power_w = max(0, _mean_w(session, duration_ms) if session.power_w is None else session.power_w)
    if session.reserved and session.power_w != 0:
        # What was reserved must never be passed: until the next reading it may be as much as the charger is rated for.
        # A charger that does not tell its power is not one that pauses.
        unknown_w = UNKNOWN_POWER_W if session.power_w is None else 0
        power_w = max(power_w, unknown_w if session.place.power_w is None else session.place.power_w)
    since_ms = now.monotonic_ms - session.metered_ms if session.metered_ms is not None else 0
    expected = Decimal(power_w * max(0, since_ms)) / HOUR_MS
    return Progress(energy_wh=session.energy_wh + expected, power_w=power_w, duration_ms=duration_ms)


def _mean_w(session: Session, duration_ms: int) -> int:
    """Of a charger that does not tell its power."""
    mean_w = session.energy_wh * HOUR_MS // duration_ms if duration_ms > 0 else 0
    return mean_w if session.place.power_w is None else min(mean_w, session.place.power_w)


def _remaining(session: Session, progress: Progress) -> list[tuple[EndReason, Decimal]]:
    found: list[tuple[EndReason, Decimal]] = []
    if session.max_energy_wh is not None:
        _add(found, EndReason.ENERGY_LIMIT, session.max_energy_wh - progress.energy_wh, Decimal(progress.power_w))
    if session.max_duration_s is not None:
        found.append((EndReason.TIME_LIMIT, Decimal(session.max_duration_s * 1000 - progress.duration_ms)))
    bill = session.bill if session.exposure is not None else None
    if bill is not None:
        _add_tariff(found, session, bill, progress)
    elif session.cost is not None:
        for basis, cap in ((Basis.NET, session.cost.net), (Basis.GROSS, session.cost.gross)):
            rates = running(session.cost, basis)
            if cap is None or rates is None:
                continue
            fixed, per_kwh, per_hour = rates
            if per_kwh == ZERO and per_hour == ZERO:
                continue  # what it costs, it costs at once: the rules have judged that
            spent = fixed + per_kwh * progress.energy_wh / KWH + per_hour * progress.duration_ms / 1000 / HOUR_S
            _add(found, EndReason.COST_LIMIT, cap - spent, per_kwh * progress.power_w / KWH + per_hour)
    return found


def _add_tariff(found: list[tuple[EndReason, Decimal]], session: Session, bill: Bill, progress: Progress) -> None:
    """By the tariff: what its recorded readings cost at most, and since then the highest prices that may apply."""
    cap, exposure = session.cost, session.exposure
    if cap is None or exposure is None:
        return
    since_kwh = max(ZERO, progress.energy_wh - session.tally.energy_wh) / KWH
    since_h = Decimal(max(0, progress.duration_ms - session.tally.duration_ms)) / HOUR_MS
    bare, held, most = exposure.spent_by(since_kwh, since_h), exposure.held_by(bill, since_kwh, since_h), cap_of(bill)
    rate = exposure.rate_at(Decimal(progress.power_w) / KWH)
    for basis, limit in ((Basis.NET, cap.net), (Basis.GROSS, cap.gross)):
        spent, per_hour, bound = bare.on(basis), rate.on(basis), held.on(basis)
        if limit is None or bound is None or exposure.is_fixed(basis):
            continue  # what it costs at once, and no more, the rules have judged
        if bound >= limit:
            found.append((EndReason.COST_LIMIT, ZERO))
        elif spent is not None and per_hour is not None and not is_below(most.on(basis), limit):
            _add(found, EndReason.COST_LIMIT, limit - spent, per_hour)


def is_below(most: Decimal | None, limit: Decimal) -> bool:
    """The tariff's own maximum price comes first."""
    return most is not None and most < limit


def _add(found: list[tuple[EndReason, Decimal]], reason: EndReason, left: Decimal, per_hour: Decimal) -> None:
    if left <= ZERO:
        found.append((reason, ZERO))
    elif per_hour > ZERO:
        found.append((reason, left / per_hour * HOUR_MS))
