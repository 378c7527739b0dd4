"""What a receiver of positions is to the rest of the house: it reports where the device is, as far as it knows.

Here are values and the Protocol only; gpsd.py speaks to a gpsd, simulated.py is told by a test. Whether a position is
good enough, and what it means, is decided in agent/core.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A position on WGS 84, measured at `monotonic_ms`. `accuracy_m` None: nobody knows how good it is."""

    latitude_udeg: int
    longitude_udeg: int
    accuracy_m: int | None
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """The receiver works and does not know where it is, as in a garage. Told once, until it knows again."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverFound:
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverLost:
    """Nothing is heard of it; it is tried again. The only failure that is told."""

    cause: str
    hint: str


ReceiverEvent = Measured | Unmeasured | ReceiverFound | ReceiverLost
Emit = Callable[[ReceiverEvent], None]


class Receiver(Protocol):
    async def run(self, emit: Emit) -> None:
        """For ever, until cancelled (at most 1 s). Trouble with the receiver is an event and never an exception."""
