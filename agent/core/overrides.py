"""One-time overrides: a dispatcher lets one card charge once, at this device, although some rules say no.

An override is signed (sync/live.py) or comes from a break-glass code (break_glass.py). Which rules can be outweighed
is declared with each rule; what never can is here. How it is used up is tapping.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from agent.core.instants import MAX_DRIFT, Instant
from agent.core.prices import ZERO, Prices
from agent.core.reasons import Reason, ReasonCode

LONGEST = timedelta(hours=24)
EVERYTHING = "*"  # every rule that can be waived
# Whoever is blocked, withdrawn or nobody stays so; a person's word replaces no proof, no room and no charger.
NEVER_WAIVED = frozenset(
    {
        ReasonCode.REVOKED,
        ReasonCode.TOKEN_BLOCKED,
        ReasonCode.TOKEN_UNKNOWN,
        ReasonCode.TOKEN_RANDOM_UID,
        ReasonCode.TOKEN_AMBIGUOUS,
        ReasonCode.CARD_NOT_GENUINE,
        ReasonCode.CARD_TORN,
        ReasonCode.PHONE,
        ReasonCode.NO_POLICY,
        ReasonCode.CACHE_UNREADABLE,
        ReasonCode.CLOCK_UNTRUSTED,
        ReasonCode.SEVERAL_CARDS,
        ReasonCode.STORAGE_FULL,
        ReasonCode.EVSE_OCCUPIED,
        ReasonCode.EVSE_UNAVAILABLE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MostCost:
    """What the one session may cost, with taxes."""

    currency: str
    gross: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """For one token at this device, until it is used or `not_after`. `jws` is its proof; empty for break-glass.

    `counted`: a code with a counter, which needs no clock to be good only once.
    """

    id: str
    token: str
    waives: frozenset[str]
    why: str
    by: str
    issued: datetime
    not_after: datetime
    max_energy_wh: int | None = None
    max_duration_s: int | None = None
    max_cost: MostCost | None = None
    boot: str = ""
    received_ms: int = 0
    jws: str = field(default="", repr=False)
    counted: bool = False


def unfit(
    override: Override,
    refusals: Iterable[Reason],
    waivable: frozenset[str],
    prices: Prices | None,
    metered: bool,
    known_since: datetime | None,
    now: Instant,
    *,
    most_energy_wh: int | None = None,
    most_hours: int | None = None,
) -> str:
    """Why it cannot be used for these refusals now; empty when it can."""
    if late := _too_late(override, known_since, now):
        return late
    if override.max_energy_wh is None and override.max_duration_s is None and override.max_cost is None:
        return "it has no limit"
    if not override.counted and _above(override, most_energy_wh, most_hours):
        return "it is above the ceiling that the fleet's root has signed"
    if override.max_energy_wh is not None and override.max_duration_s is None and not metered:
        return "its energy cannot be counted here"
    if override.max_cost is not None and not _counts(
        prices, override.max_cost, now, by_energy=metered or override.max_duration_s is not None
    ):
        return "its cost cannot be counted here"
    for refusal in refusals:
        if refusal.code in NEVER_WAIVED or refusal.rule not in waivable:
            return f"{refusal.code} cannot be waived"
        if not override.waives & {refusal.rule, EVERYTHING}:
            return f"it does not waive {refusal.rule}"
    return ""


def _above(override: Override, most_energy_wh: int | None, most_hours: int | None) -> bool:
    """A stolen service key gives no more than this. Break-glass codes are cut down to it instead (decisions.py)."""
    if most_energy_wh is not None and (override.max_energy_wh is None or override.max_energy_wh > most_energy_wh):
        return True
    return most_hours is not None and override.not_after - override.issued > timedelta(hours=most_hours)


def is_over(override: Override, now: Instant) -> bool:
    """Expired by any clock: it will never be good again."""
    span = override.not_after - override.issued
    waited = timedelta(milliseconds=now.monotonic_ms - override.received_ms)
    return now.latest >= override.not_after or (now.boot == override.boot and waited >= span)


def _too_late(override: Override, known_since: datetime | None, now: Instant) -> str:
    if override.counted:
        return ""
    if not now.trusted:
        return "the clock is not proven"
    if override.not_after - override.issued > LONGEST:
        return f"it is valid for more than {LONGEST.total_seconds() / 3600:.0f} h"
    if is_over(override, now):
        return "it has expired"
    if override.issued > now.latest + MAX_DRIFT:
        return "it was issued in the future"
    if known_since is not None and override.issued <= known_since:
        return "the log was lost since, it may have been used"
    return ""


def _counts(prices: Prices | None, most: MostCost, now: Instant, *, by_energy: bool) -> bool:
    """What runs by the kWh is counted by a meter; without one some other limit must end it."""
    if prices is None or prices.currency != most.currency:
        return False
    if prices.until is not None and now.latest >= prices.until:
        return False
    if not by_energy and prices.per_kwh.gross != ZERO:
        return False
    return all(each.gross is not None for each in (prices.per_kwh, prices.per_hour, prices.fixed))
