"""What OCPI leaves open and somebody has to decide before a price can be worked out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from agent.core.tariff.matching import Matching
from agent.core.tariff.rounding import Rounding


class Parking(StrEnum):
    """What PARKING_TIME means: since 2026 the vehicle not requesting power, before that any time not charging."""

    NOT_REQUESTING = "not-requesting"
    NOT_CHARGING = "not-charging"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything that OCPI leaves open, declared by the caller."""

    matching: Matching = field(default_factory=Matching)
    rounding: Rounding = field(default_factory=Rounding)
    parking: Parking = Parking.NOT_REQUESTING
    split: bool = False
