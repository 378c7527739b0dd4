"""A charging station as arithmetic: what the simulated chargers do with a cable, a car, commands and time.

Pure: nothing waits here and no clock is read. Its two voices, on a pseudo-terminal and in process, are simulated.py.
"""

from __future__ import annotations

from drivers.chargers.charger import ChargerState, StopReason
from drivers.chargers.line_codec import (
    Command,
    Fault,
    Meter,
    Plugged,
    Query,
    Refused,
    Report,
    Start,
    Started,
    Status,
    Stop,
    Stopped,
    Unplugged,
)

WATT_MILLISECONDS_PER_WH = 3_600_000


class Station:
    """Energy is counted in watt-milliseconds, exactly: many small steps add up to the same as one large one."""

    def __init__(self, *, power_w: int = 11_000, meter_wh: int = 0) -> None:
        self.power_w = power_w
        self._register_wms = meter_wh * WATT_MILLISECONDS_PER_WH
        self._plugged = False
        self._fault: str | None = None
        self._demand_wms: int | None = None
        self._session: str | None = None
        self._started_at_wh = 0
        self._allowance_wms: int | None = None

    @property
    def state(self) -> ChargerState:
        if self._fault is not None:
            return ChargerState.FAULTED
        if self._session is not None:
            return ChargerState.CHARGING
        return ChargerState.PLUGGED if self._plugged else ChargerState.AVAILABLE

    @property
    def session(self) -> str | None:
        return self._session

    @property
    def meter_wh(self) -> int:
        return self._register_wms // WATT_MILLISECONDS_PER_WH

    def plug_in(self, demand_wh: int | None = None) -> tuple[Report, ...]:
        """A car comes that wants so much energy; None for one that is never full."""
        if self._plugged:
            return ()
        self._plugged = True
        self._demand_wms = None if demand_wh is None else demand_wh * WATT_MILLISECONDS_PER_WH
        return (Plugged(),)

    def unplug(self) -> tuple[Report, ...]:
        if not self._plugged:
            return ()
        stopped = self._end(StopReason.EV_DISCONNECTED)
        self._plugged = False
        return (*stopped, Unplugged())

    def obey(self, command: Command) -> tuple[Report, ...]:
        match command:
            case Start():
                return self._start(command)
            case Stop() if command.session == self._session:
                return self._end(StopReason.LOCAL)
            case Stop():
                return (Stopped(session=command.session, meter_wh=self.meter_wh, reason=StopReason.LOCAL),)
            case Query():
                return (self.status(),)

    def advance(self, elapsed_ms: int) -> tuple[Report, ...]:
        """Time passes; energy flows while charging, never more than the car wants or the session may have."""
        if self._session is None:
            return ()
        flowed_wms = self.power_w * elapsed_ms
        reason: StopReason | None = None
        if self._allowance_wms is not None and flowed_wms >= self._allowance_wms:
            flowed_wms, reason = self._allowance_wms, StopReason.ENERGY_LIMIT
        if self._demand_wms is not None and flowed_wms >= self._demand_wms:
            flowed_wms, reason = self._demand_wms, StopReason.STOPPED_BY_EV
        self._register_wms += flowed_wms
        if self._allowance_wms is not None:
            self._allowance_wms -= flowed_wms
        if self._demand_wms is not None:
            self._demand_wms -= flowed_wms
        return () if reason is None else self._end(reason)

    def reading(self) -> tuple[Report, ...]:
        """What the meter says in mid-session; nothing when no energy flows."""
        if self._session is None:
            return ()
        return (Meter(session=self._session, meter_wh=self.meter_wh, power_w=self.power_w),)

    def status(self) -> Status:
        return Status(state=self.state, session=self._session, meter_wh=self.meter_wh)

    def fail(self, code: str) -> tuple[Report, ...]:
        stopped = self._end(StopReason.OTHER)
        self._fault = code
        return (*stopped, Fault(code=code))

    def repair(self) -> tuple[Report, ...]:
        self._fault = None
        return (self.status(),)

    def lose_power(self) -> None:
        """The session is forgotten, the register is not; nobody is told."""
        self._session = None
        self._fault = None

    def _start(self, command: Start) -> tuple[Report, ...]:
        if self._session == command.session:
            return (Started(session=self._session, meter_wh=self._started_at_wh),)
        refusal = self._refusal()
        if refusal is not None:
            return (Refused(session=command.session, reason=refusal),)
        self._session = command.session
        self._started_at_wh = self.meter_wh
        most_wh = command.max_energy_wh
        # Counted from the reading, not from the register: the two readings then differ by the limit exactly.
        beyond_reading_wms = self._register_wms % WATT_MILLISECONDS_PER_WH
        self._allowance_wms = (
            None if most_wh is None else max(0, most_wh * WATT_MILLISECONDS_PER_WH - beyond_reading_wms)
        )
        return (Started(session=self._session, meter_wh=self._started_at_wh),)

    def _refusal(self) -> str | None:
        if self._fault is not None:
            return "faulted"
        if self._session is not None:
            return "occupied"
        return None if self._plugged else "unplugged"

    def _end(self, reason: StopReason) -> tuple[Report, ...]:
        if self._session is None:
            return ()
        session, self._session = self._session, None
        return (Stopped(session=session, meter_wh=self.meter_wh, reason=reason),)
