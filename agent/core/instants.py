"""When something happened, and how well we know it. Reading the clocks is agent/clock.py; here they are only values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

MAX_DRIFT = timedelta(seconds=120)  # a clock corrected back by less goes on being believed (policy reference 9.1)


class ClockQuality(StrEnum):
    """How far the wall clock can be believed (promises.md, P5)."""

    SYNCHRONISED = "synchronised"
    HOLDOVER = "holdover"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One reading of all clocks, taken once an observation, with fresh randomness for the ids made from it.

    `utc` is the wall clock as read. `floor` is the newest moment that is proven to have passed; whoever judges
    an expiry asks `latest`, so that a clock set back never revives what has expired.
    """

    utc: datetime
    floor: datetime
    monotonic_ms: int
    boot: str
    quality: ClockQuality
    entropy: bytes

    @property
    def latest(self) -> datetime:
        return max(self.utc, self.floor)

    @property
    def is_set_back(self) -> bool:
        """The wall clock stands before a moment that has surely passed, by more than a correction explains."""
        return self.floor - self.utc > MAX_DRIFT

    @property
    def trusted(self) -> bool:
        return self.quality is not ClockQuality.UNKNOWN and not self.is_set_back


def time_ordered_id(now: Instant, index: int = 0) -> str:
    """UUIDv7 (RFC 9562, 5.7) of this instant; `index` tells several ids of one instant apart."""
    return seeded_id(now.utc, now.entropy, index)


def seeded_id(utc: datetime, entropy: bytes, index: int = 0) -> str:
    """The same from its parts. Made for every record, so it is written out instead of asking `uuid`."""
    milliseconds = max(0, int((utc - EPOCH).total_seconds() * 1000)) & (2**48 - 1)
    random = int.from_bytes(hashlib.sha256(entropy + index.to_bytes(4, "big")).digest()[:10], "big")
    value = (milliseconds << 80) | (random & (2**80 - 1))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
