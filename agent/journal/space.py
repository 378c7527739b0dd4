"""How much room the journal has: its own bound or the free disk, whichever is nearer, and what that means.

The levels are steps of one sacrifice: from `filling` on somebody should look, at `scarce` meter samples are thinned
out, at `tight` new sessions are refused so that the ends of the running ones still fit. Acknowledged records are given
up long before (RELIEVE_ABOVE), so retention alone never warns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_BYTES: Final = 256 * 1024 * 1024
# The part of the bound that only ends of sessions may use.
RESERVE: Final = 0.05
# Acknowledged records are pruned, however young, while more than this is used.
RELIEVE_ABOVE: Final = 0.60
# What of the room copies of quarantined records may keep then.
KEPT_COPIES: Final = 0.05
# A level is left again only this far below where it began: no news of every record at its edge.
HYSTERESIS: Final = 0.03


class Level(StrEnum):
    OK = "ok"
    FILLING = "filling"
    SCARCE = "scarce"
    TIGHT = "tight"


BEGINS: Final = {Level.FILLING: 0.70, Level.SCARCE: 0.85, Level.TIGHT: 0.95}


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """`room_bytes` is all that records may ever take as things are; `no_reserve`: ballast and spare pages are gone."""

    used_bytes: int
    room_bytes: int
    no_reserve: bool

    @property
    def fraction(self) -> float:
        return min(1.0, self.used_bytes / self.room_bytes) if self.room_bytes > 0 else 1.0

    @property
    def in_words(self) -> str:
        return f"{self.fraction:.0%} of {self.room_bytes // 1024} KiB used"


def level_of(space: Space, before: Level = Level.OK) -> Level:
    if space.no_reserve:
        return Level.TIGHT
    level = Level.OK
    for each, begins in BEGINS.items():
        if space.fraction >= begins - (HYSTERESIS if _is_at_least(before, each) else 0):
            level = each
    return level


def _is_at_least(level: Level, other: Level) -> bool:
    order = list(Level)
    return order.index(level) >= order.index(other)
