"""How far a network's figures may be from ours before it is a difference: each with its reason, the caller's to set."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from agent.core.tariff.rounding import exponent


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    time_s: int = 120
    """Station and device tell start and end by their own clocks; MAX_DRIFT of ours is the same."""
    energy_wh: int = 100
    energy_percent: Decimal = Decimal(1)
    """The larger of the two: registers of 0.1 kWh are usual, and both ends are read some seconds apart."""
    money_units: int = 2
    """Minor units of the currency: each side may have rounded once before and once after taxes."""
    window_s: int = 3 * 3600
    """A charge that began so much earlier or later at the same EVSE may still be the same: an hour or two is a clock
    that tells local time as UTC, and is told as a difference of time."""
    late_days: int = 30
    """A CDR made so long after the end is told as late; networks bill once a month."""

    def same_time(self, difference_s: Decimal) -> bool:
        return abs(difference_s) <= self.time_s

    def same_energy(self, ours_wh: Decimal, theirs_wh: Decimal) -> bool:
        allowed = max(Decimal(self.energy_wh), abs(ours_wh) * self.energy_percent / 100)
        return abs(theirs_wh - ours_wh) <= allowed

    def same_money(self, difference: Decimal, currency: str) -> bool:
        return abs(difference) <= self.money_units * Decimal(1).scaleb(-exponent(currency))
