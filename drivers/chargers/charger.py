"""What a charger is to the rest of the house: what it reports, and the few things it can be asked.

Here are values and the Protocol only. The chargers themselves are line.py (serial line protocol), api.py (the gateway's
own software) and simulated.py. What a report means for a session is decided in agent/core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class ChargerState(StrEnum):
    """What a charger is doing now, as it says itself."""

    AVAILABLE = "available"
    PLUGGED = "plugged"
    CHARGING = "charging"
    FAULTED = "faulted"


class StopReason(StrEnum):
    """Why energy stopped, in the words of OCPP 2.0.1 ReasonEnumType. Chargers may say others."""

    LOCAL = "Local"
    EV_DISCONNECTED = "EVDisconnected"
    ENERGY_LIMIT = "EnergyLimitReached"
    STOPPED_BY_EV = "StoppedByEV"
    POWER_LOSS = "PowerLoss"
    OTHER = "Other"


# `meter_wh` is always the charger's own energy register: it only grows, over all sessions and power losses.
# A session's energy is the difference of two readings, taken in agent/core.


@dataclass(frozen=True, slots=True, kw_only=True)
class PluggedIn:
    """`evse`: which charging point this is, where the link to it says so."""

    charger: str
    monotonic_ms: int
    evse: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplugged:
    charger: str
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingStarted:
    charger: str
    session: str | None
    meter_wh: int
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    charger: str
    session: str | None
    meter_wh: int
    power_w: int | None
    monotonic_ms: int
    soc_percent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargingStopped:
    charger: str
    session: str | None
    meter_wh: int | None
    reason: str
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSigned:
    """A signed record of the meter, such as OCMF, exactly as it came; often only after the charge has ended.

    `public_key` is what the charger says of its own key.
    """

    charger: str
    session: str | None
    document: bytes = field(repr=False)
    format: str
    public_key: str | None
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    charger: str
    code: str
    monotonic_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerFound:
    """The link stands (again), or the charger was asked: what it is doing now. `session` only while charging."""

    charger: str
    state: str
    session: str | None
    meter_wh: int | None
    monotonic_ms: int
    evse: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargerLost:
    """Nothing is heard from the charger. It may well go on charging; ChargerFound will tell."""

    charger: str
    cause: str
    hint: str
    monotonic_ms: int


ChargerEvent = (
    PluggedIn
    | Unplugged
    | ChargingStarted
    | Metered
    | ChargingStopped
    | MeterSigned
    | Faulted
    | ChargerFound
    | ChargerLost
)
Emit = Callable[[ChargerEvent], None]


class ChargerUnavailable(Exception):
    """The charger did not do what it was asked, as far as we can tell: gone, mute, or unwilling."""

    def __init__(self, charger: str, what: str, *, hint: str) -> None:
        super().__init__(f"charger {charger}: {what}; {hint}")
        self.charger = charger
        self.what = what
        self.hint = hint


class Charger(Protocol):
    name: str

    async def run(self, emit: Emit) -> None:
        """For ever, until cancelled (at most 1 s). Trouble with the device is an event and never an exception."""

    async def start(self, session: str, max_energy_wh: int | None) -> None:
        """Returns when the charger has confirmed. Asking again for the session that runs is harmless.

        Raises ChargerUnavailable after a bounded time; the charger may have started all the same, and will say so.
        """

    async def stop(self, session: str) -> None:
        """Returns when the charger has confirmed that this session no longer runs. Raises ChargerUnavailable."""

    async def query(self) -> None:
        """Asks for a ChargerFound. Raises ChargerUnavailable when nobody can be asked."""


def monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
