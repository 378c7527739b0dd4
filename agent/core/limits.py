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
from agent.core.tariff.tariffs import Basis

if TYPE_CHECKING:
    from agent.core.sessions import Session

HOUR_MS = 3_600_000


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


def progress_of(session: Session, now: Instant, duration_ms: int) -> Progress:
    power_w = max(0, session.power_w or 0)
    since_ms = now.monotonic_ms - session.metered_ms if session.metered_ms is not None else 0
    expected = Decimal(power_w * max(0, since_ms)) / HOUR_MS
    return Progress(energy_wh=session.energy_wh + expected, power_w=power_w, duration_ms=duration_ms)


def _remaining(session: Session, progress: Progress) -> list[tuple[EndReason, Decimal]]:
    found: list[tuple[EndReason, Decimal]] = []
    if session.max_energy_wh is not None:
        _add(found, EndReason.ENERGY_LIMIT, session.max_energy_wh - progress.energy_wh, Decimal(progress.power_w))
    if session.max_duration_s is not None:
        found.append((EndReason.TIME_LIMIT, Decimal(session.max_duration_s * 1000 - progress.duration_ms)))
    if session.cost is not None:
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


def _add(found: list[tuple[EndReason, Decimal]], reason: EndReason, left: Decimal, per_hour: Decimal) -> None:
    if left <= ZERO:
        found.append((reason, ZERO))
    elif per_hour > ZERO:
        found.append((reason, left / per_hour * HOUR_MS))
