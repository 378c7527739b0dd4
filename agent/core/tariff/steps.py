"""Round a session's total up to a step, without being fooled by the precision of its input."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

NOISE = Decimal("1e-9")  # Wh or seconds; interpolation leaves 1e-40, no meter has a nano


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    metered: Decimal
    total: Decimal
    guarded: bool = False


def billed(metered: Decimal, step: int, error: Decimal) -> Billed:
    """The smallest multiple of the step that is not less; an exact multiple stays as it is.

    The text of OCPI says "greater than"; its example bills 101 to 125 Wh as 125 with a step of 25. When the excess
    over a multiple is not more than `error`, what the input may be off, that multiple is meant: 10 minutes arrive as
    0.1667 h = 600.12 s and are 600.
    """
    if step <= 0:
        return Billed(metered=metered, total=metered)
    below = (metered / step).to_integral_value(rounding=ROUND_FLOOR) * step
    excess = metered - below
    if below > 0 and excess <= max(error, NOISE):
        return Billed(metered=metered, total=below, guarded=excess > NOISE)
    return Billed(metered=metered, total=((metered - NOISE) / step).to_integral_value(rounding=ROUND_CEILING) * step)
